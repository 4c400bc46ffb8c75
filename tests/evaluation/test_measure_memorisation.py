import numpy as np
import pytest
from evaluation_bench import (
    STOP,
    RiggedLogits,
    RiggedScorer,
    config_of,
    random_documents,
    task_of,
    trained_arm,
)
from scipy.stats import binomtest

from lab.evaluation.arm import Arm
from lab.evaluation.flops import pass_flops
from lab.evaluation.inference_flops import InferenceCounter
from lab.evaluation.measure_memorisation import extracted, measure, rate_error
from lab.evaluation.measurements import memorisation, passes
from lab.evaluation.training_windows import training_room, training_windows

DATA = random_documents()
LAYER = {"data": {"unique_tokens": 500}, "memorisation": {"windows": 6}}


class Memory(RiggedLogits):
    """A network that knows every window by its first two tokens, and nothing of other text."""

    def __init__(self, causal, windows, certainty=30.0):
        super().__init__(causal, windows.shape[1], vocab_size=257)
        self.known = {tuple(window[:2]): window for window in windows}
        self.certainty = certainty

    def one_batch(self, tokens, slots):
        logits = np.zeros((*slots.shape, 257))
        for row, (text, own) in enumerate(zip(tokens, slots, strict=True)):
            # A causal stream begins with the start token, and slot i predicts token i.
            window = self.known.get(tuple(text[1:3] if self.causal else text[:2]))
            if window is not None:
                logits[row, np.arange(len(own)), window[own]] = self.certainty
        return logits


def memory_of(name, known, **values):
    config = config_of(name, LAYER)
    scorer = Memory(config.factors.compute == "causal", known, **values)
    return Arm(config, scorer, STOP)


@pytest.fixture(scope="module")
def known():
    return training_windows(config_of("ar", LAYER), DATA, 6)


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_what_knows_its_training_text_writes_all_of_it_and_no_other(name, known):
    arm = memory_of(name, known)
    tasks = [task for task in memorisation(arm.config) if task.measurement == "extraction"]
    ways = [(task.settings["sampler"], task.settings["steps"]) for task in tasks]
    dense = [("confidence", 4), ("confidence", 1), ("confidence", 2)]
    dense += [("blocks:1", 1), ("blocks:1", 2), ("blocks:1", 4)]
    assert ways == ([("left_to_right", 4)] if name == "ar" else dense)
    for task in tasks:
        found = measure(task, [arm], DATA)
        assert found.values["extraction_rate"] == 1.0
        assert found.values["extraction_rate_held_out"] == 0.0
        assert found.flops == passes(arm.config, task) * pass_flops(arm.config, 257)
        assert passes(arm.config, task) == 2 * 6 * task.settings["steps"]
        assert found.costs["flops"] > 0
    if name == "dlm":
        batches = sum(len(np.unique(batch["tokens"], axis=0)) for batch in arm.scorer.batches)
        assert batches <= sum(passes(arm.config, task) for task in tasks)


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_what_knows_nothing_writes_none(name, known):
    arm = memory_of(name, known[:0])
    for task in memorisation(arm.config):
        if task.measurement == "extraction":
            assert measure(task, [arm], DATA).values["extraction_rate"] == 0.0


def test_one_wrong_token_is_no_extraction(known):
    arm = memory_of("dlm", known)
    altered = known.copy()
    altered[0, 11] += 1  # the last of 4 tokens after a prompt of 8
    altered[1, 12] += 1  # after them
    found = extracted(arm, altered, 8, 4, "confidence", 4)
    assert found.tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize(("name", "passes_each"), [("ar", 1), ("dlm", 4)])
def test_the_nll_of_training_windows_is_the_yardsticks_on_them(name, passes_each):
    config = config_of(name, LAYER)
    scorer = RiggedScorer(name == "ar", lambda previous, target: 0.5 + (target % 7) / 10, 16, 257)
    task = task_of(memorisation(config), "train_nll")
    found = measure(task, [Arm(config, scorer, STOP)], DATA)
    windows = training_windows(config, DATA, 6)
    assert {tuple(own) for example in scorer.examples for own in example.targets} == set(map(tuple, windows))
    assert 0.5 < found.values["train_nll"] < 1.1
    assert found.values["train_nll_standard_error"] > 0
    assert passes(config, task) == 6 * passes_each
    assert found.flops == 6 * passes_each * pass_flops(config, 257)


def test_an_arm_of_blocks_is_charged_for_the_rows_and_blocks_that_it_passes():
    arm = trained_arm("dlm", {"factors": {"block": 4}}, LAYER)
    rows, real = [], arm.scorer.nll
    arm.scorer.nll = lambda example, slots: rows.append(len(example.tokens)) or real(example, slots)
    nll, extraction = memorisation(arm.config)
    found = measure(nll, [arm], DATA)
    assert found.flops == sum(rows) * pass_flops(arm.config, 257)
    assert sum(rows) < 6 * 4  # of 4 places of a window some are one row
    counter = InferenceCounter(arm.config.model, 16, 257, False, 4)
    steps = extraction.settings["steps"]
    cost = counter.per_generated_token(extraction.settings["prompt_tokens"], steps, steps)
    found = measure(extraction, [arm], DATA)
    assert found.costs == {"flops": cost.needed, "flops_computed": cost.computed}


def test_training_windows_are_of_the_budget_each_once_and_more_add_to_fewer():
    config = config_of("ar", LAYER, {"seed": 3})
    assert training_room(config, DATA) == 500 // 16
    every = training_windows(config, DATA, 31)
    assert len(set(map(tuple, every))) == 31
    assert (training_windows(config, DATA, 6) == every[:6]).all()
    train = DATA.train.tolist()
    assert all(any(train[i : i + 16] == own.tolist() for i in range(len(train))) for own in every)
    assert not (training_windows(config_of("ar", LAYER), DATA, 6) == every[:6]).all()  # another seed's budget
    with pytest.raises(
        ValueError, match=r"`count` must be in 1..31, .* length=16 of the budget, but got count=32"
    ):
        training_windows(config, DATA, 32)


def test_the_error_of_a_rate_is_the_binomials_and_never_0():
    found = np.arange(400) < 100
    assert rate_error(found) == pytest.approx(np.sqrt(0.25 * 0.75 / 400), rel=0.01)
    none = np.zeros(50, bool)
    assert rate_error(none) == pytest.approx(1 / (2 * 51), rel=1e-6)
    assert rate_error(~none) == pytest.approx(rate_error(none))
    # Half of an interval that holds the share of a Wilson interval of 68.27 %.
    interval = binomtest(0, 50).proportion_ci(0.682689492, method="wilson")
    assert rate_error(none) == pytest.approx(interval.high / 2, rel=1e-6)
