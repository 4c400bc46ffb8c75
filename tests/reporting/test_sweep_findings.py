import pytest

from lab.reporting.results import read_tree
from lab.reporting.sweep.findings import analyse
from lab.results import write_record


def analysed(tree):
    return analyse(read_tree(tree.path))


def contrast(level, arm):
    (found,) = [c for c in level.contrasts if c.arm.arm == arm]
    return found


def test_gains_are_those_of_the_tree_paired_by_seed_at_both_stops(fake_sweep):
    tree = fake_sweep()
    (level,) = analysed(tree).levels
    for arm in ("ar_mask10", "ar_mask30", "ar_mask90", "dlm_passes2"):
        for which in ("best", "end"):
            gain = contrast(level, arm).at[which].gain
            expected = {seed: tree.gains[arm] + tree.gain_shift[seed] for seed in tree.seeds}
            assert dict(gain.by_seed) == pytest.approx(expected)
    # The AR's best is at 16 epochs; the DLM falls to the end.
    dlm = contrast(level, "dlm").at
    assert dict(dlm["best"].gain.by_seed) == pytest.approx({0: 0.15, 1: 0.18, 2: 0.21})
    end = tree.ar_nll(5_120_000, 20_000, 0) - tree.dlm_nll(5_120_000, 20_000, 0)
    assert dlm["end"].gain.by_seed[0] == pytest.approx(end)


def test_arms_and_groups_stand_in_declared_order(fake_sweep):
    tree = fake_sweep()
    (level,) = analysed(tree).levels
    assert tuple(level.arms) == tree.arms
    groups = {name: [c.arm.arm for c in group] for name, group in level.groups.items()}
    assert groups == {"ar": ["ar_mask10", "ar_mask30", "ar_mask90", "dlm"], "dlm": ["dlm_passes2"]}
    other = ("dlm", "ar", "ar_mask90", "ar_mask10")
    contrasts = {"ar_mask90": "ar", "dlm": "ar", "ar_mask10": "ar"}
    (level,) = analysed(fake_sweep(arms=other, contrasts=contrasts)).levels
    assert tuple(level.arms) == other
    assert [contrast.arm.arm for contrast in level.contrasts] == list(contrasts)


def test_verdicts_follow_the_sign_and_the_corrected_test(fake_sweep):
    (level,) = analysed(fake_sweep()).levels
    verdicts = {c.arm.arm: c.at["best"].verdict for c in level.contrasts}
    assert {arm: verdict.winner for arm, verdict in verdicts.items()} == {
        "ar_mask10": 0,
        "ar_mask30": 1,
        "ar_mask90": -1,
        "dlm": 1,
        "dlm_passes2": 1,
    }
    assert verdicts["ar_mask30"].evidence == "test"
    (few,) = analysed(fake_sweep(seeds=(0, 1))).levels
    assert contrast(few, "ar_mask30").at["best"].verdict.evidence == "seed spread"


def test_p_values_are_corrected_over_every_contrast_and_level_at_one_stop(fake_sweep):
    levels = analysed(fake_sweep(budgets=(20_000, 80_000))).levels
    for which in ("best", "end"):
        made = [c.at[which] for level in levels for c in level.contrasts]
        assert len(made) == 10
        raw, adjusted = zip(*sorted((m.gain.p_value, m.adjusted_p) for m in made), strict=True)
        assert adjusted[0] == pytest.approx(10 * raw[0])
        assert adjusted[-1] == pytest.approx(max(10 * raw[0], raw[-1]))


def test_a_contrast_without_spread_is_undecided_and_leaves_holms_family(fake_sweep):
    tree = fake_sweep()
    tree.gain_shift = (0.0, 0.0, 0.0)  # up to rounding
    for seed in tree.seeds:
        write_record(
            tree.logdir("ar_mask30", 20_000, seed) / "result.json", tree.result("ar_mask30", 20_000, seed)
        )
    (level,) = analysed(tree).levels
    made = contrast(level, "ar_mask30").at["best"]
    assert made.gain.mean == pytest.approx(0.2)
    assert (made.gain.interval, made.adjusted_p) == (None, None)
    assert (made.verdict.winner, made.verdict.evidence) == (0, "no spread")
    smallest = min(
        (c.at["best"] for c in level.contrasts if c is not contrast(level, "ar_mask30")),
        key=lambda made: made.gain.p_value,
    )
    assert smallest.adjusted_p == pytest.approx(4 * smallest.gain.p_value)


