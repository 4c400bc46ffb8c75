"""A run that begins with the weights of another run's best stop."""

import os
import shutil
from types import SimpleNamespace

import pytest
from training_bench import numbers_of, tiny_config, weights_of_stops

from lab.data.dataset import prepare
from lab.evaluation.measurements import measure, yardstick
from lab.results import read_result
from lab.version import Version, digest, read_version

BASE = {
    "model": {"width": 8, "ffn_width": 12, "mlp_dropout": 0.1},
    "data": {"unique_tokens": 960},
    "training": {"total_steps": 12, "checkpoint_steps": 4},
    "evaluation": {"stops": 1, "sample_tokens": 0},
}
START_FROM = {"training": {"start_from": "ar"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, corpus, cache):
    """The finished run of the arm `ar`, and that of `dlm` which began from it, each made once."""
    from lab.training.run import train_run

    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(arm):
        if arm not in made:
            start = run("ar").logdir if arm == "dlm" else None
            config = tiny_config(arm, BASE, START_FROM if start else {}, corpus=corpus)
            result = train_run(config, folder / arm, cache, start=start)
            made[arm] = SimpleNamespace(config=config, logdir=folder / arm, cache=cache, result=result)
        return made[arm]

    return run


@pytest.fixture
def finished(runs):
    return runs("ar")


@pytest.fixture
def started(runs):
    return runs("dlm")


def test_at_step_0_it_has_exactly_the_measurements_of_the_stop(finished, started, tmp_path):
    from lab.evaluation.arm import Arm, make_scorer
    from lab.training.distribution import Ranks
    from lab.training.ending import Notice
    from lab.training.finished import load_start
    from lab.training.run import Run

    dataset = prepare(started.config.data, finished.cache)
    start = load_start(started.config, finished.logdir, Ranks(), dataset, finished.cache)
    version = read_version(started.logdir)
    run = Run(started.config, tmp_path / "run", dataset, version, Notice(), start)
    best = finished.result.best()
    scorer = make_scorer(run.engine.learner.transformer, finished.config)
    arm = Arm(finished.config, scorer, finished.result.reference(best))
    with run.records.board:
        rows = [measure(task, [arm], dataset) for task in yardstick(finished.config, "test")]
    assert rows == [row for row in best.measured if row.task.split == "test"]
    assert all(not slot.any() for path, slot in run.engine.state().items() if path.endswith("velocity"))


def test_the_record_and_the_key_name_what_it_began_from(finished, started):
    result = started.result
    assert read_result(started.logdir) == result
    assert result.parent == finished.result.reference(finished.result.best())
    assert result.version.values["training.start_from"] == "ar"
    assert result.version.values["start"] == digest([finished.result.run, finished.result.evaluation])
    assert read_version(started.logdir) == Version.of(
        started.config,
        result.data.hash,
        os.environ["KERAS_BACKEND"],
        result.version.code,
        result.version.values["start"],
    )


@pytest.mark.backend
def test_a_run_that_is_stopped_goes_on_to_the_numbers_of_an_undisturbed_one(
    finished, started, tmp_path, monkeypatch
):
    from lab.training.ending import Notice, PreemptedError
    from lab.training.run import Run, train_run

    logdir, notice, progress = tmp_path / "run", Notice(), Run._progress

    def ending(self, phase, step=None):
        progress(self, phase, step)
        if phase == "train" and step == 6:
            notice.give()

    monkeypatch.setattr(Run, "_progress", ending)
    with pytest.raises(PreemptedError):
        train_run(started.config, logdir, finished.cache, notice, start=finished.logdir)
    assert [path.name[-2:] for path in sorted((logdir / "checkpoints").glob("step-*"))] == ["04", "06"]
    monkeypatch.undo()
    result = train_run(started.config, logdir, finished.cache, start=finished.logdir)
    assert numbers_of(result) == numbers_of(started.result)
    assert weights_of_stops(logdir) == weights_of_stops(started.logdir)


def test_another_stop_without_a_checkpoint_begins_from_the_same_weights(finished, started, tmp_path, corpus):
    from lab.training.run import train_run

    shutil.copytree(started.logdir, tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("step-*"):
        shutil.rmtree(checkpoint)
    config = tiny_config("dlm", BASE, START_FROM, {"evaluation": {"stops": 2}}, corpus=corpus)
    results = [
        train_run(config, tmp_path / name, finished.cache, start=finished.logdir) for name in ("run", "whole")
    ]
    assert numbers_of(results[0]) == numbers_of(results[1])


@pytest.mark.parametrize(
    ("layer", "folder", "message"),
    [
        (START_FROM, None, r"`start` must be given with training\.start_from.* start=None, .*'ar'\."),
        ({}, "ar", r"`start` must be given with .* start='.*ar', training\.start_from=''\."),
        (START_FROM, "unfinished", r"unfinished must be the folder of a finished run, but there is none\."),
        (
            {**START_FROM, "data": {"tokenizer": "bpe:280"}},
            "ar",
            r"must be a run with the tokenizer bpe:280, but that of .*ar is bytes\.",
        ),
        (
            {**START_FROM, "model": {"ffn_width": 20}},
            "ar",
            r"must be a run with model\.ffn_width=20, but that of .*ar has model\.ffn_width=12\.",
        ),
        # Networks whose variables have the same paths and shapes.
        ({**START_FROM, "model": {"heads": 1}}, "ar", r"with model\.heads=1, but .* has model\.heads=2\."),
        (
            {**START_FROM, "model": {"rope_base": 500.0}},
            "ar",
            r"with model\.rope_base=500\.0, but .* has model\.rope_base=10000\.0\.",
        ),
        (
            {**START_FROM, "model": {"qk_norm": False}},
            "ar",
            r"with model\.qk_norm=False, but .* has model\.qk_norm=True\.",
        ),
        ({**START_FROM, "model": {"loops": 2}}, "ar", r"with model\.loops=2, but .* has model\.loops=1\."),
        (
            {**START_FROM, "data": {"length": 32}},
            "ar",
            r"weights that fit this run's model, but .*\(32, 8\).* it holds .*\(16, 8\)",
        ),
    ],
    ids=[
        *("no folder", "no arm", "not finished", "tokenizer", "width", "heads", "base", "norm", "loops"),
        "length",
    ],
)
def test_a_start_that_cannot_be_is_refused(finished, corpus, tmp_path, layer, folder, message):
    from lab.training.run import train_run

    start = folder and finished.logdir.parent / folder
    config = tiny_config("dlm", BASE, layer, corpus=corpus)
    with pytest.raises(ValueError, match=message):
        train_run(config, tmp_path / "run", finished.cache, start=start)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_dropout_may_be_another(finished, corpus):
    from lab.training.distribution import Ranks
    from lab.training.finished import load_start

    other = {"model": {"mlp_dropout": 0.0, "attention_dropout": 0.2}}
    config = tiny_config("dlm", BASE, START_FROM, other, corpus=corpus)
    dataset = prepare(config.data, finished.cache)
    assert load_start(config, finished.logdir, Ranks(), dataset, finished.cache).weights


def test_a_tokenizer_of_the_same_name_is_one_only_with_the_same_merges(tmp_path, corpus, cache):
    from lab.training.distribution import Ranks
    from lab.training.finished import load_start
    from lab.training.run import train_run

    bpe = {"data": {"tokenizer": "bpe:270"}, "training": {"total_steps": 2}}
    train_run(tiny_config("ar", BASE, bpe, corpus=corpus), tmp_path / "ar", cache)

    def start(folder):
        config = tiny_config("dlm", BASE, START_FROM, bpe, corpus=folder)
        dataset = prepare(config.data, cache)
        return dataset.hash, load_start(config, tmp_path / "ar", Ranks(), dataset, cache)

    more, other = tmp_path / "more", tmp_path / "other"
    shutil.copytree(corpus, more)
    (more / "more.txt").write_text("§", encoding="utf-8")  # in which no pair is frequent
    other.mkdir()
    for path in corpus.iterdir():
        text = path.read_text(encoding="utf-8").translate(str.maketrans("abcd", "efgh"))
        (other / path.name).write_text(text, encoding="utf-8")
    found = [start(folder) for folder in (corpus, more)]
    assert len({data_hash for data_hash, _ in found}) == 2
    assert all(begun.weights for _, begun in found)
    with pytest.raises(
        ValueError, match=r"with the same bpe:270, whose hash is \w+, but that of .*ar has \w+\."
    ):
        start(other)
