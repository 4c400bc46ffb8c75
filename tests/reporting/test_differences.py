import pytest
from fake_trees import overfit_at_the_end, set_nll, unmeasure
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lab.metrics import find_metric
from lab.reporting import drawing, words
from lab.reporting.sections import differences
from lab.reporting.tree import read_tree
from lab.results import write_record
from lab.sections import Contrast, Differences, at_best, over_best, pairs

TOKENS = "data.unique_tokens"
OTHER_DATA = ("held_out", "parameters", "stops")  # what may be asked of runs at other levels


def written(tree, **section):
    """What a section of the tree's contrasts says, or of those given."""
    if "contrasts" not in section:
        section["contrasts"] = pairs(tree.contrasts)
    declared = Differences(**section)
    return differences.write(declared, read_tree(tree.path), "differences")


def by_arm(content):
    return {row["arm"]: row for row in content.tables[0].rows}


def fail(tree, arm, budget=20_000):
    for seed in tree.seeds:
        tree.fail(arm, budget, seed, "lost")


def test_gains_are_those_of_the_tree_paired_by_seed_at_both_stops(fake_sweep):
    tree = fake_sweep()
    found = by_arm(written(tree))
    assert list(found) == list(tree.contrasts)
    for arm, gain in tree.gains.items():
        for place in ("best", "end"):
            expected = {str(seed): gain + tree.gain_shift[seed] for seed in tree.seeds}
            assert found[arm][f"{place}_by_seed"] == pytest.approx(expected)
    # The AR's best is at 16 epochs; the DLM falls to the end.
    dlm = found["dlm"]
    assert dlm["best_by_seed"] == pytest.approx({"0": 0.15, "1": 0.18, "2": 0.21})
    end = tree.ar_nll(5_120_000, 20_000, 0) - tree.dlm_nll(5_120_000, 20_000, 0)
    assert dlm["end_by_seed"]["0"] == pytest.approx(end)
    assert (dlm["best_reference"], dlm["best_arm"]) == pytest.approx((2.74, 2.56))
    assert (dlm["train_flops_ratio"], dlm["train_time_ratio"]) == pytest.approx((5.3 / 5.1, 1))
    doubled = found["dlm_passes2"]
    assert (doubled["train_flops_ratio"], doubled["train_time_ratio"]) == pytest.approx((2, 2))


def test_p_values_are_corrected_over_contrasts_and_levels_for_each_metric_and_place(fake_sweep):
    content = written(fake_sweep(budgets=(20_000, 80_000)), metrics=("nll", "bits_per_byte"))
    names = ["differences_nll", "differences_bits_per_byte"]
    assert [table.name for table in content.tables] == [*names, *(f"{name}_along_run" for name in names)]
    for table in content.tables:
        for place in ("best", "end"):
            made = sorted((row[f"{place}_p_value"], row[f"{place}_adjusted_p"]) for row in table.rows)
            assert len(made) == 10
            assert made[0][1] == pytest.approx(10 * made[0][0])
            assert made[-1][1] == pytest.approx(max(made[-1][0], made[-2][1]))


def test_a_contrast_without_spread_is_undecided_and_leaves_the_family(fake_sweep):
    tree = fake_sweep()
    tree.gain_shift = (0.0, 0.0, 0.0)
    for seed in tree.seeds:
        place = tree.logdir("ar_mask30", 20_000, seed) / "result.json"
        write_record(place, tree.result("ar_mask30", 20_000, seed))
    content = written(tree)
    found = by_arm(content)
    tie = found.pop("ar_mask30")
    assert tie["best_mean"] == pytest.approx(0.2)
    assert (tie["best_adjusted_p"], tie["best_verdict"]) == (None, "undecided")
    smallest = min(found.values(), key=lambda row: row["best_p_value"])
    assert smallest["best_adjusted_p"] == pytest.approx(4 * smallest["best_p_value"])
    assert (
        "1 comparison without spread is undecided; p-values are corrected (Holm) for the 4 of"
        in (content.certain[0])
    )


def test_only_seeds_that_both_finished_are_compared(fake_sweep):
    tree = fake_sweep()
    tree.fail("dlm", 20_000, 1, "out of memory")
    content = written(tree)
    found = by_arm(content)
    for arm in ("dlm", "dlm_passes2"):
        assert (list(found[arm]["end_by_seed"]), found[arm]["seeds_left_out"]) == (["0", "2"], 1)
    assert found["ar_mask30"]["seeds_left_out"] == 0
    assert content.certain[0].startswith("Paired over 2 to 3 seeds by plain t tests; two seeds say little")


