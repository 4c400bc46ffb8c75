import dataclasses
import json
import re

import pytest
from optuna.trial import TrialState
from result_bench import result, stop
from scheduling_bench import trials
from tuning_bench import LONG, SPACE, WINDOWS, FakeExecutor, TuningBench, stop_row, true_loss

import lab.api
import lab.config
from lab.ablation import Scale
from lab.arms import arm_values
from lab.config import load_config, make_config
from lab.files import read_json
from lab.results import VersionRecord, write_record
from lab.scheduling import driver
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.outcomes import TRIES
from lab.scheduling.places import Places
from lab.scheduling.plan import UNREAD, DataFacts, Plan
from lab.scheduling.progress import RunsProgress
from lab.scheduling.status import TreeStatus
from lab.scheduling.tuning.driver import drive_tuned
from lab.scheduling.tuning.study import ArmStudy, stop_losses
from lab.scheduling.tuning.tuning import SPACE as SHIPPED
from lab.scheduling.tuning.tuning import Range, Tuning, keys_of, space_of, value_at, with_values
from lab.version import claim_version


@pytest.fixture
def make_bench(tmp_path, monkeypatch):
    monkeypatch.setattr(lab.config, "PRESETS_DIR", lab.config.PRESETS_DIR)  # put back afterwards
    monkeypatch.setattr(driver, "POLL_SECONDS", driver.POLL_SECONDS)

    def make(name="one"):
        (tmp_path / name).mkdir(exist_ok=True)
        return TuningBench(tmp_path / name)

    return make


@pytest.fixture
def bench(make_bench):
    return make_bench()


def values_of(config, keys):
    return {key: value_at(config, key) for key in keys}


def states(study):
    return [trial["state"] for trial in study["trials"]]


def not_tuned(bench):
    """The trials of cells that had to be given up: arm, seed, state, reason."""
    return [
        (told["arm"], told["seed"], trial.state.name, told["reason"])
        for trial in trials(bench.tree)
        if (told := trial.user_attrs).get("outcome") == "not tuned"
    ]


def ended_once(bench):
    """Whether every cell of the ledger ended once, done or stopped early."""
    ended: dict[str, int] = {}
    for trial in trials(bench.tree):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            ended[trial.user_attrs["key"]] = ended.get(trial.user_attrs["key"], 0) + 1
        assert trial.state not in (TrialState.RUNNING, TrialState.WAITING)
    return set(ended.values()) == {1}


def test_each_arm_gets_the_same_trials_and_runs_at_its_own_best(bench):
    summary = bench.tune(10)
    assert (summary.done, summary.failed) == (4, {})
    studies = bench.studies()
    assert list(studies) == ["ar", "dlm"]
    assert {len(study["trials"]) for study in studies.values()} == {10}
    assert [trial["values"] for trial in studies["ar"]["trials"][:4]] == [
        trial["values"] for trial in studies["dlm"]["trials"][:4]
    ]  # the same seeds: before anything is known, the same suggestions
    for arm, study in studies.items():
        done = [trial for trial in study["trials"] if trial["state"] == "done"]
        best = min(done, key=lambda trial: trial["validation_nll"])
        assert study["best"] == best["values"] != study["trials"][0]["values"]
        for seed in (0, 1):
            config = load_config(bench.tree / "runs" / arm / f"seed={seed}" / "config.yaml")
            assert values_of(config, list(SPACE)) == study["best"]
            assert config.seed == seed
        assert best["validation_nll"] == pytest.approx(
            true_loss(with_values(config, 1000, best["values"], SPACE))
        )
    assert ended_once(bench)


def test_the_first_trial_is_the_arm_as_it_stands(bench):
    plan = bench.plan(4)
    bench.tune(4, plan=plan)
    first = bench.studies()["dlm"]["trials"][0]["values"]
    assert first == values_of(plan.cells[0].config, list(SPACE))


def test_tuning_runs_are_no_cells_of_the_plan(bench):
    bench.tune(4)
    planned = {cell["logdir"] for cell in read_json(bench.tree / "plan.json")["cells"]}
    assert planned == {f"runs/{arm}/seed={seed}" for arm in ("ar", "dlm") for seed in (0, 1)}
    tuned = [name for name in bench.started() if name.startswith("tuning/")]
    assert sorted(tuned) == [f"tuning/{arm}/trial={n:03}" for arm in ("ar", "dlm") for n in range(4)]
    seeds = {load_config(bench.tree / name / "config.yaml").seed for name in tuned}
    assert seeds == {1000}


