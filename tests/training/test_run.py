"""What one run writes, refuses and leaves alone."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_bench import DROPOUT, fit, numbers_of, rows_of, state_of, tiny_config, weights_of_stops

from lab.code import closure_hash
from lab.config import load_config, make_config
from lab.environment import available_cpus, cpu_model, versions
from lab.evaluation.flops import forward_flops_per_token, train_flops_per_token
from lab.evaluation.measurements import evaluation_digest, measure, yardstick
from lab.results import Measured, read_result
from lab.scheduling.outcomes import EXIT_CODES, Outcome, exit_code_of
from lab.scheduling.time_left import run_work
from lab.version import ENGINE, Version, read_version

NLL = {"nll", "nll_standard_error", "nll_by_token", "bits_per_byte"}
EXACT = {"nll_exact", "nll_exact_standard_error"}
METRICS = {
    *NLL,
    *("choice_accuracy", "option_gap", "choice_accuracy_standard_error", "option_gap_standard_error"),
    *(
        "choice_true_nll",
        "choice_wrong_nll",
        "choice_true_nll_standard_error",
        "choice_wrong_nll_standard_error",
    ),
}
BOUND = {"nelbo", "nelbo_example_standard_error", "nelbo_mask_standard_error"}
READINGS = ("annealed", "along_run")
STEPS = [25, 50, 100, 200]


@pytest.fixture(params=["ar", "dlm"])
def run(request, undisturbed):
    return undisturbed(request.param)


def test_the_result_says_what_was_run(run):
    from lab.data.dataset import prepare

    result = run.result
    assert read_result(run.logdir) == result
    assert load_config(run.logdir / "config.yaml") == result.config == run.config
    version = Version(result.version.values, result.version.code)
    assert version == Version.of(
        run.config, result.data.hash, os.environ["KERAS_BACKEND"], closure_hash(ENGINE)
    )
    assert read_version(run.logdir) == version
    assert result.evaluation == evaluation_digest(run.config, result.data.hashes)
    assert result.parent is None
    # token and target embeddings; projections of one block
    assert result.parameters == (258 + 16) * 16 + 4 * 16 * 16 + 3 * 16 * 32
    data = result.data
    assert (data.corpus, data.tokenizer, data.length, data.packages) == ("text", "bytes", 16, {})
    assert (data.unique_tokens, data.windows) == (960, 60)
    assert 0.98 < data.bytes_per_token < 1
    dataset = prepare(run.config.data, run.cache)
    assert data.train_tokens == len(dataset.train) > data.unique_tokens
    assert data.documents == {
        split: dataset.statistics["documents"][split] for split in ("validation", "test")
    }
    assert data.seen_tokens == {
        split: dataset.seen[split][getattr(dataset, split) != dataset.tokenizer.end_id].mean()
        for split in ("validation", "test")
    }
    assert data.seen_windows.keys() == data.seen_tokens.keys()


def test_the_result_says_what_it_was_computed_by_and_on(run):
    from lab.data.dataset import prepare

    process = run.result.process
    assert (process.backend, process.device) == (os.environ["KERAS_BACKEND"], "cpu")
    assert process.devices == {"parallel": "none", "count": 1, "data": 1, "model": 1, "processes": 1}
    assert (process.cpu, process.threads) == (cpu_model(), len(available_cpus()))
    assert process.versions == versions()
    assert process.population == ()
    assert run.result.data.hashes == prepare(run.config.data, run.cache).hashes
    assert run.result.data.hash == run.result.data.hashes["train"]


def test_each_stop_has_its_nll_in_both_readings(run):
    stops = run.result.stops
    assert [(stop.step, stop.reading) for stop in stops] == [
        (step, reading) for step in STEPS for reading in ("along_run", "annealed")
    ]
    per_token = train_flops_per_token(run.config.model.architecture(257, 16), run.config.arm == "ar")
    for stop in stops:
        assert stop.validation.keys() == NLL
        assert stop.start == stop.step - (stop.step // 5 if stop.reading == "annealed" else 0)
        assert stop.tokens_seen == stop.step * 4 * 16
        assert stop.epoch == stop.step * 4 / 60
        assert stop.train_flops == pytest.approx(stop.tokens_seen * per_token)
        examples = stop.examples("nll", "validation")
        assert np.mean(examples.values) == pytest.approx(stop.validation["nll"])
        assert len(examples.values) == 8


def test_the_best_stop_is_the_lowest_on_validation_and_it_and_the_last_are_tested(run):
    tested = set()
    metrics = METRICS | BOUND if run.config.arm == "dlm" else METRICS
    best = run.result.best()
    for reading in READINGS:
        stops = run.result.along(reading)
        lowest = min(stops, key=lambda stop: stop.validation["nll"])
        assert (run.result.best(reading), run.result.end(reading)) == (lowest, stops[-1])
        tested |= {(reading, lowest.step), (reading, stops[-1].step)}
    for stop in run.result.stops:
        expected = metrics if (stop.reading, stop.step) in tested else set()
        assert stop.test.keys() == (expected | EXACT if stop == best else expected)


def test_each_measurement_is_of_the_weights_of_its_stop_in_its_run(run):
    keys = [row.key for stop in run.result.stops for row in stop.measured]
    assert len(keys) == len(set(keys))
    for stop in run.result.stops:
        assert {row.stops for row in stop.measured} == {(run.result.reference(stop),)}


def test_flops_count_the_branches_and_every_measurement(run):
    result, causal = run.result, run.config.arm == "ar"
    architecture = run.config.model.architecture(257, 16)
    assert result.train_flops_per_token == train_flops_per_token(architecture, causal)
    assert result.forward_flops_per_token == forward_flops_per_token(architecture, causal)
    branches = 5 + 10 + 20 + 40
    assert result.train_flops == pytest.approx((200 + branches) * 64 * result.train_flops_per_token)
    # 8 windows, at 4 places; again at 8, and 8 items of 4 options, 4 tokens each, and 2 draws of each window;
    # 4 windows at all places.
    validation, test, exact = (8, 8 + 32, 4) if causal else (8 * 4, 8 * 8 + 32 * 4 + 8 * 2, 4 * 16)
    tested = sum(bool(stop.test) for stop in result.stops)
    passes = 8 * validation + tested * test + exact
    assert result.evaluation_flops == pytest.approx(passes * 16 * result.forward_flops_per_token)


def test_flops_count_every_pass_and_every_loop(undisturbed):
    run = undisturbed("causal_mechanisms")
    per_token = train_flops_per_token(run.config.model.architecture(257, 16), True)
    assert run.result.train_flops_per_token == per_token
    assert run.result.train_flops == pytest.approx(2 * (200 + 5 + 10 + 20 + 40) * 64 * per_token)
    for stop in run.result.stops:
        assert stop.tokens_seen == stop.step * 64  # the same sequences again are no more tokens
        assert stop.train_flops == pytest.approx(2 * stop.tokens_seen * per_token)


def test_stops_are_at_the_same_tokens_for_both_arms(undisturbed):
    places = [
        [(stop.reading, stop.tokens_seen, stop.epoch) for stop in undisturbed(arm).result.stops]
        for arm in ("ar", "dlm")
    ]
    assert places[0] == places[1]


def test_the_log_has_a_row_every_log_steps(run):
    rows = [row for row in rows_of(run.logdir) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(5, 201, 5))
    for row in rows:
        assert row["tokens_seen"] == row["step"] * 64
        assert row["learning_rate"] == pytest.approx(0.01)  # the branches' decay is not the main run's
        assert row["gradient_norm"] > 0
        assert row["tokens_per_second"] > 0
    assert rows[0]["train_loss"] == pytest.approx(np.log(257), rel=0.1)
    assert rows[-1]["train_loss"] < 3.5


def test_a_row_is_the_mean_of_its_updates_wherever_the_run_halts_between_them(corpus, cache, tmp_path):
    """Branches leave at 12, 24 and 48, stops are measured at 15 and 30, and checkpoints lie at 20 and 40."""
    from lab.training.run import train_run

    logged = {}
    for log_steps in (1, 7):
        layer = {"training": {"log_steps": log_steps}, "evaluation": {"sample_tokens": 0}}
        logdir = tmp_path / str(log_steps)
        train_run(tiny_config("ar", layer, corpus=corpus), logdir, cache)
        rows = [row for row in rows_of(logdir) if row["kind"] == "train"]
        logged[log_steps] = {row["step"]: row["train_loss"] for row in rows}
    assert logged[7] == {
        step: sum(logged[1][step - 6 + number] for number in range(7)) / 7 for step in range(7, 61, 7)
    }


def test_a_sample_goes_on_from_held_out_text(run):
    from lab.data.dataset import prepare

    held_out = prepare(run.config.data, run.cache).validation[:8]
    samples = [row for row in rows_of(run.logdir) if row["kind"] == "sample"]
    assert [(row["reading"], row["step"]) for row in samples] == [("annealed", step) for step in STEPS]
    for row in samples:
        assert row["text"].startswith(bytes(held_out.astype("uint8")).decode())
        assert len(row["text"]) > 8


def test_progress_goes_from_compiling_to_done_and_never_back(run):
    shares = [update["share"] for update in run.updates if "share" in update]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) == 1 + 200 + 75  # each update of the main run and of the branches moves it
    phases = [update["phase"] for update in run.updates if "phase" in update]
    assert (phases[0], phases[-1]) == ("compile", "done")
    assert set(phases[1:-1]) == {"train", "evaluate"}
    written = json.loads((run.logdir / "progress.json").read_text())
    assert {
        name: written[name] for name in ("phase", "share", "step", "total_steps", "epoch", "total_epochs")
    } == {
        **{"phase": "done", "share": 1.0, "step": 200, "total_steps": 200},
        **{"epoch": 200 * 4 / 60, "total_epochs": 200 * 4 / 60},
    }
    assert written.keys() >= {"tokens_per_second", "train_loss", "updated"}
    assert 0 < written["pace_seconds"] < 1.1 * written["seconds"]
    work = run.result.train_flops + run.result.evaluation_flops
    assert sum(run_work(run.result.config)) == pytest.approx(
        work, rel=0.3
    )  # which stop is best decides the rest
    training = run.config.training
    tokens = training.log_steps * training.batch_size * run.config.data.length
    trained = sum(tokens / row["tokens_per_second"] for row in rows_of(run.logdir) if row["kind"] == "train")
    assert trained < run.result.wall_seconds <= written["seconds"] < run.result.wall_seconds + 60


def test_a_finished_run_is_not_made_again(run, monkeypatch):
    from lab.training import run as module

    def refuse(*_):
        raise AssertionError("trained again")

    before = {path: path.stat().st_mtime_ns for path in run.logdir.rglob("*") if path.name != "config.yaml"}
    monkeypatch.setattr(module, "Run", refuse)
    assert module.train_run(run.config, run.logdir, run.cache) == run.result
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_a_finished_run_of_another_version_is_no_answer(run, tmp_path, monkeypatch):
    from lab.training import run as module

    logdir = tmp_path / "run"
    shutil.copytree(run.logdir, logdir)
    monkeypatch.setattr(module, "CODE_HASH", "other")
    with pytest.raises(ValueError, match=r"this changed: code\. Give another folder"):
        module.train_run(run.config, logdir, run.cache)


def test_the_folder_of_another_configuration_is_refused(run):
    from lab.training.run import train_run

    other = make_config(
        run.config.model_dump(mode="json", exclude_none=True), {"seed": 1, "model": {"loops": 2}}
    )
    message = r"this changed: model\.loops \(none became 2\) and seed \(0 became 1\)\. Give another folder"
    with pytest.raises(ValueError, match=message):
        train_run(other, run.logdir, run.cache)
    assert load_config(run.logdir / "config.yaml") == run.config


def test_measuring_and_branching_leave_the_training_alone(undisturbed):
    """The same updates made by hand, with no stop in between, give every stop's number bit for bit."""
    from lab.data.budget import budget
    from lab.data.dataset import prepare
    from lab.data.windows import TrainingWindows
    from lab.evaluation.arm import Arm, make_scorer
    from lab.training.build import build_learner
    from lab.training.schedule import Decay
    from lab.training.variables import assign_variables, read_variables

    run = undisturbed("dlm")
    dataset = prepare(run.config.data, run.cache)
    windows = TrainingWindows(budget(dataset.train, 960, 16, 0), 16, 4, run.config.seed)
    batches = [windows.batch(step)._asdict() for step in range(200)]
    learner = build_learner(run.config, dataset.tokenizer.vocab_size)
    state = {0: read_variables(state_of(learner))}
    for first, last in ((0, 40), (40, 50), (50, 200)):
        fit(learner, batches[first:last])
        state[last] = read_variables(state_of(learner))
    scorer = make_scorer(learner.transformer, run.config)
    stops = {(stop.reading, stop.step): stop for stop in run.result.stops}

    def measured(weights, stop, split):
        assign_variables(state_of(learner), weights)
        arm = Arm(run.config, scorer, run.result.reference(stop))
        return tuple(measure(task, [arm], dataset) for task in yardstick(run.config, split))

    def recorded(stop, split):
        return tuple(row for row in stop.measured if row.task.split == split)

    along, last = stops["along_run", 50], stops["along_run", 200]
    assert measured(state[50], along, "validation") == recorded(along, "validation")
    assert measured(state[200], last, "validation") == recorded(last, "validation")
    tested = recorded(last, "test")
    assert measured(state[200], last, "test")[: len(tested)] == tested != ()

    assign_variables(state_of(learner), state[40])
    learner.optimizer.set_decay(Decay(40, 50))
    fit(learner, batches[40:50])
    annealed = read_variables(state_of(learner))
    assert measured(annealed, stops["annealed", 50], "validation") == recorded(
        stops["annealed", 50], "validation"
    )
    assert stops["annealed", 50].validation != along.validation


