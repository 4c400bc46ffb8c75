"""The corpus as token arrays: read, deduplicated, split and tokenized once, then mapped from the cache."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lab.code import closure_hash
from lab.config import DataConfig
from lab.data.cache import is_intact, write_folder
from lab.data.corpora import Document, Source, find_sources, read_corpus
from lab.data.packages import describe_packages
from lab.data.pieces import pieces_of
from lab.data.shortage import counted, listed, remedy, suggest_characters
from lab.data.splits import SPLITS, split_documents
from lab.data.tokenizers import (
    Tokenizer,
    dump_state,
    find_tokenizer,
    restore_tokenizer,
    tokenizer_identity,
    train_bpe,
)

# Of the code that this process runs: read when it is imported, as an edit may come before it is used.
CODE_HASH = closure_hash("lab.data.dataset")

HASHES = "hashes.json"


@dataclass(frozen=True)
class Dataset:
    """A tokenized corpus.

    Attributes:
        train: (n,) uint16 or int32, mapped from disk: the documents, or their pieces (lab/data/pieces.py), in
            the order of their content's digest, each followed by `tokenizer.end_id`. The order depends on no
            seed.
        validation: the same for the validation split.
        test: the same for the test split.
        tokenizer: what made the ids.
        hashes: by split, 16 hex digits over its array and the tokenizer: equal where these are, wherever the
            text came from.
        statistics: counts, as JSON values: `files`, `documents_read`, and of these `documents_cut` into
            pieces of `document_characters`; from here on a piece counts as a document: `documents`, `tokens`
            and `bytes` by split, and over all of them `bytes_per_token`, `byte_coverage` (bytes by
            `byte_lengths` over bytes of text), `exact_duplicates_removed`, `near_duplicate_groups`,
            `near_duplicate_documents`. For corpus=packages also what `describe_packages` says.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    tokenizer: Tokenizer
    hashes: dict[str, str]
    statistics: dict[str, Any]

    @property
    def hash(self) -> str:
        """That of what a run trains on."""
        return self.hashes["train"]


def prepare(config: DataConfig, cache_dir: Path) -> Dataset:
    """The configured corpus as arrays, from the cache if they are there and intact.

    Several processes may prepare at once: one builds, the others wait and read.

    Raises:
        ValueError: if a file cannot be read, a split gets no document or not one window of tokens.
    """
    sources = find_sources(config)
    digests = {source: source.digest() for source in sources}
    key = cache_key(config, digests)
    dataset = _load(cache_dir, key)
    if dataset is None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"{key}.lock"):
            dataset = _load(cache_dir, key) or _build(config, cache_dir, key)
    if config.corpus == "packages":
        dataset.statistics.update(describe_packages({source.name: digests[source] for source in sources}))
    tokens = dataset.statistics["tokens"]
    short = [split for split in SPLITS if tokens[split] < config.length]
    if short:
        found = listed([f"{split} has {counted(tokens[split], 'token')}" for split in short])
        documents = read_corpus(config)
        raise ValueError(
            f"each split must hold one window of length={config.length} tokens, but {found}: the corpus has "
            f"{_corpus_size(documents, sources)}. {remedy(_suggest(config, documents))} "
            "A lower data.length helps too."
        )
    return dataset


def cache_key(config: DataConfig, digests: Mapping[Source, str]) -> str:
    """16 hex digits over all that may decide the arrays: sources, settings, and the code that makes them.

    The files count by their bytes, not by size and time: an edit can keep both, and copying a corpus to
    another machine changes the time alone. It costs one pass over the bytes (some 0.2 s for the default
    corpus, a second or two per GB). Names and places count for nothing, as they decide nothing.

    Args:
        config: the settings.
        digests: of every file's bytes.
    """
    identity = {
        "code": CODE_HASH,
        "sources": sorted((source.kind, digest) for source, digest in digests.items()),
        "text_field": config.text_field,
        "document_characters": config.document_characters,
        "tokenizer": tokenizer_identity(config.tokenizer),
        "validation_share": config.validation_share,
        "test_share": config.test_share,
    }
    return _digits(json.dumps(identity, sort_keys=True).encode())


def content_hashes(arrays: Mapping[str, np.ndarray], tokenizer: Tokenizer) -> dict[str, str]:
    """By split, 16 hex digits over its array and the tokenizer.

    Args:
        arrays: (n,) token ids by split.
        tokenizer: what made them. The name of its preset, which may be that of a folder, decides nothing.
    """
    state = json.dumps({key: value for key, value in tokenizer.state().items() if key != "name"}).encode()
    return {
        split: _digits(state, array.dtype.str.encode(), np.ascontiguousarray(array).view(np.uint8).data)
        for split, array in arrays.items()
    }