def test_means_are_of_the_seeds_that_are_compared_where_not_all_were_measured(fake_sweep):
    tree = fake_sweep(arms=("ar", "dlm"), contrasts={"dlm": "ar"})
    tree.edit("dlm", 20_000, 2, lambda result: unmeasure(result, "choice"))
    dlm = by_arm(written(tree, metrics=("option_gap",)))["dlm"]
    assert (list(dlm["best_by_seed"]), dlm["seeds"], dlm["seeds_left_out"]) == (["0", "1"], 2, 1)
    assert dlm["best_arm"] - dlm["best_reference"] == pytest.approx(dlm["best_mean"])
    for seed in tree.seeds:
        tree.edit("dlm", 20_000, seed, lambda result: unmeasure(result, "choice"))
    dlm = by_arm(written(tree, metrics=("option_gap",)))["dlm"]
    assert (dlm["seeds"], dlm["best_arm"], dlm["best_mean"]) == (0, None, None)


def test_runs_without_what_is_measured_after_them_are_named(fake_sweep):
    content = written(fake_sweep(), metrics=("nll_calibrated",))
    assert content.warnings[0].startswith("Trained but not measured: ar_mask10 seed 0")
    assert written(fake_sweep()).warnings == ()


def test_an_arm_is_compared_with_another_level_and_never_with_itself(fake_sweep):
    tree = fake_sweep(budgets=(20_000, 80_000), arms=("ar", "dlm"), contrasts={})
    contrasts = [
        Contrast(arm="dlm", reference=arm, reference_level={TOKENS: 20_000}) for arm in ("dlm", "ar")
    ]
    with pytest.raises(ValueError, match=r"same data hash, but got data20000 for dlm .* data80000 for dlm"):
        written(tree, contrasts=contrasts)
    table = written(tree, contrasts=contrasts, matched=OTHER_DATA).tables[0]
    small, large = "unique_tokens=20000", "unique_tokens=80000"
    assert [(row["level"], row["reference"], row["reference_level"]) for row in table.rows] == [
        (small, "ar", small),
        (large, "dlm", small),
        (large, "ar", small),
    ]
    # The DLM ends at the same on any budget, 0.15 below what the AR is best at on 20,000.
    assert [row["best_by_seed"]["0"] for row in table.rows] == pytest.approx([0.15, 0.0, 0.15])
    assert table.cells[-1][1][1][0] == "ar at 20,000 unique tokens"
    up = Contrast(arm="dlm", reference="ar", level={TOKENS: 20_000}, reference_level={TOKENS: 80_000})
    (picture,) = written(tree, contrasts=[up], matched=OTHER_DATA).pictures
    assert "Right of 0 an arm is better than AR at 80,000 unique tokens." in picture.caption


def test_an_arm_at_its_last_stop_is_compared_with_its_best(fake_sweep):
    tree = fake_sweep(budgets=(20_000,), arms=("ar", "dlm"), contrasts={})
    contrasts = over_best(("ar", "dlm"))
    content = written(tree, contrasts=contrasts, at=("end",))
    found = by_arm(content)
    # The AR is best after 16 of 256 epochs, and loses 0.4 at each of the 4 doublings after; the DLM goes on.
    assert list(found["ar"]["end_by_seed"].values()) == pytest.approx([-1.6] * 3)
    assert list(found["dlm"]["end_by_seed"].values()) == pytest.approx([0.0] * 3)
    assert found["ar"]["end_reference"] == pytest.approx(found["ar"]["end_arm"] - 1.6)
    assert found["ar"]["against"] == "ar at the best stop"
    # What it took to get to the best stop is a sixteenth of what the whole run took.
    costs = [(found[arm]["train_flops_ratio"], found[arm]["train_time_ratio"]) for arm in ("ar", "dlm")]
    assert costs == [pytest.approx((16, 16)), pytest.approx((1, 1))]
    with pytest.raises(
        ValueError, match=r"take an arm and its reference at two stops, but got 'ar' with itself"
    ):
        Differences(contrasts=contrasts)