def test_the_weights_of_every_stop_are_kept_and_so_is_every_checkpoint(run):
    """They are small: `kept_megabytes` has room for them."""
    names = {f"{reading}-{step:012d}.npz" for reading in READINGS for step in STEPS}
    assert set(weights_of_stops(run.logdir)) == names
    steps = sorted(path.name for path in (run.logdir / "checkpoints").glob("step-*"))
    assert steps == [f"step-{step:012d}" for step in range(20, 201, 20)]


class LostPowerError(Exception):
    """The end of a process, as far as its files can tell."""


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    undisturbed, tmp_path, monkeypatch
):
    """Its stops after that checkpoint are measured again, and every number is as ever."""
    from lab.training.run import Run, train_run

    run = undisturbed("ar")
    logdir = tmp_path / "run"
    save = Run._save

    def save_and_stop(self):
        save(self)
        if self.step == 60:  # the stop at 50 is measured, and the branch that began towards it at 40
            raise LostPowerError

    monkeypatch.setattr(Run, "_save", save_and_stop)
    with pytest.raises(LostPowerError):
        train_run(run.config, logdir, run.cache)
    measured = [(row["reading"], row["step"]) for row in rows_of(logdir) if row["kind"] == "measured"]
    assert set(measured) == {(reading, step) for reading in READINGS for step in (25, 50)}
    (newest,) = (logdir / "checkpoints").glob("step-*60")
    shutil.copy(newest.parent / "step-000000000040" / "state.json", newest / "state.json")
    monkeypatch.setattr(Run, "_save", save)
    with pytest.warns(UserWarning, match=r"step-000000000060 is damaged"):
        result = train_run(run.config, logdir, run.cache)
    assert numbers_of(result) == numbers_of(run.result)
    places, expected = (
        [(row["kind"], row.get("reading"), row["step"]) for row in rows_of(folder)]
        for folder in (logdir, run.logdir)
    )
    assert places == expected


