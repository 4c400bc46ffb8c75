"""When a sampled continuation is whole: where its text holds a string, and at the end of a document."""

from collections.abc import Sequence

import numpy as np

from lab.data.characters import decode_behind
from lab.data.tokenizers import Tokenizer


class StopStrings:
    """Holds of a continuation whose text has one of some strings, and at the end of a document.

    The decoded text is what counts: a text has many tokenizations, so the ids that a tokenizer gives a
    string alone need not come where a model writes it, and it may begin or end inside a token.

    Args:
        tokenizer: of the model.
        strings: each of one character or more.

    Raises:
        ValueError: if a string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str]) -> None:
        if not all(strings):
            raise ValueError("a stop string must hold a character, but got an empty one.")
        self._tokenizer, self._strings = tokenizer, strings

    def __call__(self, continuation: np.ndarray) -> bool:
        """Whether it holds of a continuation, (n,) int32, n >= 1."""
        if continuation[-1] == self._tokenizer.end_id:
            return True
        text = self._tokenizer.decode(continuation)
        return any(string in text for string in self._strings)

    def text(self, continuation: np.ndarray, prompt: Sequence[int] | np.ndarray = ()) -> str:
        """The text of a continuation in whole characters, up to the first of the strings.

        Args:
            continuation: (n,) int32; its last token may have gone beyond the string.
            prompt: what it continues, whose last character it may complete.
        """
        return self.cut(decode_behind(self._tokenizer, prompt, continuation))

    def cut(self, text: str) -> str:
        """A text up to the first of the strings."""
        places = [text.find(string) for string in self._strings]
        return text[: min((place for place in places if place >= 0), default=len(text))]
