"""Any text in the place of a corpus's test split, by the corpus's own tokenizer."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab.config import DataConfig
from lab.data.corpora import Document, find_files, read_corpus
from lab.data.dataset import Dataset, tokenize
from lab.data.documents import documents_of
from lab.data.overlaps import seen_tokens
from lab.data.pieces import pieces_of


class OtherText(NamedTuple):
    """A text to measure.

    Attributes:
        dataset: the corpus with the text for its test split, of which nothing is left out as seen.
        config: how it was read.
        documents: how many it has.
        bytes: of UTF-8.
        left_out: which files were not read (`Files.note`).
    """

    dataset: Dataset
    config: DataConfig
    documents: int
    bytes: int
    left_out: str


def with_other_text(dataset: Dataset, config: DataConfig) -> OtherText:
    """Read a text, all of it as it is, and put it in the place of the test split.

    Args:
        dataset: the corpus.
        config: which text; its files, their field, and into what pieces long documents are cut.

    Raises:
        ValueError: if a file cannot be read, or there is no text.
    """
    size = 0

    def parts_of(document: Document) -> Iterator[str]:
        nonlocal size
        for part in document.parts():
            size += len(part.encode())
            yield part

    tokens = np.concatenate(list(tokenize(dataset.tokenizer, map(parts_of, _documents(config)))))
    digest = hashlib.sha256(tokens.tobytes()).hexdigest()[:16]
    made = replace(
        dataset,
        test=tokens,
        hashes={**dataset.hashes, "test": digest},
        seen={split: mask for split, mask in dataset.seen.items() if split != "test"},
    )
    documents = int(np.count_nonzero(tokens == dataset.tokenizer.end_id))
    return OtherText(made, config, documents, size, find_files(config).note)


def seen_share(text: OtherText, cache_dir: Path) -> float:
    """The share of a text's tokens, ends left out, that the training split holds too (lab/data/overlaps.py).

    Args:
        text: of which the first 16 MB are looked at.
        cache_dir: has room for what is looked up (`seen_tokens`).
    """
    dataset = text.dataset
    # Of a split the cache keeps the tokens alone.
    train = ((document.encode(),) for document in documents_of(dataset.train, dataset.tokenizer))
    texts = ((part.encode() for part in document.parts()) for document in _documents(text.config))
    seen = seen_tokens(train, {"test": texts}, {"test": dataset.test}, dataset.tokenizer, cache_dir)["test"]
    return float(seen[dataset.test[: len(seen)] != dataset.tokenizer.end_id].mean())


def _documents(config: DataConfig) -> Iterator[Document]:
    for document in read_corpus(config):
        yield from pieces_of(document, config.document_characters)
