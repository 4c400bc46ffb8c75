"""Means over documents with their standard errors: the same of every arm, ensemble and n-gram."""

import numpy as np

from lab.data.held_out import HeldOut, document_means
from lab.results import Examples


def window_examples(metric: str, by_window: np.ndarray, held_out: HeldOut) -> Examples:
    """A metric by window, with the document that each is of."""
    documents = tuple(held_out.documents.tolist())
    return Examples(metric=metric, values=tuple(by_window.tolist()), documents=documents)


def over_documents(metric: str, by_window: np.ndarray, held_out: HeldOut) -> dict[str, float | None]:
    """The mean over documents of their windows' means, with its standard error over the documents.

    Args:
        metric: its key.
        by_window: (n,), in the metric's unit.
        held_out: the windows.

    Returns:
        `<metric>` and `<metric>_standard_error`.
    """
    means, _ = document_means(by_window, held_out.documents)
    return {metric: float(means.mean()), f"{metric}_standard_error": standard_error(means)}


def nll_values(by_window: np.ndarray, held_out: HeldOut, byte_lengths: np.ndarray) -> dict[str, float | None]:
    """The NLL of windows in all its units.

    Args:
        by_window: (n,) nats/token.
        held_out: the windows.
        byte_lengths: (vocab_size,) bytes that each id stands for.

    Returns:
        `nll`, nats/token, the mean over documents, with its standard error over them; `nll_by_token`, in
        which a document counts by its tokens; `bits_per_byte`, by the bytes of the same windows, each
        document counting once.
    """
    means, first = document_means(by_window, held_out.documents)
    bytes_per_token, _ = document_means(byte_lengths[held_out.windows].mean(axis=1), held_out.documents)
    return over_documents("nll", by_window, held_out) | {
        "nll_by_token": float(np.average(means, weights=held_out.lengths[first])),
        "bits_per_byte": float(means.mean() / (np.log(2) * bytes_per_token.mean())),
    }


def standard_error(values: np.ndarray) -> float | None:
    """Of the mean of independent values; None of a single one."""
    if len(values) == 1:
        return None
    return float(values.std(ddof=1) / np.sqrt(len(values)))
