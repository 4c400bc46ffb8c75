"""Tokenizers: bytes, byte-level BPE trained on the training split, and keras_hub presets.

Ids run from 0 to `vocab_size` - 1. The last is the end-of-document id, which no text encodes to. The mask id
is not among them: a model that masks uses `vocab_size` itself.
"""

import hashlib
import importlib.metadata
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

MOST_TOKENS = 1_000_000  # of a tokenizer that is trained
_WEIGHT_SUFFIXES = {".h5", ".safetensors", ".bin"}


class Tokenizer(ABC):
    """Text to ids and back.

    Attributes:
        name: what the configuration calls it.
        end_id: the id that follows each document, `vocab_size` - 1.
        byte_lengths: (vocab_size,) int32, the UTF-8 bytes each id stands for; 0 for the end.
        takes_parts: whether the ids of a text are those of its parts (lab/data/parts.py).
    """

    takes_parts = True

    def __init__(self, name: str, byte_lengths: Sequence[int] | np.ndarray) -> None:
        self.name = name
        self.end_id = len(byte_lengths)
        self.byte_lengths = np.append(byte_lengths, 0).astype(np.int32)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, the end included."""
        return self.end_id + 1

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, (n,) int32, without an end."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of texts, (n,) of any integers that hold them, each without an end."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def _decode(self, ids: list[int]) -> str:
        """The text of ids below `end_id`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that `restore_tokenizer` needs, as JSON values."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids, ends left out; bytes that form no UTF-8 become U+FFFD.

        Raises:
            ValueError: if an id is not in [0, vocab_size).
        """
        array = np.asarray(ids, dtype=np.int64)
        if array.size and not (array.min() >= 0 and array.max() < self.vocab_size):
            raise ValueError(
                f"`ids` must be in [0, {self.vocab_size}), but got ids from {array.min()} to {array.max()}."
            )
        return self._decode(array[array != self.end_id].tolist())


class ByteTokenizer(Tokenizer):
    """Every UTF-8 byte is a token."""

    def __init__(self) -> None:
        super().__init__("bytes", np.ones(256))

    def encode(self, text: str) -> np.ndarray:
        """The bytes of a text, (n,) int32."""
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The bytes of texts, (n,) uint8."""
        return [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]

    def _decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def state(self) -> dict[str, Any]:
        """Its kind alone."""
        return {"kind": "bytes"}


class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding, by the `tokenizers` package; loses nothing.

    Reference: Sennrich et al. 2016, arXiv:1508.07909; over bytes, Radford et al. 2019, section 2.2.
    """

    def __init__(self, serialized: str) -> None:
        from tokenizers import Tokenizer as FastTokenizer

        self._serialized = serialized
        self._tokenizer = FastTokenizer.from_str(serialized)
        size = self._tokenizer.get_vocab_size()
        # The byte-level alphabet spells each byte by one character.
        super().__init__(
            f"bpe:{size}", [len(str(self._tokenizer.id_to_token(index))) for index in range(size)]
        )

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, (n,) int32."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of texts, (n,) int32, each without an end, computed on all cores."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def state(self) -> dict[str, Any]:
        """Its vocabulary and merges."""
        return {"kind": "bpe", "serialized": self._serialized}


class PresetTokenizer(Tokenizer):
    """A keras_hub tokenizer; keras_hub is imported at the first text, so that a cached corpus needs none.

    `byte_lengths` is exact for byte-level BPE (GPT-2, Llama 3, ...). For other kinds it is the length that an
    id adds to decoded text: an id for part of a character counts as U+FFFD (3 bytes), and where encoding
    loses text (lower case, white space, unknown words) the lengths fall short of the text's. The statistic
    `byte_coverage` of a dataset says by how much. The preset's own end token is left as it is: a text may
    spell it, so the end of a document is an extra id. It takes whole texts alone.
    """

    takes_parts = False

    @cached_property
    def _layer(self) -> Any:
        return _load_layer(self.name)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, (n,) int32.

        Raises:
            ValueError: if the preset gives an id outside its vocabulary.
        """
        ids = np.asarray(self._layer.tokenize(text)).astype(np.int32)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.end_id):
            raise ValueError(
                f"tokenizer={self.name!r} must give ids in [0, {self.end_id}), "
                f"but got ids from {ids.min()} to {ids.max()}."
            )
        return ids

    def _decode(self, ids: list[int]) -> str:
        return str(self._layer.detokenize(ids)) if ids else ""

    def state(self) -> dict[str, Any]:
        """Its name and byte lengths; the preset itself stays where keras_hub finds it."""
        return {"kind": "preset", "name": self.name, "byte_lengths": self.byte_lengths[:-1].tolist()}


