"""Which finished runs are measured with which, as jobs of the driver; with a stand-in for measuring."""

import json

import pytest
from ablation_bench import tiny_ablation
from result_bench import result, stop
from scheduling_bench import trials

from lab.ablation import Scale, cells, load_ablation
from lab.arms import arm_values
from lab.results import MeasurementResult, VersionRecord, read_record, write_record
from lab.scheduling.executors import process
from lab.scheduling.ledger.locks import sole_owner
from lab.scheduling.measuring import companions_of, measurement_jobs
from lab.scheduling.outcomes import Outcome
from lab.scheduling.plan import Plan


class Finished:
    """A planned tree of `inference-compute` at preset smoke, its runs finished by decree."""

    def __init__(self, folder):
        ablation = load_ablation("inference-compute")
        self.plan = Plan(folder / "tree", ablation, "smoke", cells(ablation, "smoke"), "command")
        self.said = []
        for cell in self.plan.cells:
            self.finish(cell)

    def finish(self, cell, nll=2.0):
        job = self.plan.job(cell)
        version = VersionRecord(values=dict(job.run.values), code=job.run.code)
        made = result(stop(10, nll), config=cell.config, version=version, evaluation=job.wanted)
        write_record(job.logdir / "result.json", made)

    def cell(self, arm, seed):
        return next(cell for cell in self.plan.cells if (cell.arm, cell.seed) == (arm, seed))

    def lose(self, arm, seed=None):
        for cell in self.plan.cells:
            if cell.arm == arm and seed in (None, cell.seed):
                (self.plan.logdir(cell) / "result.json").unlink()

    def jobs(self):
        """Job key -> the runs that it reads, the subject first."""
        self.said.clear()
        runs = self.plan.tree / "runs"
        return {
            job.key: [path.relative_to(runs).as_posix() for path in job.inputs]
            for job in measurement_jobs(self.plan, self.said.append)
        }

    def versions(self):
        return {job.key: job.version for job in measurement_jobs(self.plan)}


@pytest.fixture
def finished(tmp_path):
    return Finished(tmp_path)


def test_every_arm_but_the_judge_is_measured_by_the_judge_of_the_other_seed(finished):
    assert finished.jobs() == {
        f"measurements/inference/{arm}/seed={seed}": [f"{arm}/seed={seed}", f"judge/seed={1 - seed}"]
        for arm in ("ar", "dlm", "any_order_ar")
        for seed in (0, 1)
    }
    assert finished.said == []


def test_a_job_says_all_that_its_attempt_needs(finished):
    job = next(job for job in measurement_jobs(finished.plan) if "dlm" in job.key)
    assert (job.command, job.label) == ("measure", "measurements inference dlm seed=0")
    assert (job.arm, job.level, job.seed) == ("dlm", {}, 0)
    config = job.config
    assert (config.measurement, config.config) == ("inference", finished.cell("dlm", 0).config)
    assert [(job.logdir / one.run).resolve() for one in config.stops] == [p.resolve() for p in job.inputs]
    expected = [finished.plan.version(finished.cell(*run)).digest() for run in (("dlm", 0), ("judge", 1))]
    assert [one.version for one in config.stops] == expected
    assert {(one.reading, one.step) for one in config.stops} == {("annealed", 10)}


def test_unfinished_runs_are_passed_over_and_measured_when_they_are_there(finished):
    finished.lose("dlm", 1)
    assert len(finished.jobs()) == 5
    finished.finish(finished.cell("dlm", 1))
    assert "measurements/inference/dlm/seed=1" in finished.jobs()


def test_a_result_of_another_version_or_evaluation_is_no_finished_run(finished):
    cell = finished.cell("dlm", 0)
    for changed in ({"evaluation": "other"}, {"version": VersionRecord(values={}, code="")}):
        found = finished.plan.job(cell).result().model_copy(update=changed)
        write_record(finished.plan.logdir(cell) / "result.json", found)
        assert len(finished.jobs()) == 5
        finished.finish(cell)


def test_the_only_judge_judges_its_own_seed_too(finished):
    finished.lose("judge", 1)
    assert {runs[1] for runs in finished.jobs().values()} == {"judge/seed=0"}


def test_another_judge_means_another_measurement(finished):
    finished.lose("judge", 1)
    before = finished.versions()
    finished.finish(finished.cell("judge", 1))
    changed = [key for key, version in finished.versions().items() if version != before[key]]
    assert changed == [f"measurements/inference/{arm}/seed=0" for arm in ("ar", "dlm", "any_order_ar")]