def test_a_stale_handle_ends_the_attempt_as_an_error_and_the_next_goes_on(corpus, cache, tmp_path, stale):
    from lab.training.run import train_run

    layers = {"training": {"total_steps": 2, "checkpoint_steps": 1}, "evaluation": {"stops": 1}}
    config = tiny_config("ar", layers, corpus=corpus)
    for name in ("config.yaml", "metrics.jsonl", "arrays", "result.json"):
        with stale(name), pytest.raises(OSError, match="Stale file handle") as caught:
            train_run(config, tmp_path, cache)
        assert exit_code_of(caught.value, on_cpu=True) == EXIT_CODES[Outcome.ERROR]
        at = Path(caught.value.filename)
        assert at.name == "arrays.npz" if name == "arrays" else at == tmp_path / name
        assert not (tmp_path / "result.json").exists()
    assert train_run(config, tmp_path, cache).config == config


def test_a_cosine_run_is_read_along_the_run_alone(corpus, cache, tmp_path):
    from lab.training.run import train_run

    config = tiny_config(
        "ar",
        {"training": {"schedule": "cosine", "total_epochs": 2, "accumulation": 2, "checkpoint_steps": 7}},
        {
            "data": {"unique_tokens": 330, "windows": "jittered"},
            "evaluation": {"stops": 2, "sample_tokens": 0},
        },
        corpus=corpus,
    )
    result = train_run(config, tmp_path, cache)
    assert result.data.unique_tokens == 320  # whole windows
    assert result.readings == ("along_run",)
    assert [(stop.reading, stop.step, stop.epoch) for stop in result.stops] == [
        ("along_run", 5, 1.0),
        ("along_run", 10, 2.0),
    ]
    assert result.train_flops == pytest.approx(2 * 320 * result.train_flops_per_token)
    rows = rows_of(tmp_path)
    assert {row["kind"] for row in rows} == {"train", "measured"}
    rates = {row["step"]: row["learning_rate"] for row in rows if row["kind"] == "train"}
    assert rates == {5: pytest.approx(0.01), 10: pytest.approx(0.01 * (1 + np.cos(np.pi * 4 / 5)) / 2)}