def test_costs_are_multiples_of_the_reference(fake_sweep):
    (level,) = analysed(fake_sweep()).levels
    assert contrast(level, "dlm_passes2").flops_ratio == pytest.approx(2)
    assert contrast(level, "dlm_passes2").time_ratio == pytest.approx(2)
    assert contrast(level, "dlm").flops_ratio == pytest.approx(5.3 / 5.1)
    assert contrast(level, "dlm").time_ratio == pytest.approx(1)


def test_curves_run_over_epochs_flops_and_seconds_at_the_median_speed(fake_sweep):
    tree = fake_sweep()
    arm = analysed(tree).levels[0].arms["dlm_passes2"]
    for x, last in (("epoch", 256), ("train_flops", 5_120_000 * 10.6e6), ("seconds", 5_120_000 / 15_000)):
        positions, values = arm.curve(x)
        assert positions[-1] == pytest.approx(last)
        assert positions == sorted(positions)
        assert values[-1] == [tree.nll("dlm_passes2", 5_120_000, 20_000, seed) for seed in tree.seeds]


def test_a_run_without_metrics_has_no_time(fake_sweep):
    tree = fake_sweep()
    (tree.logdir("dlm", 20_000, 1) / "metrics.jsonl").unlink()
    level = analysed(tree).levels[0]
    assert level.arms["dlm"].curve("seconds") == ([], [])
    assert len(level.arms["dlm"].curve("epoch")[0]) == 9
    for seed in (0, 2):
        (tree.logdir("dlm", 20_000, seed) / "metrics.jsonl").unlink()
    level = analysed(tree).levels[0]
    assert level.arms["dlm"].speed is None
    assert contrast(level, "dlm_passes2").time_ratio is None


def test_a_failed_run_takes_its_seed_out_of_its_contrasts_only(fake_sweep):
    tree = fake_sweep()
    tree.fail("dlm", 20_000, 1, "out of memory")
    (level,) = analysed(tree).levels
    assert (contrast(level, "dlm").seeds, contrast(level, "dlm").left_out) == ((0, 2), (1,))
    assert set(contrast(level, "dlm_passes2").at["end"].gain.by_seed) == {0, 2}
    assert contrast(level, "ar_mask30").seeds == (0, 1, 2)
    assert (len(level.arms["dlm"].cells), level.arms["dlm"].planned) == (2, 3)


def test_an_arm_without_a_finished_run_is_kept_and_not_compared(fake_sweep):
    tree = fake_sweep()
    for seed in tree.seeds:
        tree.fail("dlm", 20_000, seed, "out of memory")
    (level,) = analysed(tree).levels
    assert level.arms["dlm"].curve("epoch") == ([], [])
    assert level.arms["dlm"].run_flops is None
    for arm in ("dlm", "dlm_passes2"):
        made = contrast(level, arm).at["best"]
        assert (made.gain, made.adjusted_p, made.verdict.winner) == (None, None, 0)
    assert contrast(level, "ar_mask30").at["best"].verdict.winner == 1


def test_arms_may_differ_in_flops_but_not_in_parameters(fake_sweep):
    tree = fake_sweep()
    analysed(tree)
    tree.edit("dlm_passes2", 20_000, 1, lambda result: result.update(parameters=7))
    with pytest.raises(ValueError, match=r"runs at the only level must have the same number of parameters"):
        analysed(tree)


def test_without_a_finished_run_there_is_no_report(fake_sweep):
    tree = fake_sweep(arms=("ar", "dlm"), contrasts={"dlm": "ar"}, seeds=(0,))
    for arm in tree.arms:
        (tree.logdir(arm, 20_000, 0) / "result.json").unlink()
    with pytest.raises(ValueError, match=r"a report needs a finished run, but none of 2 in .*laptop is"):
        analysed(tree)