def test_arms_may_be_matched_by_flops_in_place_of_tokens(fake_sweep):
    tree = fake_sweep(arms=("ar", "dlm", "dlm_passes2"), contrasts={"dlm_passes2": "dlm"})
    by_flops = ("data", "held_out", "parameters", "train_flops")
    with pytest.raises(ValueError, match=r"same training FLOPs, but got .* for dlm .* for dlm_passes2"):
        written(tree, matched=by_flops)

    def halve(result):
        for stop in result["stops"]:
            stop |= {"tokens_seen": stop["tokens_seen"] // 2, "train_flops": 0.5025 * stop["train_flops"]}

    for seed in tree.seeds:
        tree.edit("dlm_passes2", 20_000, seed, halve)
    found = by_arm(written(tree, matched=by_flops))["dlm_passes2"]
    assert found["train_flops_ratio"] == pytest.approx(1.005)
    with pytest.raises(ValueError, match=r"same stops \(reading, tokens seen\)"):
        written(tree)


# Words: what is told of a tree with these values, without the runs that are lost.

PAIR = {"arms": ("ar", "a"), "contrasts": {"a": "ar"}, "gains": {"a": 0.2}}
TWO = {"arms": ("ar", "a", "b"), "contrasts": {"a": "ar", "b": "ar"}, "gains": {"a": 0.2, "b": 0.1}}
FOUR = {
    "arms": ("ar", *"abcd"),
    "contrasts": dict.fromkeys("abcd", "ar"),
    "gains": {"a": 0.1, "b": 2.0, "c": -0.1, "d": 0.0},
    "gain_shift": (-0.04, 0.0, 0.04),
}
LEVELS = {"arms": ("ar", "dlm"), "contrasts": {"dlm": "ar"}, "budgets": (20_000, 80_000, 320_000)}
PAIRS = {
    "arms": tuple(f"{arm}_{n}" for n in range(4) for arm in ("ar", "dlm")),
    "contrasts": {f"dlm_{n}": f"ar_{n}" for n in range(4)},
    "gains": {"dlm_0": 0.1, "dlm_1": 0.2, "dlm_2": -0.3, "dlm_3": 0.0},
}
TO_FIRST = [
    Contrast(arm="dlm", reference="ar", level={TOKENS: n}, reference_level={TOKENS: 20_000})
    for n in (80_000, 320_000)
]
AT_80 = [Contrast(arm="dlm", reference="ar", level={TOKENS: 80_000})]


def case(values, text, lost=(), **section):
    return pytest.param(values, lost, section, " ".join(text.split()), id=text.strip()[:40])


@pytest.mark.parametrize(
    ("values", "lost", "section", "expected"),
    [
        case(PAIR, "a is better than AR in NLL, by 0.200 nats/token [0.175 to 0.225]."),
        case(
            PAIR | {"gains": {"a": -0.2}},
            "a is worse than AR in NLL at the end of training, by 0.200 nats/token [0.175 to 0.225].",
            at=("end",),
        ),
        case(
            PAIR | {"gains": {"a": 0.02}, "seeds": (0, 1)},
            """a draws level with AR in NLL: a gain of +0.015 nats/token [−0.017 to +0.047 at 90 %], within
            the margin of 0.050 nats/token.""",
        ),
        case(
            PAIR | {"gains": {"a": 0.01}},
            """a draws level with AR in NLL: a gain of +0.010 nats/token [−0.007 to +0.027 at 90 %], within
            the margin of 0.050 nats/token.""",
        ),
        case(
            PAIR | {"gains": {"a": 0.05}, "gain_shift": (-0.04, 0.0, 0.04)},
            "a against AR is undecided in NLL: a gain of +0.050 nats/token [−0.049 to +0.149].",
        ),
        case(
            PAIR | {"gains": {"a": 0.03}, "gain_shift": (-0.001, 0.0, 0.001)},
            """a is better than AR in NLL, by 0.030 nats/token [0.028 to 0.032], less than the margin of 0.050
            nats/token.""",
        ),
        case(
            TWO | {"gains": {"a": 0.03, "b": 0.0}, "gain_shift": (-0.001, 0.0, 0.001)},
            """Of 2 comparisons with AR in NLL, 1 is better (a, by 0.030 nats/token) and 1 is equivalent.
            Better: a by 0.030 [0.028 to 0.032] (less than the margin).
            Equivalent: b (0.000 [−0.002 to +0.002 at 90 %]).""",
        ),
        case(PAIR | {"seeds": (1,)}, "a against AR is undecided in NLL: a gain of +0.200 nats/token."),
        case(
            PAIR | {"gain_shift": (0.0, 0.0, 0.0)},
            "a against AR is undecided in NLL: a gain of +0.200 nats/token.",
        ),
        case(PAIR, "a and AR are not compared in NLL: no seed has it of both.", [("a", 20_000)]),
        case(
            LEVELS,
            """DLM is worse than AR in NLL at 80,000 unique tokens, by 0.420 nats/token [0.345 to 0.495],
            within this run length.""",
            contrasts=AT_80,
        ),
        case(
            LEVELS,
            """DLM at 80,000 unique tokens is better than AR at 20,000 unique tokens in NLL, by 0.180
            nats/token [0.105 to 0.255], within this run length.""",
            contrasts=TO_FIRST[:1],
            matched=OTHER_DATA,
        ),
        case(LEVELS, "Nothing is compared: no such contrast is planned.", contrasts=()),
        case(
            TWO,
            """Of 2 comparisons with AR in NLL, 2 are better (most: a, by 0.200 nats/token).
            Better: a by 0.200 [0.175 to 0.225] and b by 0.100 [0.075 to 0.125].""",
        ),
        case(
            TWO | {"gains": {"a": -0.2, "b": -0.1}},
            """Of 2 comparisons with AR in NLL, 2 are worse (most: a, by 0.200 nats/token).
            Worse: a by 0.200 [0.175 to 0.225] and b by 0.100 [0.075 to 0.125].""",
        ),
        case(
            TWO | {"seeds": (1,)},
            """Of 2 comparisons with AR in NLL, 2 are undecided.
            Undecided: a (+0.200) and b (+0.100).""",
        ),
        case(
            TWO,
            "Of 2 comparisons with AR in NLL none was made: no seed has it of both.",
            [("ar", 20_000)],
        ),
        case(
            FOUR,
            """Of 4 comparisons with AR in NLL, 1 is better (b, by 2.000 nats/token) and 3 are undecided.
            Better: b by 2.000 [1.901 to 2.099].
            Undecided: a (+0.100 [+0.001 to +0.199]), c (−0.100 [−0.199 to −0.001]) and d (0.000 [−0.099 to
            +0.099]).""",
        ),
        case(
            {},
            """Of 4 comparisons with AR in NLL, 2 are better (most: ar_mask30, by 0.200 nats/token), 1 is
            worse (ar_mask90, by 0.400 nats/token) and 1 is equivalent; some within this run length.
            dlm_passes2 is better than DLM in NLL, by 0.100 nats/token [0.075 to 0.125], within this run
            length.
            Better: ar_mask30 against AR by 0.200 [0.175 to 0.225], DLM against AR by 0.180 [0.105 to 0.255]
            and dlm_passes2 against DLM by 0.100 [0.075 to 0.125].
            Worse: ar_mask90 against AR by 0.400 [0.375 to 0.425].
            Equivalent: ar_mask10 against AR (0.000 [−0.017 to +0.017 at 90 %]).""",
        ),
        case(
            PAIRS,
            """dlm_0 is better than ar_0 in NLL, by 0.100 nats/token [0.075 to 0.125], within this run length.
            Of 3 other comparisons in NLL, 1 is better (dlm_1 against ar_1, by 0.200 nats/token), 1 is worse
            (dlm_2 against ar_2, by 0.300 nats/token) and 1 is equivalent; all within this run length.
            Better: dlm_0 against ar_0 by 0.100 [0.075 to 0.125] and dlm_1 against ar_1 by 0.200 [0.175 to
            0.225].
            Worse: dlm_2 against ar_2 by 0.300 [0.275 to 0.325].
            Equivalent: dlm_3 against ar_3 (0.000 [−0.017 to +0.017 at 90 %]).""",
        ),
        case(
            {
                "arms": ("ar_1", "ar_2", "dlm_1", "dlm_2"),
                "contrasts": {"dlm_1": "ar_1", "dlm_2": "ar_2"},
                "gains": {"dlm_1": 0.2, "dlm_2": -0.3},
            },
            """dlm_1 is better than ar_1 in NLL, by 0.200 nats/token [0.175 to 0.225], within this run length.
            dlm_2 is worse than ar_2 in NLL, by 0.300 nats/token [0.275 to 0.325], within this run length.""",
        ),
        case(
            PAIRS | {"contrasts": {"dlm_1": "ar_0", "dlm_0": "ar_0", "dlm_2": "ar_2", "dlm_3": "ar_3"}},
            """Of 4 comparisons in NLL, 2 are better (most: dlm_1 against ar_0, by 0.200 nats/token), 1 is
            worse (dlm_2 against ar_2, by 0.300 nats/token) and 1 is equivalent; all within this run length.
            Better: dlm_1 against ar_0 by 0.200 [0.175 to 0.225] and dlm_0 against ar_0 by 0.100 [0.075 to
            0.125].
            Worse: dlm_2 against ar_2 by 0.300 [0.275 to 0.325].
            Equivalent: dlm_3 against ar_3 (0.000 [−0.017 to +0.017 at 90 %]).""",
        ),
        case(
            LEVELS,
            """DLM is better than AR in NLL at 20,000 unique tokens; worse at 320,000 unique tokens; not
            compared at 80,000 unique tokens; all within this run length.
            Better: at 20,000 unique tokens by 0.180 [0.105 to 0.255].
            Worse: at 320,000 unique tokens by 1.020 [0.945 to 1.095].""",
            [("dlm", 80_000)],
        ),
        case(
            LEVELS | {"seeds": (0,)},
            """DLM against AR is undecided in NLL at 20,000, 80,000 and 320,000 unique tokens; all within this
            run length.
            Undecided: at 20,000 unique tokens (+0.150), at 80,000 unique tokens (−0.450) and at 320,000
            unique tokens (−1.050).""",
        ),
        case(
            LEVELS | {"budgets": (20_000, 80_000)},
            """DLM and AR are not compared in NLL at 20,000 and 80,000 unique tokens: no seed has it of
            both.""",
            [("dlm", 20_000), ("ar", 80_000)],
        ),
        case(
            LEVELS,
            """DLM at 80,000 and 320,000 unique tokens is better than AR at 20,000 unique tokens in NLL; all
            within this run length.
            Better: at 80,000 unique tokens by 0.180 [0.105 to 0.255] and at 320,000 unique tokens by 0.180
            [0.105 to 0.255].""",
            contrasts=TO_FIRST,
            matched=OTHER_DATA,
        ),
        case(
            TWO | {"budgets": (20_000, 80_000)},
            """Of 4 comparisons with AR in NLL, 3 are better (most: a at 20,000 unique tokens, by 0.200
            nats/token) and 1 is not compared.
            Better: a at 20,000 unique tokens by 0.200 [0.175 to 0.225], b at 20,000 unique tokens by 0.100
            [0.075 to 0.125] and a at 80,000 unique tokens by 0.200 [0.175 to 0.225].""",
            [("b", 80_000)],
        ),
    ],
)
def test_what_came_out_is_told_in_a_few_sentences(fake_sweep, values, lost, section, expected):
    tree = fake_sweep(**values)
    for arm, budget in lost:
        fail(tree, arm, budget)
    content = written(tree, **section)
    assert " ".join([content.headline, *content.verdict]) == expected
    assert max(len(content.verdict), len(content.certain)) <= 4
    assert not any(". " in sentence for sentence in (*content.verdict, *content.certain))


def test_many_levels_are_counted_and_left_to_the_table(fake_tree):
    tree = fake_tree(budgets=tuple(2**k * 10_000 for k in range(7)), seeds=(0, 1, 2))
    content = written(tree, contrasts=pairs({"dlm": "ar"}))
    assert content.headline.startswith("Of 7 comparisons with AR in NLL, ")
    assert content.verdict == ()
    assert len(content.tables[0].rows) == 7


def test_what_is_certain_names_seeds_tests_and_the_arms_that_were_still_improving(fake_sweep):
    tree = fake_sweep(**LEVELS)
    assert written(tree).certain == (
        "Paired over 3 seeds by plain t tests; p-values are corrected (Holm) for the 3 of a metric and stop, "
        "the 95 % intervals are not.",
        # 0.03 is the spread of each; `test_power` knows the multiple.
        "With these seeds the smallest gain that this table decides in 4 of 5 cases is about 0.170 "
        "nats/token.",
        "Intervals cover the choice of unique tokens, the choice of held-out windows and the randomness of "
        "training; two seeds are expected to have 32 % of their unique tokens and 3.8 % of their held-out "
        "documents in common.",
        "† AR at 320,000 unique tokens and DLM were still improving when their runs ended: verdicts hold "
        "within this run length.",
    )
    for seed in (1, 2):
        tree.edit("dlm", 20_000, seed, overfit_at_the_end)
    assert (
        written(tree)
        .certain[3]
        .startswith(
            "† AR at 320,000 unique tokens, DLM at 20,000 unique tokens (1 of 3 seeds), DLM at 80,000 unique "
        )
    )
    tree.edit("dlm", 20_000, 0, overfit_at_the_end)
    content = written(tree)
    assert content.headline.endswith("; some within this run length.")
    marks = [[words.MARK in text for text, *_ in cells] for _, cells in content.tables[0].cells]
    # Behind the verdict at the best stop, where one of the two was: at the end every arm is at its end.
    assert [[place for place, mark in enumerate(row) if mark] for row in marks] == [[], [5], [5]]
    end = written(tree, at=("end",))
    assert "improving" in content.tables[0].caption
    assert "improving" not in end.tables[0].caption + " ".join(end.certain)
    assert "within" not in end.headline


def test_where_higher_is_better_a_share_is_in_percentage_points(fake_sweep):
    tree = fake_sweep(**TWO)
    for arm, accuracy in {"ar": 0.5, "a": 0.6, "b": 0.45}.items():
        for seed in tree.seeds:
            tree.edit(arm, 20_000, seed, answer(accuracy + 0.01 * seed * (arm == "a")))
    content = written(tree, metrics=("choice_accuracy", "nll"))
    row = by_arm(content)["a"]
    assert row["best_by_seed"] == pytest.approx({"0": 0.1, "1": 0.11, "2": 0.12})
    assert (row["best_verdict"], row["best_document_error"]) == ("better", None)
    assert content.headline == (
        "Of 2 comparisons with AR in choice accuracy, 1 is better (a, by 11.0 percentage points) and 1 is "
        "undecided."
    )
    assert content.verdict[0] == "Better: a by 11.0 [8.5 to 13.5]."
    assert content.certain[1].endswith("about 3.3 percentage points.")
    assert "the choice of held-out items" in content.certain[2]
    table = content.tables[0]
    assert table.headings[4][:2] == ("Gain, best stop", "percentage points, 95 %")
    assert table.cells[0][1][3][0] == "50.0 % → 61.0 %"
    panel = content.pictures[0].panels[0].axes[0]
    assert panel.get_xlabel() == "Gain (percentage points), right is better"
    *_, interval = lines_of(panel, "a")
    ends = [100 * by_arm(content)["a"][f"best_interval_{end}"] for end in ("low", "high")]
    assert interval == pytest.approx(ends)


def answer(accuracy):
    def change(result):
        for row in (row for stop in result["stops"] for row in stop["measured"]):
            if row["task"]["measurement"] == "choice":
                row["values"] |= {"choice_accuracy": accuracy, "choice_accuracy_standard_error": 0.03}

    return change


def lines_of(panel, arm):
    """Of an arm's row the seeds, their mean and its interval."""
    names = [label.get_text() for label in panel.get_yticklabels()]
    rows = [line for line in panel.get_lines() if set(line.get_ydata()) == {names.index(arm)}]
    return [list(line.get_xdata()) for line in rows]


def test_dots_stand_at_the_gains_of_the_seeds_beside_their_interval(fake_sweep):
    tree = fake_sweep()
    tree.fail("ar_mask30", 20_000, 2, "lost")
    content = written(tree, metrics=("nll", "option_gap"))
    assert [list(one.files()) for one in content.pictures] == [
        [f"differences_{key}-1", f"differences_{key}-2"] for key in ("nll", "option_gap")
    ]
    best, end = (panel.axes[0] for panel in content.pictures[0].panels)
    assert [ax.get_title() for ax in (best, end)] == ["At the best stop", "At the end of training"]
    seeds, mean, interval = lines_of(best, "ar_mask30 against AR")
    row = by_arm(content)["ar_mask30"]
    assert seeds == pytest.approx([0.19, 0.2])
    assert mean == pytest.approx([0.195])
    assert interval == [row["best_interval_low"], row["best_interval_high"]]
    low, high = best.get_xlim()
    assert low < -0.41 < 0.21 < high  # every seed is in it
    # An interval that ends more than 0.6 times the range of the seeds beyond them is cut.
    assert drawing.limits([0.0, 1.0], [-9.0, 1.2]) == pytest.approx((-0.69, 1.29))


def test_a_tree_with_holes_and_levels_is_drawn(fake_sweep):
    tree = fake_sweep(**LEVELS)
    for arm, budget in (("dlm", 20_000), ("ar", 320_000), ("dlm", 320_000)):
        fail(tree, arm, budget)
    content = written(tree, at=("best",))
    (panel,) = content.pictures[0].panels
    assert [text.get_text() for text in panel.axes[0].texts] == 2 * ["no seed has it of both"]
    names = [label.get_text() for label in panel.axes[0].get_yticklabels()]
    assert names == [name for budget in tree.budgets for name in (f"{budget:,} unique tokens", "DLM")]
    assert drawing.render(panel, "svg").startswith(b"<?xml")
    lost = [text for text, *_ in content.tables[0].cells[0][1]]
    assert lost == ["dlm", "ar", "0", "– → –", "–", "not compared", "–", "–"]


@pytest.mark.parametrize(
    "name",
    [
        "ar",
        "ar_dropout against ar_dropout at windows=fixed",
        "causal_fixed_256 against causal_left_to_right",
        "causal_right_to_left_half against causal_left_to_right",
    ],
)
def test_long_names_stay_whole_and_leave_room_for_what_is_drawn(name):
    figure = drawing.estimates("At the end of training", [(name, "no seed")], find_metric("nll"))
    figure.set_dpi(drawing.DPI)
    FigureCanvasAgg(figure).draw()
    assert [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()] == [name]
    (ax,) = figure.axes
    for text in (ax.xaxis.label, ax.title, *ax.get_yticklabels()):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text.get_text()


def test_each_arm_is_taken_at_its_best_level_by_validation(fake_tree):
    tree = fake_tree()
    content = written(tree, contrasts=at_best({"dlm": "ar"}, TOKENS), matched=OTHER_DATA)
    (row,) = content.tables[0].rows
    # More text helps AR alone: of the DLM all budgets are as good, and the first is taken.
    assert (row["level"], row["reference_level"]) == ("unique_tokens=20000", "unique_tokens=320000")
    assert row["against"] == "ar at 320,000 unique tokens"
    last = tree.ar_nll(5_120_000, 320_000, 0), tree.dlm_nll(5_120_000, 20_000, 0)
    assert row["best_by_seed"]["0"] == pytest.approx(last[0] - last[1])
    assert "is worse than AR at 320,000 unique tokens" in content.headline


def test_what_has_no_run_yet_is_no_best_level(fake_tree):
    tree = fake_tree()
    for seed in tree.seeds:
        tree.fail("ar", 320_000, seed, "lost")
    (row,) = written(tree, contrasts=at_best({"dlm": "ar"}, TOKENS), matched=OTHER_DATA).tables[0].rows
    assert row["reference_level"] == "unique_tokens=80000"


def test_levels_are_compared_over_the_seeds_that_all_of_them_have(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000), seeds=(0, 1, 2), seed_shift={"ar": 1.0, "dlm": 0.0})
    for seed in (1, 2):  # of 20,000 the easy seed alone is left
        tree.fail("ar", 20_000, seed, "lost")
    (row,) = written(tree, contrasts=at_best({"dlm": "ar"}, TOKENS), matched=OTHER_DATA).tables[0].rows
    assert row["reference_level"] == "unique_tokens=80000"


def test_where_validation_has_no_such_metric_the_best_level_is_that_of_the_nll(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000), metric="nll_calibrated")
    tree.edit("dlm", 80_000, 0, lambda result: set_nll(result, 8, 0.1))
    contrasts = at_best({"dlm": "ar"}, TOKENS)
    (row,) = written(tree, contrasts=contrasts, metrics=("nll",), matched=OTHER_DATA).tables[0].rows
    assert (row["level"], row["reference_level"]) == ("unique_tokens=80000", "unique_tokens=80000")


@pytest.mark.parametrize("more", [{"level": {TOKENS: 1}}, {"reference_level": {TOKENS: 1}}])
def test_a_contrast_at_its_best_level_names_none(more):
    with pytest.raises(ValueError, match="`best_of` must be a level that the contrast does not name itself"):
        Contrast(arm="dlm", reference="ar", best_of=TOKENS, **more)
