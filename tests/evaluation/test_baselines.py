import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from lab.config import make_config
from lab.data.dataset import Dataset
from lab.data.held_out import dataset_windows
from lab.data.ngram import MAX_ORDER, fit
from lab.data.tokenizers import ByteTokenizer
from lab.evaluation import baselines
from lab.evaluation.baselines import measure_baselines

LENGTH, SPLITS = 16, ("train", "validation", "test")


def text_of(seed, documents=60):
    """Documents of a few repeated words, each followed by the end."""
    draw = np.random.default_rng(seed)
    words = np.array(["for ", "while ", "return ", "x = ", "y = ", "1\n", "2\n"])
    texts = ("".join(draw.choice(words, 20)).encode() for _ in range(documents))
    return np.concatenate([[*text, 256] for text in texts]).astype(np.uint16)


@pytest.fixture
def dataset():
    arrays = {split: text_of(seed) for seed, split in enumerate(SPLITS)}
    return Dataset(**arrays, tokenizer=ByteTokenizer(), hashes=dict.fromkeys(SPLITS, "h"), statistics={})


def config_of(**data):
    evaluation = {"validation_windows": 8, "test_windows": 12, "choice_context_tokens": 8}
    data = {"unique_tokens": 1000, "length": LENGTH} | data
    return make_config({"training": {"total_steps": 9}, "data": data, "evaluation": evaluation})


@pytest.fixture
def fits(monkeypatch):
    """How many tokens were counted, each time that some were."""
    calls = []

    def counting(tokens, *arguments):
        time.sleep(0.05)
        calls.append(len(tokens))
        return fit(tokens, *arguments)

    monkeypatch.setattr(baselines, "fit", counting)
    return calls


def test_they_are_measured_on_the_windows_of_the_arms(dataset, tmp_path):
    ngram, unigram, uniform = measure_baselines(config_of(unique_tokens=None), dataset, tmp_path)
    assert [one.name for one in (ngram, unigram, uniform)] == ["n-gram", "unigram", "uniform"]
    tokens = dataset.train[: len(dataset.train) // LENGTH * LENGTH]
    held_out = dataset_windows(dataset, "test", 12, LENGTH, 0)
    windows = held_out.windows
    nll = fit(tokens, 257, MAX_ORDER).nll_by_order(windows)
    for one, expected in ((ngram, nll[ngram.settings["order"] - 1]), (unigram, nll[0])):
        values, examples = one.values["test"], one.examples["test"]
        assert examples.values == pytest.approx(expected.mean(axis=1))
        assert values["nll"] == pytest.approx(expected.mean())
        window_bytes = (windows < 256).sum()
        assert values["bits_per_byte"] == pytest.approx(expected.sum() / math.log(2) / window_bytes)
        assert values["nll_standard_error"] == pytest.approx(np.std(examples.values, ddof=1) / 12**0.5)
        assert one.settings["tokens"] == len(tokens)
    assert ngram.values["test"]["nll"] < unigram.values["test"]["nll"] < uniform.values["test"]["nll"]
    assert uniform.values["validation"]["nll"] == pytest.approx(math.log(257))
    assert ngram.examples["test"].documents == tuple(held_out.documents)


def test_the_order_is_chosen_on_validation_and_never_on_test(dataset, tmp_path):
    config = config_of()
    plain = measure_baselines(config, dataset, tmp_path)[0]
    noise = np.random.default_rng(0).permutation(dataset.train)
    assert plain.settings["order"] > 1
    assert measure_baselines(config, replace(dataset, test=noise), tmp_path)[0].settings == plain.settings
    # Where tokens are in no order, contexts tell nothing of what follows.
    noisy = measure_baselines(config, replace(dataset, validation=noise), tmp_path)[0]
    assert noisy.settings["order"] == 1
    assert noisy.values["test"]["nll"] > plain.values["test"]["nll"]


def test_a_smaller_budget_counts_less_and_whole_windows(dataset, tmp_path):
    made = [measure_baselines(config_of(unique_tokens=u), dataset, tmp_path)[0] for u in (250, 1000)]
    assert [one.settings["tokens"] for one in made] == [240, 992]
    assert made[0].values["test"]["nll"] > made[1].values["test"]["nll"]
    for unique_tokens in (1000, None):
        capped = measure_baselines(config_of(unique_tokens=unique_tokens), dataset, tmp_path, most_tokens=250)
        assert capped[0] == made[0]


def test_arms_of_one_budget_compute_them_once(dataset, tmp_path, fits):
    first = measure_baselines(config_of(), dataset, tmp_path)
    assert measure_baselines(config_of(), dataset, tmp_path) == first
    assert fits == [992]
    for changed in (
        (config_of(unique_tokens=900), dataset),
        (config_of(), replace(dataset, train=text_of(9))),
        (config_of(), replace(dataset, validation=text_of(9))),
        (config_of(), replace(dataset, test=text_of(9))),
    ):
        before = len(fits)
        assert measure_baselines(*changed, tmp_path) != first
        assert len(fits) == before + 1


def test_processes_that_start_together_compute_them_once(dataset, tmp_path, fits):
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(measure_baselines(config_of(), dataset, tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fits) == 1
    assert made == [made[0]] * 4


def test_other_code_and_damaged_files_are_not_read(dataset, tmp_path, fits, monkeypatch):
    first = measure_baselines(config_of(), dataset, tmp_path)
    (path,) = tmp_path.glob("baselines-*.json")
    path.write_text(path.read_text()[:100])
    assert measure_baselines(config_of(), dataset, tmp_path) == first
    assert len(fits) == 2
    monkeypatch.setattr(baselines, "CODE_HASH", "other")
    measure_baselines(config_of(), dataset, tmp_path)
    assert len(fits) == 3