def _digits(*parts: "bytes | memoryview") -> str:
    """16 hex digits over parts, each told from the next by its length."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(f"{len(part)}\0".encode())
        hasher.update(part)
    return hasher.hexdigest()[:16]


def _load(cache_dir: Path, key: str) -> Dataset | None:
    folder = cache_dir / key
    if not is_intact(folder) or not (folder / HASHES).is_file():
        return None
    arrays = {split: np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False) for split in SPLITS}
    tokenizer = restore_tokenizer(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
    hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    return Dataset(**arrays, tokenizer=tokenizer, hashes=hashes, statistics=statistics)


def _build(config: DataConfig, cache_dir: Path, key: str) -> Dataset:
    tokenizer = find_tokenizer(config.tokenizer)
    documents, sources = read_corpus(config), find_sources(config)
    if cache_key(config, {source: source.digest() for source in sources}) != key:
        raise ValueError(
            f"the files of corpus={config.corpus} must stay as they are while they are read; try again."
        )
    divided = _divide(config, documents)
    if empty := [split for split in SPLITS if not divided.texts[split]]:
        raise ValueError(
            f"each split must get a document, but {listed(empty)} got none: the corpus has "
            f"{_corpus_size(documents, sources)}{_alike(divided)}. {remedy(_suggest(config, documents))}"
        )
    tokenizer = tokenizer or train_bpe(config.tokenizer, divided.texts["train"])
    arrays = {split: tokenize(tokenizer, texts) for split, texts in divided.texts.items()}
    statistics = {
        "files": len(sources),
        "documents_read": len(documents),
        "document_characters": config.document_characters,
        **divided.statistics,
        **_sizes(divided.texts, arrays, tokenizer),
    }

    def fill(folder: Path) -> None:
        for split, array in arrays.items():
            np.save(folder / f"{split}.npy", array, allow_pickle=False)
        (folder / "tokenizer.json").write_text(dump_state(tokenizer), encoding="utf-8")
        (folder / HASHES).write_text(json.dumps(content_hashes(arrays, tokenizer)), encoding="utf-8")
        (folder / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")

    write_folder(cache_dir / key, fill)
    dataset = _load(cache_dir, key)
    if dataset is None:
        raise OSError(f"{cache_dir / key}: what was written there reads back otherwise; is the disk sound?")
    return dataset


@dataclass(frozen=True)
class _Divided:
    """The texts of each split, how many documents and groups of near duplicates they are, and counts."""

    texts: dict[str, list[str]]
    distinct: int
    groups: int
    statistics: dict[str, int]


def _divide(config: DataConfig, documents: Sequence[Document]) -> _Divided:
    """Cut, deduplicate and split documents."""
    # It imports scipy, which a run that finds its data in the cache does not need.
    from lab.data.deduplication import deduplicate

    pieces = [pieces_of(document, config.document_characters) for document in documents]
    unique = deduplicate(piece for parts in pieces for piece in parts)
    splits = split_documents(unique, config.validation_share, config.test_share)
    sizes = Counter(item.group for item in unique)
    return _Divided(
        texts={split: [item.document.text for item in chosen] for split, chosen in splits.items()},
        distinct=len(unique),
        groups=len(sizes),
        statistics={
            "documents_cut": sum(len(parts) > 1 for parts in pieces),
            "exact_duplicates_removed": sum(map(len, pieces)) - len(unique),
            "near_duplicate_groups": sum(size > 1 for size in sizes.values()),
            "near_duplicate_documents": sum(size for size in sizes.values() if size > 1),
        },
    )


def _suggest(config: DataConfig, documents: Sequence[Document]) -> int | None:
    """A `document_characters` with which every split of these documents gets a window, if there is one."""

    def worth(characters: int) -> float:
        texts = _divide(config.model_copy(update={"document_characters": characters}), documents).texts
        if not all(texts.values()):
            return 0.0
        try:
            tokenizer = find_tokenizer(config.tokenizer) or train_bpe(config.tokenizer, texts["train"])
        except ValueError:  # too little text to train it on
            return 0.0
        tokens = {split: len(tokenize(tokenizer, chosen)) for split, chosen in texts.items()}
        if min(tokens.values()) < config.length:
            return 0.0
        total = sum(tokens.values())
        return min(
            tokens["validation"] / (config.validation_share * total),
            tokens["test"] / (config.test_share * total),
        )

    return suggest_characters(sum(len(document.text) for document in documents), config.length, worth)


def _corpus_size(documents: Sequence[Document], sources: Sequence[Source]) -> str:
    characters = sum(len(document.text) for document in documents)
    return (
        f"{counted(len(documents), 'document')} in {counted(len(sources), 'file')} "
        f"({counted(characters, 'character')})"
    )


def _alike(divided: _Divided) -> str:
    """How many documents a split can tell apart, where near duplicates must stay together."""
    if divided.groups == divided.distinct:
        return f", of which {divided.distinct:,} distinct"
    groups = counted(divided.groups, "group")
    return f", of which {divided.distinct:,} distinct in {groups} of near duplicates"


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """The texts' ids joined, each text followed by the end: (n,) uint16 if the ids fit, else int32."""
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32
    end = np.array([tokenizer.end_id], dtype=dtype)
    return np.concatenate([part for text in texts for part in (tokenizer.encode(text).astype(dtype), end)])


def _sizes(
    texts: dict[str, list[str]], arrays: dict[str, np.ndarray], tokenizer: Tokenizer
) -> dict[str, Any]:
    text_bytes = {split: sum(len(text.encode()) for text in chosen) for split, chosen in texts.items()}
    total = sum(text_bytes.values())
    token_bytes = sum(int(tokenizer.byte_lengths[array].sum(dtype=np.int64)) for array in arrays.values())
    return {
        "documents": {split: len(chosen) for split, chosen in texts.items()},
        "tokens": {split: len(array) for split, array in arrays.items()},
        "bytes": text_bytes,
        "bytes_per_token": total / sum(len(array) for array in arrays.values()),
        "byte_coverage": token_bytes / total,
    }
