"""A finished run is asked for again: only what is new is trained and measured."""

import json
import shutil
from types import SimpleNamespace

import pytest
from training_bench import numbers_of, rows_of, tiny_config, weights_of_stops

from lab.config import make_config
from lab.results import RESULT, read_result
from lab.tracking.records import METRICS
from lab.version import FILE

BASE = {
    "model": {"width": 8, "ffn_width": 12},
    "data": {"unique_tokens": 960},
    "training": {"total_steps": 40, "checkpoint_steps": 5},
    "evaluation": {"stops": 2, "sample_tokens": 0},  # at 20 and 40, and their branches from 16 and 32
}


@pytest.fixture
def work(monkeypatch):
    """What is done from now on: the stretches of updates, and what is measured of which stop."""
    from lab.training import run as module
    from lab.training.engine import Engine

    done = SimpleNamespace(fitted=[], measured=[])
    fit, measure = Engine.fit, module.measure

    def fitting(self, first, last, callbacks=()):
        done.fitted.append((first, last))
        fit(self, first, last, callbacks)

    def measuring(task, arms, dataset):
        stop = arms[0].stop
        done.measured.append((task.measurement, task.split, stop.reading, stop.step))
        return measure(task, arms, dataset)

    monkeypatch.setattr(Engine, "fit", fitting)
    monkeypatch.setattr(module, "measure", measuring)
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus, cache):
    """`finished(layer)`: a run that was made with this layer from the beginning, once for each."""
    from lab.training.run import train_run

    made = {}

    def run(*layers):
        name = json.dumps(layers)
        if name not in made:
            config = tiny_config("dlm", BASE, *layers, corpus=corpus)
            logdir = tmp_path_factory.mktemp("finished")
            made[name] = SimpleNamespace(
                config=config, logdir=logdir, result=train_run(config, logdir, cache), cache=cache
            )
        return made[name]

    return run


@pytest.fixture
def copied(tmp_path, work):
    """`copied(run)`: the same in another folder, to be worked on; the work begins."""

    def copy(run):
        shutil.copytree(run.logdir, tmp_path / "run")
        work.fitted.clear()
        work.measured.clear()
        return SimpleNamespace(**{**vars(run), "logdir": tmp_path / "run"})

    return copy


def again(run, *layers):
    """Ask for the run with other settings."""
    from lab.training.run import train_run

    config = make_config(run.config.model_dump(mode="json", exclude_none=True), *layers)
    return train_run(config, run.logdir, run.cache)


def all_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def values_of(result):
    """Stop -> split -> metric -> value."""
    return {
        (stop.reading, stop.step): {"validation": stop.validation, "test": stop.test} for stop in result.stops
    }


STOPS = [("annealed", 20), ("along_run", 20), ("annealed", 40), ("along_run", 40)]
MORE = {
    "test windows": ({"evaluation": {"test_windows": 12}}, {("nll", "test"), ("nelbo", "test")}),
    "choice items": ({"evaluation": {"choice_items": 6}}, {("choice", "test")}),
    "bound": ({"evaluation": {"nelbo_draws": 4}}, {("nelbo", "test")}),
}


@pytest.mark.parametrize(("layer", "expected"), MORE.values(), ids=MORE)
def test_another_evaluation_measures_what_is_new_and_trains_nothing(finished, copied, work, layer, expected):
    """The numbers are those of a run that was evaluated so from the beginning."""
    run = copied(finished({}))
    weights = {
        path: path.stat().st_mtime_ns for path in (run.logdir / "checkpoints").rglob("*") if path.is_file()
    }
    result = again(run, layer)
    assert work.fitted == []
    assert {(name, split) for name, split, *_ in work.measured} == expected
    assert len(work.measured) == len(set(work.measured))
    validated = {(reading, step) for _, split, reading, step in work.measured if split == "validation"}
    assert validated == (set(STOPS) if any(split == "validation" for _, split in expected) else set())
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    fresh = finished({}, layer).result
    assert numbers_of(result) == numbers_of(fresh)
    assert result != run.result