def test_a_run_with_patience_ends_soon_after_its_best(corpus, cache, tmp_path):
    from lab.training.run import train_run

    overfitting = {"data": {"unique_tokens": 64}, "evaluation": {"stops": 6, "sample_tokens": 0}}
    training = {"schedule": "cosine", "total_steps": 320, "learning_rate": 0.03}
    configs = [
        tiny_config("ar", overfitting, {"training": {**training, "patience": patience}}, corpus=corpus)
        for patience in (0, 1)
    ]
    whole, ended = (train_run(config, tmp_path / str(n), cache) for n, config in enumerate(configs))
    nll = [stop.validation["nll"] for stop in whole.stops]
    best = nll.index(min(nll))
    assert best < len(nll) - 2, nll  # it overfits, or there is nothing to see
    last = next(place for place in range(1, len(nll)) if nll[place] > min(nll[:place]))
    assert [stop.step for stop in ended.stops] == [stop.step for stop in whole.stops[: last + 1]]
    assert ended.train_flops == ended.end().train_flops < whole.train_flops
    assert ended.end().test.keys() == ended.best().test.keys() - {"nll_exact", "nll_exact_standard_error"}
    before = (tmp_path / "1" / "metrics.jsonl").read_bytes()
    assert train_run(configs[1], tmp_path / "1", cache) == ended
    assert (tmp_path / "1" / "metrics.jsonl").read_bytes() == before


