"""The tokenizer that travels with a model: the lab's own, or that of a checkpoint of another program."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lab.data.tokenizers import Tokenizer, dump_state, restore_tokenizer
from lab.files import read_json, write_atomic
from lab.results import DamagedError

STATE = "tokenizer_state.json"
FOREIGN = "tokenizer.json"  # as the `tokenizers` package serializes


class CheckpointTokenizer(Tokenizer):
    """Byte-level BPE of another program, whose ids lie where that program has them, the end among them.

    Args:
        serialized: as the `tokenizers` package writes it.
        end_id: the id that follows each document.
        vocab_size: ids of the model, of which some may stand for no text.

    Raises:
        ValueError: if it is no such text, is not byte-level, or has ids that the model has not.
    """

    def __init__(self, serialized: str, end_id: int, vocab_size: int) -> None:
        from tokenizers import Tokenizer as FastTokenizer

        try:
            self._tokenizer = FastTokenizer.from_str(serialized)
        except Exception as error:  # the package raises no narrower one
            raise ValueError(f"not a tokenizer of the `tokenizers` package ({error})") from None
        self._tokenizer.no_truncation()  # either may have been left on where it was saved
        self._tokenizer.no_padding()
        if "ByteLevel" not in json.dumps(json.loads(serialized).get("decoder")):
            raise ValueError("only byte-level tokenizers are implemented, and its decoder is another")
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if (most := max(vocabulary.values(), default=0)) >= vocab_size:
            raise ValueError(f"its ids go up to {most}, but the model's only to {vocab_size - 1}")
        self._serialized = serialized
        lengths = np.zeros(vocab_size, np.int32)
        added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        for token, index in vocabulary.items():  # the byte-level alphabet spells each byte by one character
            lengths[index] = len(token.encode()) if token in added else len(token)
        super().__init__("checkpoint", lengths[:-1])
        self.end_id = end_id
        self.byte_lengths = lengths
        self.byte_lengths[end_id] = 0

    @property
    def vocab_size(self) -> int:
        """How many ids the model has."""
        return len(self.byte_lengths)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, (n,) int32; what the tokenizer adds at its ends is left out."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def ended_by(self, end_id: int) -> "CheckpointTokenizer":
        """It with another end."""
        return CheckpointTokenizer(self._serialized, end_id, self.vocab_size)

    def id_of(self, token: Any) -> int | None:
        """The id of a token that is spelt so; None if there is none."""
        return self._tokenizer.token_to_id(token) if isinstance(token, str) else None

    def state(self) -> dict[str, Any]:
        """Its text, its end, and the ids of its model."""
        return {
            "kind": "checkpoint",
            "serialized": self._serialized,
            "end_id": self.end_id,
            "vocab_size": self.vocab_size,
        }


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write what restores it into a folder."""
    write_atomic(folder / STATE, dump_state(tokenizer).encode())


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder; a preset of keras_hub is there by name, and loaded at its first text.

    Raises:
        DamagedError: naming the file, if it is missing or not as written.
    """
    path = folder / STATE
    try:
        state = read_json(path)
        if state["kind"] == "checkpoint":
            return CheckpointTokenizer(state["serialized"], state["end_id"], state["vocab_size"])
        if state["kind"] not in ("bytes", "bpe", "preset"):
            raise ValueError(f"there is no tokenizer of kind {state['kind']!r}")
        return restore_tokenizer(state)
    except Exception as error:  # of many kinds: what is cut, of another type, or refused by its package
        raise DamagedError(f"{path}: not a tokenizer as the lab writes it ({error}).") from None


def read_foreign_tokenizer(folder: Path, vocab_size: int) -> CheckpointTokenizer:
    """The tokenizer of a checkpoint of another program, as if its last id were the end.

    Raises:
        ValueError: naming the file, and saying why it cannot be read.
    """
    path = folder / FOREIGN
    if not path.is_file():
        raise ValueError(f"{folder} has no {FOREIGN}.")
    try:
        return CheckpointTokenizer(path.read_text(encoding="utf-8"), vocab_size - 1, vocab_size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from None