def tokenizer_identity(name: str) -> dict[str, str]:
    """What decides the ids that a tokenizer of this name gives, beside the training split.

    Cheap: it imports no tokenizer. For a preset in a folder it reads the files that are not weights; for any
    other preset it takes the name and keras_hub's version, which pins the built-in presets' versions. (A
    `kaggle://` or `hf://` address without a version is taken to stay as it is.)

    Raises:
        ValueError: if `bpe:N` has an N that no tokenizer can have.
    """
    if name == "bytes":
        return {"name": name}
    if name.startswith("bpe:"):
        return {"name": f"bpe:{_bpe_size(name)}", "tokenizers": importlib.metadata.version("tokenizers")}
    folder = Path(name)
    if not folder.is_dir():
        return {"name": name, "keras_hub": importlib.metadata.version("keras-hub")}
    hasher = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix not in _WEIGHT_SUFFIXES:
            hasher.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return {"preset": hasher.hexdigest()}


def known_vocab_size(name: str) -> int | None:
    """The ids that a tokenizer of this name has, the end included; None for a preset, which must be loaded.

    Raises:
        ValueError: if `bpe:N` has an N that no tokenizer can have.
    """
    if name == "bytes":
        return ByteTokenizer().vocab_size
    return _bpe_size(name) + 1 if name.startswith("bpe:") else None


def find_tokenizer(name: str) -> Tokenizer | None:
    """The tokenizer of a name, or None for `bpe:N`, which has to be trained.

    Raises:
        ValueError: if it is no name of a tokenizer, or its preset cannot be loaded.
    """
    if name == "bytes":
        return ByteTokenizer()
    if name.startswith("bpe:"):
        return None
    return PresetTokenizer(name, _preset_byte_lengths(_load_layer(name)))


def train_bpe(name: str, texts: Iterable[str]) -> BpeTokenizer:
    """Train byte-level BPE on texts; the same texts give the same tokenizer.

    Args:
        name: `bpe:N`; N tokens, the 256 bytes among them. The end-of-document id comes on top.
        texts: the training split's documents.

    Raises:
        ValueError: if the texts have too few different pairs for N tokens.
    """
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers import decoders, models, pre_tokenizers, trainers

    size = _bpe_size(name)
    tokenizer = FastTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != size:
        raise ValueError(
            f"tokenizer={name} needs more training text: it yields only {tokenizer.get_vocab_size()} tokens."
        )
    return BpeTokenizer(tokenizer.to_str())


def restore_tokenizer(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `state()` this is."""
    if state["kind"] == "bytes":
        return ByteTokenizer()
    if state["kind"] == "bpe":
        return BpeTokenizer(state["serialized"])
    return PresetTokenizer(state["name"], state["byte_lengths"])


def _bpe_size(name: str) -> int:
    number = name.removeprefix("bpe:")
    # Of a number of 4,301 digits `int` raises an error of its own.
    if not number.isdecimal() or len(number) > len(str(MOST_TOKENS)) or not 256 < int(number) <= MOST_TOKENS:
        raise ValueError(
            "`tokenizer` must be bpe:N with a whole number N > 256 (the bytes come first) and "
            f"<= {MOST_TOKENS:,}, but got tokenizer={name!r}."
        )
    return int(number)


def _load_layer(name: str) -> Any:
    try:
        import keras_hub

        layer = keras_hub.tokenizers.Tokenizer.from_preset(name)
    # A preset fails in many ways (no such name, no network, a damaged file), each with its own exception.
    except Exception as error:
        raise ValueError(
            "`tokenizer` must be bytes, bpe:N, or the name or folder of a keras_hub tokenizer preset, "
            f"but got tokenizer={name!r}, which did not load: {error}"
        ) from error
    if getattr(layer, "sequence_length", None):
        raise ValueError(
            f"tokenizer={name!r} must not cut or pad texts, "
            f"but it has sequence_length={layer.sequence_length}."
        )
    return layer


def _preset_byte_lengths(layer: Any) -> np.ndarray:
    """(n,) int32, the UTF-8 bytes that each id of a keras_hub tokenizer stands for."""
    import keras_hub

    size = int(layer.vocabulary_size())
    if isinstance(layer, keras_hub.tokenizers.BytePairTokenizer):
        vocabulary: dict[str, int] = layer.vocabulary
        lengths = np.zeros(max(size, max(vocabulary.values()) + 1), dtype=np.int32)
        special = set(layer.unsplittable_tokens or ())
        for token, index in vocabulary.items():
            # The byte-level alphabet spells each byte by one character; special tokens spell themselves.
            lengths[index] = len(token.encode()) if token in special else len(token)
        return lengths
    # After another token, because some kinds drop the space at the start of a text.
    anchor = int(np.asarray(layer.tokenize("a"))[0])
    alone, *texts = layer.detokenize([[anchor], *([anchor, index] for index in range(size))])
    added = [len(str(text).encode()) - len(str(alone).encode()) for text in texts]
    return np.maximum(added, 0).astype(np.int32)


def dump_state(tokenizer: Tokenizer) -> str:
    """A tokenizer's state as JSON text."""
    return json.dumps(tokenizer.state(), ensure_ascii=False)
