"""What the arms are measured beside: what counting the same unique tokens predicts of the same held-out text.

An n-gram (lab/data/ngram.py), whose order is chosen on the validation windows, a unigram, which knows how
often tokens are, and the uniform distribution, which knows nothing. None of them is trained, and none is part
of a run's key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from pydantic import TypeAdapter

from lab.code import closure_hash
from lab.data.held_out import HeldOut, dataset_windows
from lab.data.ngram import MAX_ORDER, fit
from lab.evaluation.documents import nll_values, window_examples
from lab.evaluation.training_windows import MOST_TOKENS, unique_tokens
from lab.files import write_json
from lab.metrics import NLL
from lab.results import Baseline, BaselineName, Split

if TYPE_CHECKING:
    from lab.config import RunConfig
    from lab.data.dataset import Dataset

# Of the code that this process runs: read when it is imported, as an edit may come before it is used.
CODE_HASH = closure_hash("lab.evaluation.baselines")

SPLITS: tuple[Split, ...] = ("validation", "test")
_KEPT = TypeAdapter(tuple[Baseline, ...])


def measure_baselines(
    config: RunConfig, dataset: Dataset, cache_dir: Path, most_tokens: int = MOST_TOKENS
) -> tuple[Baseline, ...]:
    """N-gram, unigram and uniform distribution beside a run, from the cache if they are there.

    Args:
        config: the run's.
        dataset: its corpus.
        cache_dir: where they are kept, for the other arms of the same budget: under the digest of the tokens
            themselves, training and held-out, and of the code. Of several processes one computes.
        most_tokens: of a larger budget so many are counted: the smaller budget that is part of it.
    """
    tokens = unique_tokens(config, dataset, most_tokens)
    held_out = {split: _held_out(config, dataset, split) for split in SPLITS}
    key = _key(tokens, held_out, dataset)
    path = cache_dir / f"baselines-{key}.json"
    if (kept := _read(path)) is None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"baselines-{key}.lock"):
            if (kept := _read(path)) is None:
                kept = _measure(tokens, held_out, dataset)
                write_json(path, _KEPT.dump_python(kept, mode="json"))
    return kept


def _held_out(config: RunConfig, dataset: Dataset, split: Split) -> HeldOut:
    """The windows that the arms are measured on."""
    count = getattr(config.evaluation, f"{split}_windows")
    return dataset_windows(dataset, split, count, config.data.length, config.replicate)


def _key(tokens: np.ndarray, held_out: Mapping[Split, HeldOut], dataset: Dataset) -> str:
    """16 hex digits over all that the values follow from."""
    arrays = [tokens, *(array for one in held_out.values() for array in one), dataset.tokenizer.byte_lengths]
    hasher = hashlib.sha256(CODE_HASH.encode())
    for array in arrays:
        hasher.update(f"{array.shape}{array.dtype.str}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()[:16]


def _read(path: Path) -> tuple[Baseline, ...] | None:
    """What is kept; None if it is not there, or damaged."""
    try:
        return _KEPT.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _measure(tokens: np.ndarray, held_out: Mapping[Split, HeldOut], dataset: Dataset) -> tuple[Baseline, ...]:
    vocab_size, byte_lengths = dataset.tokenizer.vocab_size, dataset.tokenizer.byte_lengths
    model = fit(tokens, vocab_size, MAX_ORDER)
    by_order = {split: model.nll_by_order(one.windows) for split, one in held_out.items()}

    def values(nll: np.ndarray, split: Split) -> dict[str, float]:
        found = nll_values(nll.mean(axis=1), held_out[split], byte_lengths)
        return {metric: value for metric, value in found.items() if value is not None}

    order = int(np.argmin([values(nll, "validation")[NLL] for nll in by_order["validation"]])) + 1

    def baseline(name: BaselineName, nll: Mapping[Split, np.ndarray], **settings: int) -> Baseline:
        return Baseline(
            name=name,
            settings=settings,
            values={split: values(nll[split], split) for split in SPLITS},
            examples={
                split: window_examples(NLL, nll[split].mean(axis=1), one) for split, one in held_out.items()
            },
        )

    uniform = {split: np.full(one.windows.shape, np.log(vocab_size)) for split, one in held_out.items()}
    return (
        baseline(
            "n-gram",
            {split: nll[order - 1] for split, nll in by_order.items()},
            order=order,
            max_order=MAX_ORDER,
            tokens=len(tokens),
        ),
        baseline("unigram", {split: nll[0] for split, nll in by_order.items()}, tokens=len(tokens)),
        baseline("uniform", uniform),
    )
