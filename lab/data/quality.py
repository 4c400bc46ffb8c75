"""How good the text of a document is taken to be, and the tiers of the training split that follow.

A document is judged by a score or by the name of a tier, and all of a corpus by the one or the other. Scores
cut the training split into three tiers of about equal bytes. Which document is in which split depends on no
tier, and held-out text has no tiers: it is the same beside all of them.

Reference: Ni et al. 2025, arXiv:2511.03276, compare web text of low, medium and high quality; how they tell
it apart is not known here.
"""

import re
import sys
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import get_args

import numpy as np

from lab.config import JUDGED, DataConfig, Tier
from lab.data.records import Record
from lab.data.text_store import TextStore

TIERS: tuple[Tier, ...] = get_args(Tier)

Quality = float | Tier

_DOCUMENTATION = re.compile(r"(\"\"\"|''').*?\1|^[ \t]*#[^\n]*", re.DOTALL | re.MULTILINE)


def judged_by(config: DataConfig) -> str:
    """What says how good the text of a corpus is, in words; empty if nothing does."""
    if config.corpus in JUDGED:
        return "share of characters in comment lines and triple-quoted strings"
    return f"data.quality_field={config.quality_field}" if config.quality_field else ""


def documentation_share(source: str) -> float:
    """The share of the characters of Python source in comment lines and triple-quoted strings, in [0, 1].

    The more is documented, the better the text is taken to be: source with a fair share of comments and
    docstrings is what Ben Allal et al. 2023 (SantaCoder, arXiv:2301.03988) keep of theirs. It is read off the
    characters, so that every Python says the same.
    """
    return sum(len(found[0]) for found in _DOCUMENTATION.finditer(source)) / max(1, len(source))


class QualityField:
    """Reads the quality of records from a field: a finite number, spelled in a table, or the name of a tier.

    Args:
        field: its name; every record has it.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._first: tuple[str, str] | None = None  # what the first record has, and where it stands

    def __call__(self, record: Record) -> Quality:
        """The quality of a record.

        Raises:
            ValueError: naming the record, if it has neither, or not what the records before it have.
        """
        value = record.fields[self._field]
        if not record.typed:
            with suppress(ValueError):
                value = float(value)
        is_tier = value in TIERS
        is_score = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= sys.float_info.max
        )
        if not is_tier and not is_score:
            raise ValueError(
                f"{record.place}: expected a finite number or one of {list(TIERS)} in {self._field!r}, "
                f"but got {value!r}."
            )
        kind = "the name of a tier" if is_tier else "a number"
        self._first = first = self._first or (kind, record.place)
        if kind != first[0]:
            raise ValueError(
                f"{record.place}: expected {first[0]} in {self._field!r}, as in {first[1]}, "
                f"but got {value!r}."
            )
        return value if is_tier else float(value)


class Qualities:
    """The qualities of the texts of a store, in the order of their numbers. In memory are 8 bytes a text."""

    def __init__(self) -> None:
        self._values = array("d")  # scores, or places in TIERS
        self._named = False

    def append(self, quality: Quality | None) -> None:
        """Take that of the next text; None, as of all the others, if nothing judges it."""
        if quality is not None:
            self._named = isinstance(quality, str)
            self._values.append(TIERS.index(quality) if isinstance(quality, str) else quality)

    def tiers(self, kept: np.ndarray, chosen: Sequence[int], store: TextStore) -> np.ndarray | None:
        """The tiers of some texts, (n,) uint8, places in TIERS; None if nothing judges them.

        Args:
            kept: (all texts,) int, the one that was kept of each one's copies: the best of them counts.
            chosen: (n,) int, which of those that were kept.
            store: the texts.
        """
        if not self._values:
            return None
        best = np.full(len(self._values), -np.inf)
        np.maximum.at(best, kept, self._values)
        values = best[chosen]
        return values.astype(np.uint8) if self._named else thirds(values, [*map(store.size, chosen)])


def thirds(scores: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The tiers of texts, such that each holds about a third of their bytes.

    Texts of one score share a tier: that in which the middle of their bytes lies. So thirds are as equal as
    the scores allow, and where there are few different ones a tier may get nothing.

    Args:
        scores: (n,) float, higher is better.
        sizes: (n,) int, their bytes, >= 1.

    Returns:
        (n,) uint8, places in TIERS.
    """
    score = np.unique(scores, return_inverse=True)[1]
    size = np.bincount(score, sizes)
    middle = (np.cumsum(size) - size / 2) / size.sum()
    tiers: np.ndarray = (len(TIERS) * middle).astype(np.uint8)[score]
    return tiers