def test_other_weights_mean_another_measurement(finished):
    before = finished.versions()
    cell = finished.cell("dlm", 0)
    found = finished.plan.job(cell).result()
    other = found.model_copy(update={"stops": (stop(20, 2.0),)})
    write_record(finished.plan.logdir(cell) / "result.json", other)
    changed = [key for key, version in finished.versions().items() if version != before[key]]
    assert changed == ["measurements/inference/dlm/seed=0"]


def test_without_a_judge_nothing_is_measured_and_it_is_said(finished):
    finished.lose("judge")
    assert finished.jobs() == {}
    assert "dlm seed=1: no run of judge is finished, so inference is not measured" in finished.said
    assert len(finished.said) == 6


def test_with_three_seeds_two_judges_each():
    ablation = load_ablation("inference-compute")
    planned = [(cell, None) for cell in cells(ablation, "smoke", seeds=3)]
    for cell, _ in planned:
        if cell.arm != "judge":
            assert [judge.seed for judge, _ in companions_of(cell, "judge", planned)] == [
                s for s in range(3) if s != cell.seed
            ]


def test_judges_are_of_the_same_level(bench):
    plan = judged_plan(bench, seeds=2)
    planned = [(cell, None) for cell in plan.cells]
    for cell, _ in planned:
        judges = [judge for judge, _ in companions_of(cell, "judge", planned)]
        assert [(judge.level, judge.seed) for judge in judges] == [(cell.level, 1 - cell.seed)]


def test_what_needs_no_other_arm_is_measured_of_every_arm(bench):
    plan = bench.plan(ablation=tiny_ablation(measurements={"yardstick": ""}))
    bench.drive(plan)
    jobs = list(measurement_jobs(plan))
    assert [job.arm for job in jobs] == ["ar", "dlm", "ar", "dlm"]
    assert [len(job.inputs) for job in jobs] == [1] * 4


# Driven, with a stand-in for measuring.


def judged_plan(bench, seeds=1, overrides=None):
    arms = {"judge": arm_values("ar"), "dlm": arm_values("dlm")}
    scale = Scale({"data.unique_tokens": (1000, 2000)}, seeds=1, budget="no time")
    measurements = {"inference": "judge"}
    changes = {"arms": arms, "sections": (), "scales": {"tiny": scale}, "measurements": measurements}
    return bench.plan(seeds, overrides, tiny_ablation(**changes))


def measured_trials(bench):
    """Job key -> the states of its trials in the study of the measurements, oldest first."""
    found = {}
    for trial in trials(bench.tree, "tiny-tiny-measurements"):
        found.setdefault(trial.user_attrs["key"], []).append(trial.state.name)
    return found


def folders(bench):
    return [bench.tree / f"measurements/inference/dlm/unique_tokens={u}/seed=0" for u in (1000, 2000)]


def tries(bench):
    return [len((folder / "tries").read_text().split()) for folder in folders(bench)]


def test_measurements_are_trials_of_a_study_beside_that_of_the_runs(bench):
    plan = judged_plan(bench)
    bench.drive(plan)
    before = trials(bench.tree)
    summary = bench.measure(plan)
    assert (summary.done, summary.reused, summary.failed) == (2, 0, {})
    assert trials(bench.tree) == before
    made = trials(bench.tree, "tiny-tiny-measurements")
    assert {trial.value for trial in made} == {1.5}  # the seconds that it took
    assert [trial.user_attrs["arm"] for trial in made] == ["dlm", "dlm"]
    for folder in folders(bench):
        found = read_record(MeasurementResult, folder / "result.json")
        assert found.measurement == "inference"
        assert len(found.rows) > 3
    assert "2/2 measurements" in bench.said.getvalue()


def test_a_second_time_nothing_is_left(bench):
    plan = judged_plan(bench)
    bench.drive(plan)
    bench.measure(plan)
    summary = bench.measure(plan)
    assert (summary.done, summary.reused, tries(bench)) == (0, 2, [1, 1])
    assert set(map(tuple, measured_trials(bench).values())) == {("COMPLETE",)}


def test_without_measurements_no_study_is_made(bench):
    bench.drive()
    assert bench.measure(bench.plan()).reused == 0
    with pytest.raises(KeyError):
        trials(bench.tree, "tiny-tiny-measurements")


def test_changed_settings_measure_again_in_the_same_folder_and_train_nothing(bench):
    plan = judged_plan(bench)
    changed = judged_plan(bench, overrides={"inference": {"prompts": 7}})
    bench.drive(plan)
    bench.measure(plan)
    assert bench.drive(changed).reused == 4
    assert bench.measure(changed).done == 2
    assert tries(bench) == [2, 2]
    assert [path.name for path in folders(bench)[0].parent.iterdir()] == ["seed=0"]
    versions = {trial.user_attrs["version"] for trial in trials(bench.tree, "tiny-tiny-measurements")}
    assert len(versions) == 4