def test_a_loss_that_is_not_finite_ends_the_run_with_the_step(corpus, cache, tmp_path):
    from lab.training.run import train_run

    config = tiny_config("ar", {"training": {"learning_rate": 1e15, "warmup_steps": 0}}, corpus=corpus)
    for _ in range(2):  # and again when it is started again
        with pytest.raises(
            ValueError, match=r"training loss must stay finite, but got loss .* at step \d+\."
        ):
            train_run(config, tmp_path, cache)
    assert not (tmp_path / "result.json").exists()
    assert not list((tmp_path / "checkpoints").glob("step-*"))
    assert all(np.isfinite(row["train_loss"]) for row in rows_of(tmp_path) if row["kind"] == "train")


def test_a_measurement_that_is_not_finite_ends_the_run(corpus, cache, tmp_path, monkeypatch):
    from lab.training import run as module
    from lab.training.ending import DivergedError

    def measure(task, *_):
        values = {"nll": float("nan"), "option_gap": 0.5, "parse_rate": None}
        return Measured.model_construct(task=task, values=values)

    monkeypatch.setattr(module, "measure", measure)
    with pytest.raises(
        DivergedError, match=r"on the validation split must be finite, but got \{'nll': nan\}"
    ):
        module.train_run(tiny_config("ar", {"training": {"total_steps": 4}}, corpus=corpus), tmp_path, cache)
    assert not (tmp_path / "result.json").exists()
    assert not [row for row in rows_of(tmp_path) if row["kind"] == "measured"]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            {"training": {"total_tokens": 20}},
            "the duration must be at least one step of 64 tokens, but got 20 tokens",
        ),
        ({"data": {"unique_tokens": 10**6}}, "`unique_tokens` must be in 1"),
        ({"evaluation": {"validation_windows": 10**5}}, "validation_windows=100000 takes 100,000 windows"),
        ({"evaluation": {"choice_items": 10**4}}, "choice_items=10000 takes 120,012 tokens of test"),
    ],
    ids=["no step", "budget", "windows", "items"],
)
def test_what_the_data_cannot_give_is_said_before_anything_is_compiled(
    corpus, cache, tmp_path, monkeypatch, layer, message
):
    from lab.training import engine
    from lab.training.run import train_run

    def refuse(*_):
        raise AssertionError("built a model")

    monkeypatch.setattr(engine, "build_learner", refuse)
    with pytest.raises(ValueError, match=message):
        train_run(tiny_config("ar", {"model": DROPOUT}, layer, corpus=corpus), tmp_path, cache)


def test_the_result_says_what_counting_gives_on_the_same_windows(run):
    from lab.data.dataset import prepare
    from lab.evaluation.baselines import measure_baselines

    made = run.result.baselines
    assert made == measure_baselines(run.config, prepare(run.config.data, run.cache), run.cache)
    assert [one.name for one in made] == ["n-gram", "unigram", "uniform"]
    assert made[0].settings["tokens"] == run.result.data.unique_tokens
    for split in ("validation", "test"):
        assert made[0].examples[split].documents == run.result.best().examples("nll", split).documents