@pytest.mark.parametrize(("workers", "pace"), [(1, 1), (4, 1), (3, 100)])
def test_the_outcome_does_not_depend_on_workers_or_speed(make_bench, workers, pace):
    one, other = make_bench("one"), make_bench("other")
    one.tune(10, workers=2)
    other.tune(10, workers=workers, pace=pace)  # at pace 100 a run has ended before anybody looks at it
    assert other.outcome() == one.outcome()
    assert ended_once(other)


def test_a_driver_killed_in_mid_round_is_taken_over_from(make_bench):
    undisturbed, bench = make_bench("undisturbed"), make_bench("killed")
    undisturbed.tune(10)
    for die_at in (30, 61, 97):
        assert bench.die(10, die_at) == 9
    bench.tune(10, workers=3)
    assert bench.outcome() == undisturbed.outcome()
    assert ended_once(bench)


def test_ctrl_c_tells_nothing_and_the_same_command_goes_on(make_bench):
    undisturbed, bench = make_bench("undisturbed"), make_bench("stopped")
    undisturbed.tune(6)
    assert bench.tune(6, interrupt_at=60).interrupted
    assert not (bench.tree / "runs").exists()
    bench.tune(6)
    assert bench.outcome() == undisturbed.outcome()


def test_a_second_invocation_does_nothing(bench):
    bench.tune(6)
    before = bench.outcome(), len(trials(bench.tree))
    summary = bench.tune(6)
    assert (summary.done, summary.reused, bench.started()) == (0, 4, [])
    assert (bench.outcome(), len(trials(bench.tree))) == before


def test_more_trials_add_only_new_ones_and_set_the_old_best_aside(make_bench):
    at_once, bench = make_bench("at-once"), make_bench("grown")
    at_once.tune(14)
    bench.tune(6)  # a round and a half: the other half is judged by what was known before that round
    few = bench.outcome()
    bench.tune(14)
    assert bench.outcome() == at_once.outcome()
    assert sorted(name for name in bench.started() if name.startswith("tuning/ar/")) == [
        f"tuning/ar/trial={number:03}" for number in range(6, 14)
    ]
    assert len([path for path in (bench.tree / "runs" / "ar").iterdir() if "seed=0." in path.name]) == 1
    assert re.search(
        r"training\.learning_rate \(.* became .*; the old run is kept in ", bench.said.getvalue()
    )
    bench.tune(6)
    assert bench.outcome() == few


def test_a_trial_that_gets_worse_ends_early_and_counts_with_its_best(bench):
    bench.tune(12)
    study = bench.studies()["ar"]
    early = [trial for trial in study["trials"] if trial["state"] == "ended early"]
    assert [trial["trial"] for trial in early] == [
        trial["trial"] for trial in study["trials"] if trial["values"]["model.mlp_dropout"] == 0
    ]
    stored = {trial.number: trial for trial in bench.stored(study["study"]).get_trials()}
    for trial in early:
        assert trial["stops"] == 5  # the best is the third of six
        config = with_values(bench.plan(1).cells[0].config, 1000, trial["values"], SPACE)
        assert trial["validation_nll"] == pytest.approx(true_loss(config))
        assert "ended at stop 5 of 6" in trial["reason"]
        assert "worse for 2 stops" in trial["reason"]
        logdir = bench.tree / "tuning" / "ar" / f"trial={trial['trial']:03}"
        assert read_json(logdir / "pruned.json")["reason"] == trial["reason"]
        assert not (logdir / "result.json").exists()
        assert stored[trial["trial"]].state == TrialState.COMPLETE
    assert bench.tune(12).pruned == 0


def test_a_runs_losses_are_read_stop_by_stop(bench, tmp_path):
    cell = bench.plan(1).cells[0]
    losses = (3.0, 2.5, 2.8, 2.4)
    rows = [
        stop_row(cell.config, "annealed", step, nll) for step, nll in zip((1, 2, 4, 8), losses, strict=True)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text + '{"kind": "measured", "rea')
    assert stop_losses(cell.config, WINDOWS, tmp_path).losses == losses