def test_a_measurement_that_fails_once_is_tried_again(bench):
    bench.behave({"measure": "raise once"})
    plan = judged_plan(bench)
    bench.drive(plan)
    assert bench.measure(plan).done == 2
    assert set(map(tuple, measured_trials(bench).values())) == {("FAIL", "COMPLETE")}
    assert not any((folder / "failure.json").exists() for folder in folders(bench))


def test_a_measurement_that_fails_for_good_is_said_and_the_other_goes_on(bench):
    bench.behave({"measure dlm/1000/0": "raise"})
    plan = judged_plan(bench)
    bench.drive(plan)
    summary = bench.measure(plan, tries={Outcome.ERROR: 3})
    reason = "exit code 1: RuntimeError: no such luck"
    label = "measurements inference dlm unique_tokens=1000 seed=0"
    assert (summary.done, summary.failed) == (1, {label: reason})
    assert tries(bench) == [3, 1]
    assert json.loads((folders(bench)[0] / "failure.json").read_text())["reason"] == reason
    bench.behave({})
    assert bench.measure(plan).done == 1
    assert not (folders(bench)[0] / "failure.json").exists()


def test_a_measurement_that_hangs_is_ended_and_tried_again(bench, monkeypatch):
    bench.behave({"measure dlm/2000/0": "hang once"})
    plan = judged_plan(bench)
    bench.drive(plan)
    watch = process.ProcessGroup._watch

    def impatient_once_it_hangs(group):
        if (hung := group._logdir / "hung").exists():
            hung.unlink()
            group._stall_seconds = 0.5
        watch(group)

    monkeypatch.setattr(process.ProcessGroup, "_watch", impatient_once_it_hangs)
    assert bench.measure(plan).done == 2
    states = measured_trials(bench)
    assert [states[folder.relative_to(bench.tree).as_posix()] for folder in folders(bench)] == [
        ["COMPLETE"],
        ["FAIL", "COMPLETE"],
    ]
    assert "no progress for 0.5 s" in (folders(bench)[1] / "log.txt").read_text()


def test_a_damaged_measurement_is_named_and_made_again(bench):
    plan = judged_plan(bench)
    bench.drive(plan)
    bench.measure(plan)
    path = folders(bench)[0] / "result.json"
    path.write_text(path.read_text()[:50])
    summary = bench.measure(plan)
    assert (summary.done, summary.reused) == (1, 1)
    (said,) = (line for line in bench.said.getvalue().splitlines() if "result.json" in line)
    assert said.startswith(f"{path}: not JSON")
    assert said.endswith("It is made again.")


def test_a_tree_with_a_driver_is_left_alone(bench):
    plan = judged_plan(bench)
    bench.drive(plan)
    with sole_owner(bench.tree, "driver"), pytest.raises(ValueError, match="must have one driver at a time"):
        bench.measure(plan)
    assert not (bench.tree / "measurements").exists()


def test_a_database_keeps_both_studies(bench):
    storage = f"sqlite:///{bench.folder / 'study.db'}"
    plan = judged_plan(bench)
    bench.drive(plan, storage=storage)
    assert bench.measure(plan, storage=storage).done == 2
    assert bench.measure(plan, storage=storage).reused == 2
    assert bench.drive(plan, storage=storage).reused == 4
    assert not (bench.tree / "study.journal").exists()


def test_an_ensemble_is_measured_when_all_its_members_are_finished(tmp_path):
    arms = {"ar": arm_values("ar"), "dlm": arm_values("dlm")}
    scales = {"smoke": Scale({}, seeds=1, budget="seconds", members=3, twins=1)}
    ablation = tiny_ablation(arms=arms, sections=(), scales=scales, ensembles={"ar_ensemble": "ar"})
    made = Finished.__new__(Finished)
    made.plan = Plan(tmp_path / "tree", ablation, "smoke", cells(ablation, "smoke"), "command")
    made.said = []
    for cell in made.plan.cells:
        made.finish(cell)
    members = ["ar/seed=0", "ar/seed=0,member=1", "ar/seed=0,member=2"]
    assert made.plan.ensembles == {"ar_ensemble": "ar"}
    assert made.jobs() == {"measurements/ensemble/ar/seed=0": members}
    (made.plan.tree / "runs" / members[2] / "result.json").unlink()
    assert made.jobs() == {}
    assert made.said == ["ar seed=0: not every member of its ensemble is finished, so it is not measured"]