def test_asked_again_nothing_is_computed_and_the_result_stays(finished, copied, work):
    run = copied(finished({}))
    again(run, {"evaluation": {"test_windows": 12}})
    before = all_files(run.logdir)
    del work.measured[:]
    result = again(run, {"evaluation": {"test_windows": 12}})
    assert (work.fitted, work.measured) == ([], [])
    assert all_files(run.logdir) == before
    assert result == read_result(run.logdir)


def test_settings_that_decide_nothing_make_nothing_new(finished, copied, work):
    run = copied(finished({}))
    before = (run.logdir / RESULT).read_bytes()
    layer = {
        "training": {"log_steps": 3, "checkpoint_steps": 7, "kept_megabytes": 1.0},
        "evaluation": {"batch_size": 4},
        "inference": {"prompts": 3},
        "arm": "renamed",
    }
    assert again(run, layer) == run.result
    assert (work.fitted, work.measured) == ([], [])
    assert (run.logdir / RESULT).read_bytes() == before


def test_one_more_stop_trains_its_own_branch(finished, copied, work):
    """A stop at 10: its branch from 8, which the main run reaches from the checkpoint at 5."""
    run = copied(finished({}))
    before = weights_of_stops(run.logdir)
    logged = rows_of(run.logdir)
    result = again(run, {"evaluation": {"stops": 3}})
    assert work.fitted == [(5, 8), (8, 10), (8, 10)]  # along the run, in the branch, and along the run
    assert {(reading, step) for *_, reading, step in work.measured} == {("annealed", 10), ("along_run", 10)}
    assert {split for _, split, *_ in work.measured} == {"validation"}
    after = weights_of_stops(run.logdir)
    assert {name: after[name] for name in before} == before
    assert rows_of(run.logdir)[: len(logged)] == logged
    old, new = values_of(run.result), values_of(result)
    assert {stop: new[stop] for stop in old} == old
    fresh = finished({}, {"evaluation": {"stops": 3}})
    assert numbers_of(result) == numbers_of(fresh.result)
    assert after == weights_of_stops(fresh.logdir)
    assert [row["step"] for row in rows_of(run.logdir) if row["kind"] == "train"] == list(range(5, 41, 5))


def test_a_stop_between_others_and_another_evaluation_at_once(finished, copied, work):
    """Stops at 40 and 30 in place of 40 and 20; the one at 20 is forgotten, its weights are not."""
    run = copied(finished({}))
    layer = {"evaluation": {"stop_ratio": 4 / 3, "validation_windows": 6}}
    result = again(run, layer)
    assert work.fitted == [(20, 24), (24, 30), (24, 25), (25, 30)]
    assert {stop.step for stop in result.stops} == {30, 40}
    assert numbers_of(result) == numbers_of(finished({}, layer).result)
    assert {name for name in weights_of_stops(run.logdir) if "20" in name} != set()


KEPT_NOT = {"training": {"kept_megabytes": 0}}
# A run that has its best stop before its last: it learns one batch by heart.
BY_HEART = {
    "data": {"unique_tokens": 64},
    "training": {"learning_rate": 0.05},
    "evaluation": {"stops": 3},
}


def test_where_nothing_has_room_the_best_and_the_last_weights_are_kept(finished):
    run, other = finished(BY_HEART, KEPT_NOT), finished(BY_HEART)
    picked = [stop for reading in run.result.readings for stop in run.result.picked(reading)]
    assert run.result.best().step < run.result.end().step
    names = {f"{stop.reading}-{stop.step:012d}.npz" for stop in picked}
    assert set(weights_of_stops(run.logdir)) == names < set(weights_of_stops(other.logdir))
    assert not list((run.logdir / "checkpoints").glob("step-*"))
    assert numbers_of(run.result)["stops"] == numbers_of(other.result)["stops"]