@pytest.mark.parametrize("arm", ["ar", "ar_masked", "dlm", "dlm_complementary", "any_order_ar"])
def test_whatever_is_tried_makes_a_configuration_that_is_valid(bench, arm):
    config = make_config(bench.plan(1).cells[0].config.model_dump(exclude_none=True), arm_values(arm))
    own = {f"factors.{key}" for key in arm_values(arm)["factors"]}
    space = space_of(SHIPPED, config, own)
    causal = arm in ("ar", "any_order_ar")
    assert ("factors.input_noise" in space, "masks" in space) == (causal, arm == "dlm")
    assert {"training.ema", "training.batch_size", "model.attention_dropout"} < set(space)
    for key, tried in space.items():
        held = tried.held(key, config)
        assert with_values(config, 1000, {key: held}, space) == config.model_copy(update={"seed": 1000})
        values = (0.3, 0.9) if isinstance(tried, Range) and tried.step else ()
        for value in values or getattr(tried, "options", {}):
            made = with_values(config, 1000, {key: value}, space)
            assert tried.held(key, made) == value
            changed = {name for name in keys_of(key, tried) if value_at(made, name) != value_at(config, name)}
            assert bool(changed) == (value != held)


def test_dropout_is_tried_in_steps_of_which_one_is_none(bench):
    bench.tune(12)
    for study in bench.studies().values():
        tried = {
            trial["values"][f"model.{name}_dropout"]
            for trial in study["trials"]
            for name in ("mlp", "attention")
        }
        assert tried <= {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
        assert 0.0 in {trial["values"]["model.mlp_dropout"] for trial in study["trials"][1:]}


@pytest.mark.parametrize(
    ("value", "inside"), [(0.0, True), (0.3, True), (0.25, False), (0.6, False), (-0.1, False)]
)
def test_a_range_in_steps_holds_the_steps(value, inside):
    assert (value in Range(0.0, 0.5, step=0.1)) == inside


def test_failed_trials_count_and_a_hopeless_arm_stops_nobody(bench):
    summary = bench.tune(5, failing=("dlm",))
    assert summary.done == 2
    failures = {f"dlm seed={seed}" for seed in (0, 1)}
    assert set(summary.failed) == failures
    study = bench.studies()["dlm"]
    assert (states(study), study["best"]) == (["failed"] * 5, None)
    reason = "not tuned: none of 5 tuning trials finished: exit code 1: no output"
    assert set(summary.failed.values()) == {reason}
    failure = {"outcome": "not tuned", "reason": reason, "log_tail": ""}
    assert read_json(bench.tree / "runs" / "dlm" / "seed=1" / "failure.json") == failure
    hopeless = [job for job in TreeStatus(bench.tree).jobs() if job.arm == "dlm"]
    assert [(job.state, job.failure) for job in hopeless] == [("failed", reason)] * 2
    assert not_tuned(bench) == [("dlm", seed, "FAIL", reason) for seed in (0, 1)]
    assert set(states(bench.studies()["ar"])) <= {"done", "ended early"}

    bench.tune(5, failing=("dlm",))
    assert len(not_tuned(bench)) == 2  # once told, it is not told again

    # The cause is mended: the same command starts that arm anew, and only that one.
    summary = bench.tune(5)
    assert (summary.done, summary.reused, summary.failed) == (2, 2, {})
    assert [job.state for job in TreeStatus(bench.tree).jobs()] == ["done"] * 4
    assert len(not_tuned(bench)) == 2
    assert not any(name.startswith("tuning/ar") for name in bench.started())
    assert "failed" not in states(bench.studies()["dlm"])


def test_an_arm_that_cannot_be_tuned_leaves_its_good_runs_in_place(bench):
    bench.tune(5)
    good = {path: path.read_bytes() for path in bench.tree.glob("runs/dlm/*/result.json")}
    assert len(good) == 2
    summary = bench.tune(5, plan=bench.plan(5, seed=1001), failing=("dlm",))
    assert set(summary.failed) == {"dlm seed=0", "dlm seed=1"}
    assert {path: path.read_bytes() for path in bench.tree.glob("runs/dlm/*/result.json")} == good
    assert [path.name for path in bench.tree.glob("runs/dlm/*")] == ["seed=0", "seed=1"]
    summary = bench.tune(5)
    assert (summary.reused, summary.done, bench.started()) == (4, 0, [])


def test_the_specification_is_stored_and_another_one_is_another_study(bench):
    bench.tune(4)
    study = bench.studies()["ar"]
    stored = bench.stored(study["study"]).user_attrs["specification"]
    spec = json.loads(json.dumps(Tuning(4, SPACE).spec()))
    assert stored.items() >= {name: value for name, value in spec.items() if name != "trials"}.items()
    assert read_json(bench.tree / "tuning.json")["specification"] == spec
    assert read_json(bench.tree / "plan.json")["tuning"] == spec
    bench.tune(4, plan=bench.plan(4, sampler_seed=1))
    assert bench.studies()["ar"]["study"] != study["study"]
    assert len(bench.stored(study["study"]).get_trials()) == 4
    assert bench.studies()["ar"]["trials"][1]["values"] != study["trials"][1]["values"]


def test_values_found_by_other_code_or_on_other_data_are_not_taken_over(bench):
    bench.tune(4)
    study = bench.studies()["ar"]["study"]
    plan = bench.plan(4)
    facts = DataFacts({**UNREAD.hashes, "train": "1" * 16}, WINDOWS * 16)
    changed_data = {cell.config.data: facts for cell in plan.cells}
    for changed in ({"code": "0" * 16}, {"data": changed_data}):
        bench.tune(4, plan=dataclasses.replace(plan, **changed))
        assert bench.studies()["ar"]["study"] != study
        assert len([name for name in bench.started() if name.startswith("tuning/ar/")]) == 4
        study = bench.studies()["ar"]["study"]


def test_seeds_are_added_look_by_look_at_each_arms_own_best(bench, monkeypatch):
    judged = []

    def decided(plan):
        judged.append(all(plan.job(cell).result() for cell in plan.cells))
        return len(plan.cells) == 6

    monkeypatch.setattr(lab.api, "_decided", decided)
    executor, places = FakeExecutor(), Places(cache=bench.folder / "cache")
    plans = [bench.plan(4, seeds) for seeds in (2, 3, 4)]
    summary = lab.api._drive(plans, executor, places, RunsProgress(bench.quiet()), TRIES)
    assert judged == [True, True]
    assert (summary.done, summary.reused) == (6, 0)
    assert len(read_json(bench.tree / "plan.json")["cells"]) == 6
    assert len(executor.started) == len(set(executor.started)) == 8 + 6


def test_what_an_arm_or_its_level_sets_is_not_tuned(bench):
    arms = {
        "ar": arm_values("ar"),
        "ar_dropout": {"factors": arm_values("ar")["factors"], "model": {"mlp_dropout": 0.25}},
        "dlm": arm_values("dlm"),
    }
    scale = Scale({"training.weight_decay": (0.1, 0.5)}, seeds=1, budget="no time")
    plan = bench.plan(2, tuned=("ar_dropout",), arms=arms, scale=scale)
    bench.tune(2, plan=plan)
    found = read_json(bench.tree / "tuning.json")["studies"]
    assert [(study["arm"], study["level"]) for study in found] == [
        ("ar_dropout", {"training.weight_decay": decay}) for decay in (0.1, 0.5)
    ]
    for study, decay in zip(found, (0.1, 0.5), strict=True):
        assert study["fixed"] == {"training.weight_decay": decay, "model.mlp_dropout": 0.25}
        assert set(study["best"]) == {"training.learning_rate", "model.attention_dropout"}
    name = "runs/ar_dropout/weight_decay=0.5/seed=1"
    config = load_config(bench.tree / name / "config.yaml")
    assert values_of(config, list(SPACE)) == found[1]["fixed"] | found[1]["best"]
    untuned = load_config(bench.tree / "runs/ar/weight_decay=0.5/seed=1/config.yaml")
    assert untuned.model.mlp_dropout == 0


def test_an_arm_that_sets_every_key_has_no_trials_and_runs_as_it_is(bench):
    plan = bench.plan(4, space={})
    assert bench.tune(4, plan=plan).done == 4
    assert all(study["trials"] == [] and study["best"] == {} for study in bench.studies().values())
    assert [cell["version"] for cell in read_json(bench.tree / "plan.json")["cells"]] == [
        plan.version(cell).digest() for cell in plan.cells
    ]


def test_a_start_outside_the_space_is_drawn_instead(bench):
    space = {"training.learning_rate": SPACE["training.learning_rate"], "model.mlp_dropout": Range(0.1, 0.5)}
    bench.tune(2, plan=bench.plan(2, space=space))
    first = bench.studies()["ar"]["trials"][0]["values"]
    assert first["training.learning_rate"] == 1e-3
    assert 0.1 <= first["model.mlp_dropout"] <= 0.5


def test_a_database_works_in_place_of_the_journal(make_bench):
    one, other = make_bench("journal"), make_bench("database")
    one.tune(6)
    other.tune(6, storage=f"sqlite:///{other.folder}/study.db")
    for made, expected in zip(other.studies().values(), one.studies().values(), strict=True):
        assert made["trials"] == expected["trials"]


def test_stops_are_read_in_the_headline_reading_while_the_run_writes(tmp_path):
    preset = {**LONG, "data": {"length": 16}}
    preset["evaluation"] |= {"choice_context_tokens": 8, "choice_option_tokens": 8}
    config = make_config(preset)
    assert stop_losses(config, WINDOWS, tmp_path).losses == ()
    other = make_config(preset, {"evaluation": {"validation_windows": 7}})
    rows = [
        stop_row(made, reading, step, 3.0 - step + (reading == "annealed") / 2 + 5 * (made is other))
        for made in (config, other)  # of other windows: no such number
        for step in (2, 1)
        for reading in ("along_run", "annealed")
    ]
    lines = [json.dumps(row) for row in [{"kind": "sample", "text": '"measured"'}, *rows]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"kind": "measured", "rea')
    found = stop_losses(config, WINDOWS, tmp_path)
    assert (found.losses, found.tokens_seen, found.last) == ((2.5, 1.5), (512, 1024), 5)
    cosine = make_config(preset, {"training": {"schedule": "cosine"}})
    assert stop_losses(cosine, WINDOWS, tmp_path).losses == (2.0, 1.0)
    assert (tmp_path / "metrics.jsonl").read_text().endswith('"rea')


def test_the_specification_is_checked():
    with pytest.raises(
        ValueError, match=r"`trials`, `round_size` and `patience` must be >= 1, .* trials=0, r"
    ):
        Tuning(0)
    with pytest.raises(ValueError, match=r"`sampler` must be 'tpe', but got sampler='grid'"):
        Tuning(4, sampler="grid")
    with pytest.raises(ValueError, match=r"the tuning runs, 1000, must not be a decisive one, .* 0..1000"):
        Tuning(4).check_seeds(range(1001))
    assert [Tuning(n).rounds for n in (1, 4, 5)] == [1, 1, 2]
    assert all(bounds.low < bounds.high for bounds in SPACE.values())


def test_a_plan_without_tuning_is_refused(bench):
    plan = bench.plan(4)
    plan = Plan(plan.tree, plan.ablation, plan.preset, plan.cells, plan.command)
    with pytest.raises(ValueError, match=r"`plan` must say how its arms are tuned, but .* has tuning=None"):
        drive_tuned(plan, None)


class Round:
    """One arm's study, whose runs end as the test says."""

    def __init__(self, bench, trials):
        self.plan = plan = bench.plan(trials)
        self.study = ArmStudy(plan, Ledger(plan.tree, "tiny"), plan.tuning, plan.cells[0], frozenset())

    def verdict(self, cell):
        return self.study.verdict(self.plan.job(cell))

    def run(self, cell, losses):
        """Leave the stops of a run, and its result if it has come to its end."""
        job = self.plan.job(cell)
        claim_version(job.logdir, job.run)
        steps = (1, 2, 4, 8, 16, 32)
        rows = [
            stop_row(cell.config, "annealed", step, loss) for step, loss in zip(steps, losses, strict=False)
        ]
        (job.logdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if len(losses) == 6:
            version = VersionRecord(values=dict(job.run.values), code=job.run.code)
            made = {"config": cell.config, "version": version, "evaluation": job.wanted}
            write_record(job.logdir / "result.json", result(stop(1, min(losses)), **made))


@pytest.mark.parametrize(
    ("losses", "stop"),
    [
        ([9.9, 9.9, 9.9, 9.0], None),  # slow, and not compared with anybody
        ([5.5, 9.9], None),
        ([5.5, 9.9, 5.6], 3),
        ([5.5, 9.9, 5.4, 9.9], None),  # once worse is not yet twice
        ([9.0, 5.5, 5.5, 5.5, 5.6], None),  # as good is not worse
        ([9.0, 8.0, 7.0, 7.1, 7.1, 1.0], 5),  # it recovered before anybody looked
        ([9.0, 8.0, 7.0, 6.0, 6.1, 6.1], None),  # at the last stop nothing is left to be saved
    ],
)
def test_a_run_ends_once_two_stops_in_a_row_are_worse_than_its_best(bench, losses, stop):
    made = Round(bench, 4)
    cell, *_ = made.study.ask(0)
    assert made.verdict(cell) == ""
    made.run(cell, losses)
    said = made.verdict(cell)
    assert said.startswith(f"ended at stop {stop} of 6 (") if stop else said == ""
    made.study.tell()
    told = made.study.rows()["trials"][0]
    if stop:
        assert (told["state"], told["stops"]) == ("ended early", stop)
        assert told["validation_nll"] == min(losses[:stop])
    else:
        assert told["state"] == ("done" if len(losses) == 6 else "failed")
