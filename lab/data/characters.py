"""Text as it can be shown: up to the last whole character, where ids were cut anywhere, and without controls.

A token may be a part of a character: a byte, or what byte-level BPE splits. A module of its own, which no
corpus and no measured NLL depends on (lab/code.py).
"""

import unicodedata
from collections.abc import Sequence

import numpy as np

from lab.data.tokenizers import Tokenizer

BROKEN = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 4  # bytes of a character, so at most as many tokens


def decode_whole(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> str:
    """The text of ids without a character at its end of which bytes are missing.

    What is no UTF-8 elsewhere, or cannot become a character, is U+FFFD as ever.

    Args:
        tokenizer: what made the ids. Of a preset that is no byte-level BPE the text is left as it is.
        ids: (n,) int.
    """
    text = tokenizer.decode(ids)
    return text[:-1] if text.endswith(BROKEN) and _is_begun(tokenizer, ids) else text


def decode_behind(
    tokenizer: Tokenizer, before: Sequence[int] | np.ndarray, ids: Sequence[int] | np.ndarray
) -> str:
    """The text that ids add to that of the ids before them, in whole characters (`decode_whole`).

    A character of which these have only the first bytes is part of what is added.
    """
    shown = decode_whole(tokenizer, before)
    return decode_whole(tokenizer, np.concatenate([before, ids]).astype(int))[len(shown) :]


def safe_text(text: str) -> str:
    """A text that any storage, terminal and page takes: control characters and lone surrogates replaced."""
    kept = {"\n", "\t"}
    return "".join(BROKEN if unicodedata.category(c) in ("Cc", "Cs") and c not in kept else c for c in text)


def _is_begun(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> bool:
    """Whether the last character lacks bytes: then some byte goes into it and makes the text no longer.

    Behind a whole character, or bytes that cannot become one, each byte is another character or U+FFFD.
    """
    tail = [number for number in ids if number != tokenizer.end_id][-_LONGEST:]
    shown = len(tokenizer.decode(tail))
    every_byte = np.flatnonzero(tokenizer.byte_lengths == 1).tolist()
    return any(len(tokenizer.decode([*tail, byte])) == shown for byte in every_byte)
