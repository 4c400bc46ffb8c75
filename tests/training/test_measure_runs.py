"""What a run may be measured with: refused before weights are read, which the runs here have not."""

import pytest
from result_bench import result, stop
from training_bench import tiny_config

from lab.data.dataset import prepare
from lab.results import VersionRecord, write_record
from lab.training.measuring import measure_runs, measurement_of

INFERENCE = {"prompts": 4, "samplers": ["ancestral"], "temperatures": [1.0], "draws": [1], "choice_items": 3}
BPE = {"tokenizer": "bpe:260"}
SHORT = {"data": {"length": 8}, "evaluation": {"choice_context_tokens": 4}}


@pytest.fixture
def other_corpus(corpus, tmp_path):
    """The same documents in other letters."""
    folder = tmp_path / "other corpus"
    folder.mkdir()
    for path in corpus.glob("*.txt"):
        (folder / path.name).write_text(path.read_text().translate(str.maketrans("abcd", "wxyz")))
    return folder


@pytest.fixture
def finished(cache, tmp_path):
    """A finished run without weights."""

    def finished(name, corpus, *layers):
        config = tiny_config(
            "ar", {"data": {"unique_tokens": 960}, "inference": INFERENCE}, *layers, corpus=corpus
        )
        values = {**config.keyed_values(), "data": prepare(config.data, cache).hash}
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config.to_yaml())
        version = VersionRecord(values=values, code="c0de")
        write_record(folder / "result.json", result(stop(10, 2.0), config=config, version=version))
        return folder

    return finished


@pytest.fixture
def measured(cache, tmp_path):
    def measured(*runs):
        """What is said of it; runs that may be measured together lack their weights."""
        folder = tmp_path / "measured"
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            measure_runs(measurement_of("inference", folder, runs, {}), folder, cache)
        return str(refused.value)

    return measured


def test_a_judge_has_the_tokenizer_of_the_subject(corpus, other_corpus, finished, measured):
    subject, plain = finished("subject", corpus, {"data": BPE}), finished("plain", corpus)
    words = "judge must have the subject's tokenizer, {} with the same ids, but got {} with other ones."
    wrong = [
        (subject, finished("1/judge", other_corpus, {"data": BPE}), ("bpe:260", "bpe:260")),
        (subject, finished("2/judge", corpus), ("bpe:260", "bytes")),
        (plain, finished("3/judge", corpus, {"data": BPE}), ("bytes", "bpe:260")),
    ]
    for run, judge, names in wrong:
        assert measured(run, judge).endswith(words.format(*names))


def test_a_judge_of_the_same_ids_is_let_through(corpus, other_corpus, finished, measured):
    pairs = [
        (finished("a", corpus, {"data": BPE}), finished("b", corpus, {"data": BPE}, {"seed": 1})),
        (finished("c", corpus), finished("d", other_corpus)),
    ]
    for subject, judge in pairs:
        assert "expected the weights of a stop at" in measured(subject, judge)


def test_a_judge_reads_no_shorter_windows_than_the_subject(corpus, finished, measured):
    long, short = finished("long", corpus), finished("short", corpus, SHORT)
    message = "short must read windows of data.length=16, as the subject does, but got data.length=8."
    assert measured(long, short).endswith(message)
    assert "expected the weights of a stop at" in measured(short, long)


def test_what_is_judged_needs_a_judge_and_is_not_its_own(corpus, finished, measured, tmp_path):
    run = finished("run", corpus)
    message = (
        f"measurement=inference needs a judge: --with must name another finished run than {run}, but got "
    )
    assert measured(run) == f"{message}none."
    (tmp_path / "link").symlink_to(run)
    for judge in (run, tmp_path / "link"):
        assert measured(run, judge) == f"{message}that one."
    assert len(measurement_of("yardstick", tmp_path / "m", [run], {}).stops) == 1
