"""What the tests of evaluation share: tiny arms whose weights matter, rigged scorers, and texts."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from lab.arms import ARMS, arm_values
from lab.config import FactorsConfig, make_config
from lab.data.dataset import Dataset
from lab.data.tokenizers import ByteTokenizer
from lab.results import StopReference


def tiny_transformer(vocab_size=5, length=8, scale=15.0):
    from lab.models.architecture import Architecture
    from lab.models.transformer import Transformer

    architecture = Architecture(
        vocab_size=vocab_size, length=length, layers=1, width=8, heads=2, ffn_width=12
    )
    transformer = Transformer(architecture, seed=1)
    transformer.build()
    for variable in transformer.trainable_variables:
        variable.assign(variable.value * scale)
    return transformer


def scorer_of(arm, batch_size=16, **shape):
    from lab.evaluation.scorer import SlotScorer

    causal = FactorsConfig(**ARMS[arm]).compute == "causal"
    return SlotScorer(tiny_transformer(**shape), causal, batch_size)


def windows_of(count, vocab_size=5, length=8, seed=0):
    numbers = np.random.default_rng(seed)
    return numbers.integers(0, vocab_size, (count, length)).astype(np.int32)


def example_of(tokens, positions, target_positions):
    """What a network reads; the targets and weights count for nothing."""
    from lab.objectives.corruption import Example

    return Example(tokens, positions, target_positions, targets=None, weights=None)


def log_softmax(logits):
    """Of an array or a backend's tensor, in float64."""
    from keras import ops

    logits = ops.convert_to_numpy(logits).astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class RiggedScorer:
    """A scorer whose NLL is `rule(previous token, target)`; it keeps the examples and slots of each call."""

    block_size = 0

    def __init__(self, causal, rule, length=16, vocab_size=1000):
        self.causal = causal
        self.batch_size = 8
        self.transformer = SimpleNamespace(length=length, mask_id=vocab_size, vocab_size=vocab_size)
        self.rule = rule
        self.examples, self.slots = [], []

    def nll(self, example, slots):
        slots = np.broadcast_to(slots, (len(example.tokens), slots.shape[-1]))
        self.examples.append(example)
        self.slots.append(slots)
        targets = np.take_along_axis(example.targets, slots, axis=1)
        # The token before the scored one: in a causal stream it is in the scored slot.
        before = slots if self.causal else np.maximum(slots - 1, 0)
        previous = np.take_along_axis(example.tokens, before, axis=1)
        return np.broadcast_to(self.rule(previous, targets), targets.shape).astype(float)


class RiggedLogits:
    """A network to sample from whose logits a test gives by `one_batch(tokens, slots)`."""

    block_size = 0

    def __init__(self, causal, length, vocab_size, batch_size=128):
        self.causal, self.batch_size = causal, batch_size
        self.transformer = SimpleNamespace(length=length, mask_id=vocab_size, vocab_size=vocab_size)
        self.batches = []

    def logits(self, example, slots, batch_size):
        from lab.evaluation.scorer import SlotScorer

        return SlotScorer.logits(self, example, slots, batch_size)

    def _batches(self, inputs, batch_size):
        from lab.evaluation.scorer import SlotScorer

        return SlotScorer._batches(self, inputs, batch_size)

    def predict_on_batch(self, batch):
        self.batches.append({name: values.copy() for name, values in batch.items()})
        return self.one_batch(batch["tokens"], batch["slots"])


MEASURED = {
    "data": {"length": 16},
    "model": {"size": "0.1m"},
    "training": {"total_steps": 1},
    "evaluation": {
        **{"validation_windows": 5, "validation_positions": 2, "test_windows": 9, "test_positions": 4},
        **{"exact_windows": 3, "nelbo_draws": 4, "batch_size": 8},
        **{"choice_items": 3, "choice_options": 4, "choice_context_tokens": 8, "choice_option_tokens": 4},
    },
    "inference": {
        **{"prompts": 5, "samplers": ["ancestral", "blocks:4"], "temperatures": [0.05, 1.0]},
        **{"draws": [1, 3], "choice_items": 4},
    },
    "memorisation": {"windows": 6},
    "tasks": {"form": "choice", "files": [str(Path(__file__).with_name("questions.jsonl"))], "draws": 2},
    "infilling": {"windows": 8},
}
STOP = StopReference(run="run", reading="annealed", step=7)
TEXT = "".join(f"if value_{i}:\n    return {i}\nelse:\n    (\n# note {i}\n\n" for i in range(30))


def config_of(arm, *layers):
    return make_config(MEASURED, arm_values(arm), *layers)


def dataset_of(**splits):
    """Splits of tokens of bytes; one that is not given is empty."""
    arrays = {split: splits.get(split, np.zeros(0, np.uint16)) for split in ("train", "validation", "test")}
    hashes = {split: f"hash of {split}" for split in arrays}
    return Dataset(**arrays, tokenizer=ByteTokenizer(), hashes=hashes, statistics={})


def random_documents():
    """Documents of 1 to 40 bytes, each with its end."""
    numbers = np.random.default_rng(0)

    def split(documents):
        parts = []
        for _ in range(documents):
            parts += [numbers.integers(97, 123, numbers.integers(1, 41)), [ByteTokenizer().end_id]]
        return np.concatenate(parts).astype(np.uint16)

    return dataset_of(train=split(40), validation=split(20), test=split(30))


def text_dataset():
    tokens = np.append(ByteTokenizer().encode(TEXT), ByteTokenizer().end_id).astype(np.uint16)
    return dataset_of(train=tokens, validation=tokens, test=tokens)


def rigged_arm(arm, rule, *layers, stop=STOP):
    """An arm whose NLL is `rule(previous token, target)`."""
    from lab.evaluation.arm import Arm

    config = config_of(arm, *layers)
    causal = config.factors.compute == "causal"
    return Arm(config, RiggedScorer(causal, rule, config.data.length, vocab_size=257), stop)


def trained_arm(arm, *layers):
    """A tiny arm whose weights are no uniform predictor's."""
    from lab.evaluation.arm import Arm, make_scorer

    config = config_of(arm, *layers)
    transformer = tiny_transformer(vocab_size=257, length=config.data.length, scale=3.0)
    return Arm(config, make_scorer(transformer, config), STOP)


def task_of(tasks, measurement, **settings):
    """The one task of a measurement with these settings, too."""
    (task,) = (
        task
        for task in tasks
        if task.measurement == measurement and settings.items() <= task.settings.items()
    )
    return task


def ends_with(*sequences):
    """A stop condition: whether a continuation, (n,) int32, ends with one of some sequences of token ids."""
    return lambda continuation: any(tuple(continuation[-len(one) :]) == tuple(one) for one in sequences)
