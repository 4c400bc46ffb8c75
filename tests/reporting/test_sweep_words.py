from report_pages import read_page

from lab.reporting.report import write_report
from lab.reporting.results import read_tree
from lab.reporting.sweep import words
from lab.reporting.sweep.findings import analyse


def analysed(tree):
    return analyse(read_tree(tree.path))


def test_the_headline_counts_each_group_and_names_its_clearest_arms(fake_sweep):
    assert words.headline(analysed(fake_sweep())) == (
        "By test NLL at the best stop (nats/token, [95 % interval]): against ar, 2 of 4 arms do better "
        "(ar_mask30 most, by 0.200 [0.175 to 0.225]), 1 does worse (ar_mask90, by 0.400 [0.375 to 0.425]) "
        "and 1 is undecided; dlm_passes2 is better than dlm by 0.100 [0.075 to 0.125]; what is said of dlm "
        "and dlm_passes2, still improving when their runs ended, holds within this run length."
    )


def test_without_an_arm_that_was_still_improving_no_verdict_is_limited(fake_sweep):
    tree = fake_sweep(arms=("ar", "ar_mask30"), contrasts={"ar_mask30": "ar"})
    sweep = analysed(tree)
    assert "improving" not in words.headline(sweep) + words.found(sweep.levels[0], "ar")
    page = read_page(write_report(tree.path))
    assert "within this run length" not in page.text
    assert "last stop;" not in page.text


def test_the_tables_mark_arms_that_were_still_improving(fake_sweep):
    contrasts, arms, *_ = read_page(write_report(fake_sweep().path)).tables
    marked = [row[0] for row in arms if "last stop; 3 of 3 seeds" in " ".join(row)]
    assert marked == ["dlm", "dlm_passes2"]
    within = {row[0]: [place for place, cell in enumerate(row) if "within this" in cell] for row in contrasts}
    # The column of the best stop only; at the end every arm is at its end.
    assert {arm for arm, places in within.items() if places} == {"dlm", "dlm_passes2"}
    assert within["dlm"] == [4]


def test_many_pairs_of_a_level_are_told_together_after_the_first(fake_sweep):
    def told(gains, **values):
        arms = tuple(f"{arm}_{n}" for n in range(len(gains)) for arm in ("ar", "dlm"))
        contrasts = {f"dlm_{n}": f"ar_{n}" for n in range(len(gains))}
        named = {f"dlm_{n}": gain for n, gain in enumerate(gains)}
        tree = fake_sweep(arms=arms, contrasts=contrasts, gains=named, **values)
        said, within = words.headline(analysed(tree)).split("; what is said of ")
        assert within.endswith(" arms, still improving when their runs ended, holds within this run length.")
        return said.removeprefix("By test NLL at the best stop (nats/token, [95 % interval]): ") + "."

    many = (0.1, 0.2, -0.3, 0.0, 0.15)
    assert told(many) == (
        "dlm_0 is better than ar_0 by 0.100 [0.075 to 0.125]; 2 of 4 other arms, each against its own, do "
        "better (dlm_1 most, by 0.200 [0.175 to 0.225]), 1 does worse (dlm_2, by 0.300 [0.275 to 0.325]) and "
        "1 is undecided."
    )
    few = told(many[:4])
    assert few.count(";") == 3
    assert few.endswith("dlm_3 against ar_3 is undecided at +0.000 [−0.025 to +0.025].")
    first, together, *rest = told(many, budgets=(20_000, 80_000)).split("; ")
    assert (first.endswith(" at unique_tokens=20000"), len(rest)) == (True, 2)
    assert together.endswith("and 1 is undecided at unique_tokens=20000")
    assert rest[1].endswith("and 1 is undecided at unique_tokens=80000.")


