import numpy as np
import pytest
from evaluation_bench import RiggedScorer

from lab.arms import arm_values
from lab.config import make_config
from lab.data.dataset import Dataset
from lab.data.tokenizers import ByteTokenizer
from lab.evaluation.flops import forward_flops_per_token, shape_of
from lab.evaluation.yardstick import Yardstick, make_scorer

EVALUATION = {
    **{"validation_windows": 5, "test_windows": 9, "nelbo_draws": 4, "batch_size": 8},
    **{"choice_items": 3, "choice_options": 4, "choice_context_tokens": 8, "choice_option_tokens": 4},
}


def config(arm):
    layers = {"data": {"length": 16}, "training": {"total_steps": 1}, "evaluation": EVALUATION}
    return make_config(layers, {"model": {"size": "0.1m"}}, arm_values(arm))


def dataset():
    """Documents of 1 to 40 bytes, each with its end."""
    tokenizer = ByteTokenizer()
    numbers = np.random.default_rng(0)

    def split(documents):
        parts = []
        for _ in range(documents):
            parts += [numbers.integers(97, 123, numbers.integers(1, 41)), [tokenizer.end_id]]
        return np.concatenate(parts).astype(np.uint16)

    return Dataset(split(40), split(20), split(30), tokenizer, "hash", {})


DATA = dataset()


def nll_of(previous, target):
    return 0.5 + (target % 7) / 10


def measure(arm, split="validation", nll=nll_of):
    scorer = RiggedScorer(arm in ("ar", "any_order_ar"), nll, vocab_size=257)
    return Yardstick(config(arm), DATA).measure(scorer, split)


def windows_of_split(split, count):
    tokens = getattr(DATA, split)
    starts = [i * len(tokens) // count for i in range(count)]
    return np.array([tokens[start : start + 16] for start in starts], int)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
@pytest.mark.parametrize(("split", "count"), [("validation", 5), ("test", 9)])
def test_nll_and_bits_per_byte_are_sums_over_the_windows_by_hand(arm, split, count):
    """An end of a document costs nats and has no bytes."""
    windows = windows_of_split(split, count)
    nats = [[0.5 + (int(token) % 7) / 10 for token in window] for window in windows]
    bytes_ = sum(int(token) != 256 for window in windows for token in window)
    assert bytes_ < 16 * count
    found = measure(arm, split)
    assert found["nll"] == pytest.approx(np.mean(nats))
    by_window = np.mean(nats, axis=1)
    assert found["nll_standard_error"] == pytest.approx(np.std(by_window, ddof=1) / count**0.5)
    assert found["bits_per_byte"] == pytest.approx(np.sum(nats) / (np.log(2) * bytes_))


def test_eight_bits_a_byte_without_ends():
    """A uniform model over 256 bytes on text without ends needs 8 bits a byte."""
    from dataclasses import replace

    plain = replace(DATA, validation=DATA.validation[DATA.validation < 256])
    scorer = RiggedScorer(True, lambda previous, target: np.log(256.0), vocab_size=257)
    assert Yardstick(config("ar"), plain).measure(scorer, "validation")["bits_per_byte"] == pytest.approx(8)


def test_the_bound_is_for_arms_trained_on_orders_alone():
    assert {arm for arm in ("ar", "dlm", "suffix_denoiser", "any_order_ar") if "nelbo" in measure(arm)} == {
        "dlm",
        "any_order_ar",
    }
    uniform = measure("dlm", nll=lambda previous, target: 2.0)
    names = ("nelbo", "nelbo_example_standard_error", "nelbo_mask_standard_error")
    assert [uniform[name] for name in names] == pytest.approx([2.0, 0, 0], abs=1e-6)


def test_measuring_twice_gives_the_same():
    assert measure("dlm") == measure("dlm")


@pytest.mark.parametrize(
    ("arm", "rows"),
    [
        ("ar", 9 + 12),  # windows, options
        ("suffix_denoiser", 9 * 16 + 12 * 4),  # a row for each scored token
        ("dlm", 9 * 16 + 12 * 4 + 9 * 4),  # and the bound's draws
        ("any_order_ar", 9 + 12 + 9 * 4),
    ],
)
def test_flops_are_those_of_the_rows_that_are_scored(arm, rows):
    yardstick = Yardstick(config(arm), DATA)
    scorer = RiggedScorer(arm in ("ar", "any_order_ar"), nll_of, vocab_size=257)
    yardstick.measure(scorer, "test")
    assert sum(len(scored["tokens"]) for scored in scorer.rows) == rows
    a_pass = 16 * forward_flops_per_token(shape_of(config(arm).model), 16, 257, scorer.causal)
    assert yardstick.flops("test") == rows * a_pass


def test_the_scorer_is_the_arms():
    for arm, causal in (("ar", True), ("dlm", False)):
        scorer = make_scorer(None, config(arm))
        assert (scorer.causal, scorer.batch_size) == (causal, 8)


NOISES = {
    "ar": {
        "factors": {"input_noise": "mask:0-1", "attention_mask_dropout": 0.9, "passes": 2},
        "model": {"attention_dropout": 0.5, "mlp_dropout": 0.5},
    },
    "any_order_ar": {"factors": {"input_noise": "replace:1", "loss_on": "hidden", "redraw": "epoch"}},
    "dlm": {"factors": {"attention_mask_dropout": 0.9, "complementary": True, "redraw": "epoch"}},
    "suffix_denoiser": {"factors": {"attention_mask_dropout": 0.9, "noise_window": "fixed:0.15"}},
}


@pytest.mark.parametrize("arm", NOISES)
def test_no_noise_of_training_touches_the_yardstick(arm):
    """The same weights measure the same, whatever they were trained under."""
    from lab.training.build import build_transformer

    found = []
    for layer in ({}, NOISES[arm]):
        measured = make_config(config(arm).model_dump(mode="json", exclude_none=True), layer)
        transformer = build_transformer(measured, DATA.tokenizer.vocab_size)
        for weight in transformer.trainable_weights:
            weight.assign(10 * weight.value)
        found.append(Yardstick(measured, DATA).measure(make_scorer(transformer, measured), "validation"))
    assert found[0] == found[1]
    assert found[0]["nll"] > 6  # the weights are no uniform predictor's
