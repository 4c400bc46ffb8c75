"""What sampled text is like, judged without a model: its diversity, its repetition, whether it is Python."""

import ast
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lab.config import NGRAM

# A line that opens or goes on with a block, decorates, or is a case parses only in such a frame.
_FRAMES = (
    ("", ""),
    ("", " pass"),
    ("if x: pass\n", " pass"),
    ("try: pass\n", " pass"),
    ("", "\ndef f(): pass"),
    ("match x:\n ", " pass"),
)


class ParseRate(NamedTuple):
    """How many lines of some texts parse.

    Attributes:
        lines: whole lines that were tried.
        parsed: those that are valid Python.
    """

    lines: int
    parsed: int


def unigram_entropy(texts: np.ndarray) -> np.ndarray:
    """The entropy of each text's own token frequencies, nats/token: the plug-in estimate.

    It stands for the entropy of the text as a whole, and sees neither order nor context. It is at most
    ln(length) and, as a short text shows only some of the tokens that might have come, too low by about
    (distinct tokens - 1) / (2 length) (Miller 1955), so that only equally long texts compare. It is not
    corrected for that: it serves to find texts that are equally varied, and is what others compare at.

    Args:
        texts: (count, length) int32.

    Returns:
        (count,) float64.

    Reference: Pynadath et al. 2026, arXiv:2604.02718, who compare at equal unigram entropy.
    """
    shares = [np.unique(text, return_counts=True)[1] / texts.shape[1] for text in texts]
    return np.array([-(own * np.log(own)).sum() + 0.0 for own in shares])  # + 0.0: none is minus 0


def distinct_ngrams(texts: np.ndarray, n: int = NGRAM) -> float:
    """Distinct n-grams over all n-grams of all texts together: distinct-n, in (0, 1]; higher is more diverse.

    It falls as more texts are counted, so only equal numbers of equally long texts compare.

    Args:
        texts: (count, length) int32.
        n: tokens an n-gram, at most the length.

    Reference: Li et al. 2016, arXiv:1510.03055, section 5.
    """
    grams = _ngrams(texts, n).reshape(-1, n)
    return len(np.unique(grams, axis=0)) / len(grams)


def repetition(texts: np.ndarray, n: int = NGRAM) -> np.ndarray:
    """The share of each text's n-grams that occurred before in the same text: seq-rep-n, in [0, 1).

    Args:
        texts: (count, length) int32.
        n: tokens an n-gram, at most the length.

    Returns:
        (count,) float64.

    Reference: Welleck et al. 2019, arXiv:1908.04319, section 6.
    """
    grams = _ngrams(texts, n)
    return np.array([1 - len(np.unique(own, axis=0)) / len(own) for own in grams])


def parse_rate(texts: Iterable[str]) -> ParseRate:
    """How many of the whole lines inside texts are Python on their own.

    A text that was cut anywhere has no whole first and last line, so these do not count, nor do blank lines
    and lines that are only a comment. A line may lack what stands around it: `else:` counts as valid. A part
    of a statement over several lines or of a docstring fails, in real code as in sampled code, so real code
    is the ceiling to compare with.
    """
    lines = [line.strip() for text in texts for line in text.split("\n")[1:-1]]
    lines = [line for line in lines if line and not line.startswith("#")]
    return ParseRate(len(lines), sum(_parses(line) for line in lines))


def _ngrams(texts: np.ndarray, n: int) -> np.ndarray:
    """(count, length - n + 1, n).

    Raises:
        ValueError: if the texts are shorter than n.
    """
    if texts.shape[1] < n:
        raise ValueError(f"texts must hold at least n={n} tokens, but got length {texts.shape[1]}.")
    return np.lib.stride_tricks.sliding_window_view(texts, n, axis=1)


def _parses(line: str) -> bool:
    for before, after in _FRAMES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes and comparisons in sampled text
            try:
                ast.parse(before + line + after)
            # ValueError: a null byte; the last two: nested too deep.
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            return True
    return False