def test_the_headline_tells_what_is_provisional_and_what_is_not_compared(fake_sweep):
    tree = fake_sweep(seeds=(0, 1))
    assert "2 of 4 arms do better provisionally (ar_mask30 most, by" in words.headline(analysed(tree))
    for seed in tree.seeds:
        tree.fail("dlm", 20_000, seed, "out of memory")
    assert words.headline(analysed(tree)).endswith(
        "1 is undecided and 1 is not compared; "
        "dlm_passes2 is not compared with dlm, as no seed was finished by both."
    )
    gains = {"ar_mask10": 0.1, "ar_mask30": 2.0, "ar_mask90": -0.4, "dlm_passes2": 0.1}
    mixed = words.headline(analysed(fake_sweep(gain_shift=(-0.03, 0.0, 0.03), gains=gains)))
    assert "2 of 4 arms do better (ar_mask30 most, by 2.000 [" in mixed
    assert "]), 1 does better provisionally (ar_mask10, by 0.100 [" in mixed


def test_a_group_is_told_in_one_sentence_under_its_verdicts(fake_sweep):
    tree = fake_sweep()
    (level,) = analysed(tree).levels
    assert words.found(level, "ar") == (
        "Against ar, by test NLL at the best stop (nats/token, [95 % interval] over 3 seeds): "
        "better: ar_mask30 by 0.200 [0.175 to 0.225] and dlm by 0.180 [0.105 to 0.255]; "
        "worse: ar_mask90 by 0.400 [0.375 to 0.425]; undecided: ar_mask10 at +0.000 [−0.025 to +0.025]. "
        "dlm (3 of 3 seeds) was still improving when its run ended, so this is for this many tokens, and "
        "verdicts on it hold within this run length."
    )
    assert words.found_at_end(level, "dlm") == (
        "At the end of training: better: dlm_passes2 by 0.100 [0.075 to 0.125]."
    )


def test_levels_are_named_where_there_are_any(fake_sweep):
    sweep = analysed(fake_sweep(budgets=(20_000, 80_000)))
    assert (
        "than dlm by 0.100 [0.075 to 0.125] at unique_tokens=80000; what is said of 4 of 12 arms,"
        in words.headline(sweep)
    )
    assert words.found(sweep.levels[0], "dlm").startswith("Against dlm at unique_tokens=20000, by test NLL")


def test_one_seed_has_no_interval_and_decides_nothing(fake_sweep):
    sweep = analysed(fake_sweep(seeds=(1,)))
    assert "dlm_passes2 against dlm is undecided at +0.100;" in words.headline(sweep)
    assert "over 1 seed): undecided: ar_mask10 at +0.000, ar_mask30 at +0.200" in (
        words.found(sweep.levels[0], "ar")
    )
    assert "decides nothing" in words.uncertainty(sweep)


def test_the_uncertainty_counts_the_comparisons_of_one_stop(fake_sweep):
    text = words.uncertainty(analysed(fake_sweep()))
    assert "paired over 3 seeds" in text
    assert "corrected (Holm) for 5 comparisons at each stop" in text


def test_without_contrasts_the_lowest_arm_is_named(fake_sweep):
    sweep = analysed(fake_sweep(arms=("ar", "dlm"), contrasts={}))
    assert words.headline(sweep) == (
        "At the best stop, dlm has the lowest mean test NLL, 2.560 nats/token; "
        "no arm is declared to be compared with another."
    )
    assert words.uncertainty(sweep) == ""


def test_what_failed_or_is_missing_is_named(fake_sweep):
    tree = fake_sweep()
    assert words.left_out(analysed(tree)) == ""
    tree.fail("dlm", 20_000, 0, "out of memory")
    tree.fail("dlm", 20_000, 2, "out of memory")
    (tree.logdir("ar_mask30", 20_000, 1) / "result.json").unlink()
    assert words.left_out(analysed(tree)) == (
        "Of 18 planned runs, 2 failed and 1 are missing. Only seeds that both arms finished are compared. "
        "Left out: seed 1 of ar_mask30 and seed 0, 2 of dlm."
    )