@pytest.mark.parametrize(
    "layer", [{"evaluation": {"validation_positions": 2}}, {"evaluation": {"validation_windows": 6}}]
)
def test_what_was_not_kept_is_trained_again_for_another_evaluation(finished, copied, work, layer):
    run = copied(finished(BY_HEART, KEPT_NOT))
    result = again(run, layer)
    assert work.fitted != []
    assert numbers_of(result)["stops"] == numbers_of(finished(BY_HEART, layer).result)["stops"]
    assert len(weights_of_stops(run.logdir)) == len(weights_of_stops(finished(BY_HEART, KEPT_NOT).logdir))
    assert not list((run.logdir / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("key", ["test_windows", "test_positions", "exact_windows", "choice_items"])
def test_what_was_kept_of_little_room_is_measured_without_training(finished, copied, work, key):
    """The best and the last stop alone are measured on the test split."""
    run = copied(finished(BY_HEART, KEPT_NOT))
    layer = {"evaluation": {key: 6}}
    result = again(run, layer)
    assert work.fitted == []
    assert numbers_of(result)["stops"] == numbers_of(finished(BY_HEART, layer).result)["stops"]


def test_one_more_stop_where_no_checkpoint_was_kept_starts_from_the_beginning(finished, copied, work):
    run = copied(finished(KEPT_NOT))
    result = again(run, {"evaluation": {"stops": 3}})
    assert work.fitted == [(0, 5), (5, 8), (8, 10), (8, 10)]
    fresh = finished({}, {"evaluation": {"stops": 3}})
    assert numbers_of(result)["stops"] == numbers_of(fresh.result)["stops"]


def test_a_lost_sample_is_written_again(finished, copied, work):
    layer = {"evaluation": {"sample_tokens": 4}}
    run = copied(finished({}, layer))
    path = run.logdir / METRICS
    rows = path.read_text(encoding="utf-8").splitlines()
    samples = [row for row in rows if json.loads(row)["kind"] == "sample"]
    path.write_text("".join(f"{row}\n" for row in rows if row != samples[0]), encoding="utf-8")
    (run.logdir / RESULT).unlink()
    assert numbers_of(again(run)) == numbers_of(run.result)
    assert (work.fitted, work.measured) == ([], [])
    assert path.read_text(encoding="utf-8").splitlines()[-1] == samples[0]


def test_lost_weights_of_the_best_stop_are_made_again_where_the_result_is_gone(finished, copied, work):
    run = copied(finished({}))
    before = weights_of_stops(run.logdir)
    best = run.result.best()
    (run.logdir / "checkpoints" / "stops" / f"annealed-{best.step:012d}.npz").unlink()
    (run.logdir / RESULT).unlink()
    assert numbers_of(again(run)) == numbers_of(run.result)
    start = best.step * 4 // 5
    assert work.fitted[-1] == (start, best.step)
    assert work.measured == []
    assert weights_of_stops(run.logdir) == before


def cut(text):
    return text[: len(text) // 2]


@pytest.mark.parametrize("damage", ["deleted", "empty", "cut", "mistyped", "of another schema"])
def test_a_result_that_is_gone_or_damaged_is_made_again_without_training(finished, copied, work, damage):
    run = copied(finished({}))
    path = run.logdir / RESULT
    text = path.read_text(encoding="utf-8")
    if damage == "deleted":
        path.unlink()
        result = again(run)
    else:
        damaged = {
            "empty": "",
            "cut": cut(text),
            "mistyped": text.replace('"parameters": ', '"parameters": -0.5'),
            "of another schema": text.replace('"schema": 4', '"schema": 1'),
        }[damage]
        assert damaged != text
        path.write_text(damaged, encoding="utf-8")
        with pytest.warns(UserWarning, match=rf"{path}: .* It is made again\.") as warned:
            result = again(run)
        assert len(warned) == 1
        assert "\n" not in str(warned[0].message)
    assert (work.fitted, work.measured) == ([], [])
    assert numbers_of(result) == numbers_of(run.result)
    assert read_result(run.logdir) == result


LINES = {
    "empty": lambda row: "",
    "cut": cut,
    "mistyped": lambda row: row.replace('"values": {', '"values": 3, "x": {'),
    "no number": lambda row: row.replace('"step": ', '"step": "x", "y": '),
}


@pytest.mark.parametrize("damage", LINES)
def test_damaged_lines_of_the_log_are_measured_again_without_training(finished, copied, work, damage):
    run = copied(finished({}))
    path = run.logdir / METRICS
    sound = path.read_text(encoding="utf-8")
    rows = sound.splitlines()
    row = next(row for row in rows if '"nelbo"' in row)
    damaged = sound.replace(row, LINES[damage](row))
    assert damaged != sound
    path.write_text(damaged, encoding="utf-8")
    (run.logdir / RESULT).unlink()
    if damage == "empty":  # no line at all is no damaged one
        result = again(run)
    else:
        with pytest.warns(UserWarning, match=rf"{path}: 1 damaged lines are dropped; .* is measured again\."):
            result = again(run)
    assert work.fitted == []
    assert [name for name, *_ in work.measured] == ["nelbo"]
    assert numbers_of(result) == numbers_of(run.result)
    assert sorted(path.read_text(encoding="utf-8").splitlines()) == sorted(rows)


@pytest.mark.parametrize("text", [None, "", "[]\n3\n"])
def test_a_lost_log_is_measured_again_without_training(finished, copied, work, text):
    run = copied(finished({}))
    (run.logdir / METRICS).unlink()
    if text is not None:
        (run.logdir / METRICS).write_text(text)
    (run.logdir / RESULT).unlink()
    if text:
        with pytest.warns(UserWarning, match="2 damaged lines are dropped"):
            result = again(run)
    else:
        result = again(run)
    assert work.fitted == []
    assert numbers_of(result) == numbers_of(run.result)


@pytest.mark.parametrize("text", [None, "", '{"values": {"model.wid', '{"values": 3, "code": 4}'])
@pytest.mark.parametrize("witness", ["result", "checkpoint"])
def test_a_lost_or_damaged_version_is_made_again_from_what_is_sound(finished, copied, work, text, witness):
    run = copied(finished({}))
    sound = (run.logdir / FILE).read_bytes()
    (run.logdir / FILE).unlink()
    if text is not None:
        (run.logdir / FILE).write_text(text)
    if witness == "result":
        shutil.rmtree(run.logdir / "checkpoints")
    else:
        (run.logdir / RESULT).unlink()
    assert numbers_of(again(run)) == numbers_of(run.result)
    assert (work.fitted, work.measured) == ([], [])
    assert (run.logdir / FILE).read_bytes() == sound


def test_a_folder_that_does_not_say_its_version_is_never_adopted(finished, copied):
    run = copied(finished({}))
    (run.logdir / FILE).write_text("")
    (run.logdir / RESULT).unlink()
    shutil.rmtree(run.logdir / "checkpoints")
    before = all_files(run.logdir)
    with pytest.raises(ValueError, match=rf"{FILE} must say of which run .* move that one away\."):
        again(run)
    assert all_files(run.logdir) == before


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_damaged_weights_are_made_again_where_they_are_to_be_measured(finished, copied, work, damage):
    run = copied(finished({}))
    before = weights_of_stops(run.logdir)
    path = run.logdir / "checkpoints" / "stops" / "annealed-000000000040.npz"
    path.write_bytes({"empty": b"", "cut": path.read_bytes()[:500]}[damage])
    layer = {"evaluation": {"choice_items": 6}}
    with pytest.warns(UserWarning, match=rf"{path}: .* They are made again\."):
        result = again(run, layer)
    assert work.fitted == [(30, 32), (32, 40)]
    assert numbers_of(result) == numbers_of(finished({}, layer).result)
    assert weights_of_stops(run.logdir) == before
