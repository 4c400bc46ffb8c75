"""What becomes of a folder that holds another run than the one that is wanted; nothing computed is lost."""

import pytest

from lab.files import write_atomic, write_json
from lab.scheduling.keeping import make_way, take_back
from lab.version import Version, claim_version

WORK = ("result.json", "metrics.jsonl", "checkpoints/step-1/main.npz", "checkpoints/stops/a.npz")


@pytest.fixture
def jobs(bench):
    """One run at two settings, both with the same place."""
    plans = bench.plan(), bench.plan(overrides={"training": {"batch_size": 8}})
    return [plan.job(plan.cells[0]) for plan in plans]


def fill(job, *names):
    """A folder of a run that was started, with some work."""
    claim_version(job.logdir, job.run)
    for name in ("config.yaml", "log.txt", "failure.json", *names):
        write_atomic(job.logdir / name, b"{}\n")


def places(job):
    return sorted(path.name for path in job.logdir.parent.iterdir())


@pytest.mark.parametrize("work", WORK)
def test_a_run_of_another_version_is_moved_aside_and_never_deleted(jobs, work):
    old, new = jobs
    said = []
    fill(old, work)
    make_way(old, said.append)
    assert (said, places(old)) == ([], ["seed=0"])
    make_way(new, said.append)
    place = old.logdir.with_name(f"seed=0.{old.run.digest()}")
    assert places(old) == [place.name]
    assert (place / work).read_bytes() == b"{}\n"
    assert said == [f"{new.label}: training.batch_size (32 became 8); the old run is kept in {place}"]
    make_way(new, said.append)
    assert len(said) == 1


def test_a_second_move_takes_another_name(jobs):
    old, new = jobs
    for _ in range(2):
        fill(old, "metrics.jsonl")
        make_way(new, lambda _: None)
    assert places(old) == [f"seed=0.{old.run.digest()}", f"seed=0.{old.run.digest()}.2"]


def test_what_changed_since_a_run_is_said_with_both_values(jobs):
    (job, _), said = jobs, []
    values = {**job.run.values, "data": "old data", "training.batch_size": 7}
    del values["training.learning_rate"]
    claim_version(job.logdir, Version(values, "old code"))
    write_atomic(job.logdir / "metrics.jsonl", b"{}\n")
    make_way(job, said.append)
    (line,) = said
    for part in (
        "data (old data became )",
        "training.batch_size (7 became 32)",
        "training.learning_rate (none became 0.001)",
        " and code; the old run is kept in ",
    ):
        assert part in line


@pytest.mark.parametrize("version", ["missing", "damaged"])
@pytest.mark.parametrize("work", WORK)
def test_what_does_not_say_its_version_is_not_taken_for_todays(jobs, work, version):
    (job, _), said = jobs, []
    write_atomic(job.logdir / "config.yaml", job.config.to_yaml().encode())
    write_atomic(job.logdir / work, b"{}\n")
    if version == "damaged":
        write_atomic(job.logdir / "version.json", b'{"values"')
    make_way(job, said.append)
    assert places(job) == ["seed=0.unknown"]
    assert said[0].startswith(f"{job.label}: it does not say what it holds; the old run is kept in ")


@pytest.mark.parametrize("source", ["result.json", "checkpoints/step-4/state.json"])
def test_a_damaged_version_follows_from_the_result_or_a_checkpoint(jobs, source):
    (job, other), said = jobs, []
    version = {"values": dict(job.run.values), "code": job.run.code}
    write_json(job.logdir / source, {"version": version})
    write_atomic(job.logdir / "metrics.jsonl", b"{}\n")
    write_atomic(job.logdir / "version.json", b"")
    make_way(job, said.append)
    assert places(job) == ["seed=0"]
    make_way(other, said.append)
    assert places(job) == [f"seed=0.{job.run.digest()}"]


@pytest.mark.parametrize("known", [True, False])
def test_what_holds_nothing_computed_is_removed(jobs, known):
    old, new = jobs
    fill(old, "metrics.jsonl")
    (old.logdir / "metrics.jsonl").write_bytes(b"")
    (old.logdir / "checkpoints").mkdir()
    if not known:
        (old.logdir / "version.json").unlink()
    make_way(new, lambda _: pytest.fail("nothing was moved"))
    assert places(old) == []
    claim_version(new.logdir, new.run)


def test_a_kept_run_is_taken_back_and_what_has_its_place_is_kept(jobs):
    old, new = jobs
    said = []
    fill(old, "result.json")
    make_way(new, said.append)
    take_back(new, said.append)  # none of this version is kept
    fill(new, "metrics.jsonl")
    take_back(new, said.append)  # it is there already
    assert len(said) == 1
    kept = old.logdir.with_name(f"seed=0.{old.run.digest()}")
    take_back(old, said.append)
    assert places(old) == ["seed=0", f"seed=0.{new.run.digest()}"]
    assert (old.logdir / "result.json").exists()
    assert said[1:] == [
        f"{old.label}: training.batch_size (8 became 32); the old run is kept in "
        f"{new.logdir.with_name(f'seed=0.{new.run.digest()}')}",
        f"{old.label}: the run that was kept in {kept} is taken back",
    ]


def test_of_two_kept_runs_of_one_version_one_comes_back(jobs):
    old, new = jobs
    for _ in range(2):
        fill(old, "metrics.jsonl")
        make_way(new, lambda _: None)
    take_back(old, lambda _: None)
    assert len(places(old)) == 2
    assert "seed=0" in places(old)


def test_other_runs_folders_are_no_kept_ones(bench):
    plan = bench.plan(seeds=11)
    first, tenth = (next(cell for cell in plan.cells if cell.seed == seed) for seed in (1, 10))
    fill(plan.job(tenth), "result.json")
    take_back(plan.job(first), lambda _: pytest.fail("nothing is kept"))
    assert places(plan.job(tenth)) == ["seed=10"]
