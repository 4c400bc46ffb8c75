"""The corpus as token arrays: read, deduplicated, split and tokenized once, then mapped from the cache."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lab.code import closure_hash
from lab.config import DataConfig
from lab.data.cache import is_intact, write_folder
from lab.data.corpora import Document, Source, find_files, find_sources, read_corpus
from lab.data.functions import count_structures
from lab.data.overlaps import seen_tokens
from lab.data.packages import describe_packages, say_once
from lab.data.pieces import cut_words, pieces_of
from lab.data.progress import tell, watched
from lab.data.quality import TIERS, Qualities, judged_by
from lab.data.shortage import counted, listed, read_from, remedy, suggest_characters
from lab.data.splits import SPLITS, split_texts
from lab.data.text_store import Texts, TextStore
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

Stamps = Mapping[Source, tuple[int, ...]]

HASHES = "hashes.json"
HELD_OUT = ("validation", "test")
_HASHED_BYTES = 1 << 18  # read at once, as hashlib does with a file
_BATCH = 1 << 18  # characters tokenized together


@dataclass(frozen=True)
class Dataset:
    """A tokenized corpus.

    Attributes:
        train: (n,) uint16 or int32, mapped from disk: the documents, or their pieces (lab/data/pieces.py), in
            the order of their content's digest, each followed by `tokenizer.end_id`. The order depends on no
            seed. With `data.quality` only those of its tier.
        validation: the same for the validation split.
        test: the same for the test split.
        tokenizer: what made the ids.
        hashes: by split, 16 hex digits over its array, what is `seen` of it, and the tokenizer: equal where
            these are, wherever the text came from.
        statistics: counts, as JSON values: `files`, `documents_read`, their `characters`, and of these
            documents `documents_cut` into pieces of `document_characters`; from here on a piece counts as a
            document: `documents`, `tokens` and `bytes` by split, and over all of them `bytes_per_token`,
            `byte_coverage` (bytes by `byte_lengths` over bytes of text), `exact_duplicates_removed`,
            `near_duplicate_groups`, `near_duplicate_documents`, and of all that are kept
            `too_short_to_compare` (lab/data/deduplication.py); `seen`, by held-out split the share of the
            tokens looked at, ends left out, that the whole training split holds too. For corpus=packages also
            what `describe_packages` says; for corpus=functions `structures` by split, and groups are of those
            that compute the same. `judged_by`: what says how good a document is, in words, and `tiers`: by
            tier of quality the `documents` and `tokens` of the training split; empty if nothing does.
        key: its place in the cache: with it, `prepare` need not look at the sources.
        seen: by held-out split, (m,) bool, mapped from disk: which of its first m tokens the training split
            holds too (lab/data/overlaps.py). Nothing is measured on the rest of a larger split. Of a corpus
            that itself says which documents belong together none count as held: what must be kept apart is,
            and what is made of few parts, such as lines of code, has all of them in every split.
        left_out: which files were not read (`Files.note`), where the sources were looked at.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    tokenizer: Tokenizer
    hashes: dict[str, str]
    statistics: dict[str, Any]
    key: str = ""
    seen: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: str = ""

    @property
    def hash(self) -> str:
        """That of what a run trains on."""
        return self.hashes["train"]


def prepare(config: DataConfig, cache_dir: Path, key: str = "") -> Dataset:
    """The configured corpus as arrays, from the cache if they are there and intact.

    Several processes may prepare at once: one builds, the others wait and read.

    Args:
        config: the settings.
        cache_dir: where tokenized corpora are kept.
        key: what `Dataset.key` of the same settings was elsewhere. What the cache holds under it is taken
            without a look at the sources; if it holds nothing intact, the sources are read as without a key.

    Raises:
        ValueError: if a file cannot be read, a split gets no document or not one window of tokens, or the
            tier of `data.quality` too few.
    """
    dataset = _load(config, cache_dir, key) if key else None
    if dataset is None:
        dataset = _from_sources(config, cache_dir)
    else:
        say_once(dataset.statistics.get("packages_note", ""))
    tokens = dataset.statistics["tokens"]
    short = [split for split in SPLITS if tokens[split] < config.length]
    if short:
        held = listed([f"{split} has {counted(tokens[split], 'token')}" for split in short])
        raise ValueError(
            f"each split must hold one window of length={config.length} tokens, but {held}: the corpus has "
            f"{_corpus_size(dataset.statistics)}. {_remedy(config, cache_dir, dataset.statistics)} "
            "A lower data.length helps too."
        )
    needed = max(config.unique_tokens or 0, config.length)
    if config.quality and len(dataset.train) < needed:
        tiers = ((tier, held["tokens"]) for tier, held in dataset.statistics["tiers"].items())
        held = listed([f"{tier} {count:,}" for tier, count in tiers])
        raise ValueError(
            f"the {config.quality} tier of the training split must hold data.unique_tokens, and a window of "
            f"data.length={config.length}: {counted(needed, 'token')}, but the tiers hold {held}. Give more "
            "text of this quality, or set data.unique_tokens lower."
        )
    return dataset


def _from_sources(config: DataConfig, cache_dir: Path) -> Dataset:
    try:
        files = find_files(config)
        say_once(files.note)
        stamps = {source: source.stamp() for source in files.sources}
        digests = _digests(stamps)
    except ValueError:
        for _ in read_corpus(config):  # it says all that is wrong, and not the first alone
            pass
        raise
    packages = _describe_packages(config, digests)
    key = cache_key(config, digests, packages)
    dataset = _load(config, cache_dir, key)
    if dataset is None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"{key}.lock"):
            dataset = _load(config, cache_dir, key) or _build(config, cache_dir, key, packages, stamps)
    return replace(dataset, left_out=files.note)


def _digests(stamps: Stamps) -> dict[Source, str]:
    size = sum(stamp[0] for stamp in stamps.values())
    sources = watched(stamps, "looking at the files", lambda source: stamps[source][0], size)
    return {source: source.digest() for source in sources}


def _stamps(config: DataConfig) -> Stamps:
    return {source: source.stamp() for source in find_sources(config)}


def _describe_packages(config: DataConfig, digests: Mapping[Source, str]) -> dict[str, Any]:
    """What is to be known of the default corpus beside its text; nothing of another."""
    if config.corpus != "packages":
        return {}
    return describe_packages({source.name: digest for source, digest in digests.items()})


def cache_key(config: DataConfig, digests: Mapping[Source, str], packages: Mapping[str, Any]) -> str:
    """16 hex digits over all that may decide what is kept: sources, settings, and the code that makes it.

    The files count by their bytes, not by size and time: an edit can keep both, and copying a corpus to
    another machine changes the time alone. It costs one pass over the bytes (some 0.2 s for the default
    corpus, a second or two per GB). Names and places count for nothing, as they decide nothing.

    Args:
        config: the settings.
        digests: of every file's bytes.
        packages: what `describe_packages` says of them, which is kept beside the arrays.
    """
    identity = {
        **packages,
        "code": CODE_HASH,
        "sources": sorted((source.kind, digest) for source, digest in digests.items()),
        "text_field": config.text_field,
        "quality_field": config.quality_field,
        "document_characters": config.document_characters,
        "tokenizer": tokenizer_identity(config.tokenizer),
        "validation_share": config.validation_share,
        "test_share": config.test_share,
        **({"functions": config.functions} if config.corpus == "functions" else {}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def content_hash(arrays: Iterable[Path], tokenizer: Tokenizer) -> str:
    """16 hex digits over arrays and the tokenizer.

    Args:
        arrays: .npy files of token ids, and of what is said of each.
        tokenizer: what made them. The name of its preset, which may be that of a folder, decides nothing.
    """
    state = json.dumps({key: value for key, value in tokenizer.state().items() if key != "name"}).encode()
    hasher = hashlib.sha256(_measured(state))
    for array in arrays:
        with array.open("rb") as file:
            np.lib.format.read_magic(file)
            (count,), _, dtype = np.lib.format.read_array_header_1_0(file)
            hasher.update(_measured(dtype.str.encode()) + f"{count * dtype.itemsize}\0".encode())
            while data := file.read(_HASHED_BYTES):
                hasher.update(data)
    return hasher.hexdigest()[:16]


def _measured(part: bytes) -> bytes:
    """A part of what is hashed, told from the next by its length."""
    return f"{len(part)}\0".encode() + part


def _load(config: DataConfig, cache_dir: Path, key: str) -> Dataset | None:
    folder = cache_dir / key
    if not is_intact(folder) or not (folder / HASHES).is_file():
        return None
    names = {split: split for split in SPLITS} | {"train": config.quality or "train"}
    arrays = {split: _map(folder / f"{name}.npy") for split, name in names.items()}
    seen = {split: _map(_seen_path(folder, split)) for split in HELD_OUT}
    tokenizer = restore_tokenizer(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
    kept = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    hashes = {split: kept[name] for split, name in names.items()}
    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    return Dataset(
        **arrays,
        tokenizer=tokenizer,
        hashes=hashes,
        statistics=statistics,
        key=key,
        seen=seen,
        left_out="",  # of the cache nothing is
    )


def _map(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _seen_path(folder: Path, split: str) -> Path:
    return folder / f"{split}_seen.npy"


def _build(
    config: DataConfig, cache_dir: Path, key: str, packages: Mapping[str, Any], stamps: Stamps
) -> Dataset:
    """Fill a place of the cache. Of the text a part of a document is in memory, and what `deduplicate` needs.

    Args:
        config: the settings.
        cache_dir: where the place is.
        key: its name.
        packages: what is known of the default corpus.
        stamps: of the files before their digests were taken.
    """
    tokenizer = find_tokenizer(config.tokenizer)
    with TextStore(cache_dir) as store:
        divided = _divide(config, read_corpus(config), store)
        if (now := _stamps(config)) != stamps:  # a file was written or touched: has it changed?
            digests = _digests(now)
            if cache_key(config, digests, _describe_packages(config, digests)) != key:
                raise ValueError(
                    f"the files of corpus={config.corpus} must stay as they are while they are read; "
                    "try again."
                )
        statistics = {**packages, "files": len(stamps), **divided.statistics}
        if config.corpus == "functions":
            statistics["structures"] = {
                split: count_structures(texts) for split, texts in divided.texts.items()
            }
        if empty := [split for split in SPLITS if not divided.texts[split]]:
            raise ValueError(
                f"each split must get a document, but {listed(empty)} got none: the corpus has "
                f"{_corpus_size(statistics)}{_alike(divided)}. {_remedy(config, cache_dir, statistics)}"
            )
        tokenizer = tokenizer or _train(config.tokenizer, divided.texts["train"])
        write_folder(cache_dir / key, lambda folder: _fill(folder, divided, tokenizer, statistics))
    dataset = _load(config, cache_dir, key)
    if dataset is None:
        raise OSError(f"{cache_dir / key}: what was written there reads back otherwise; is the disk sound?")
    return dataset


def _fill(folder: Path, divided: "_Divided", tokenizer: Tokenizer, statistics: Mapping[str, Any]) -> None:
    """Write what is kept of a corpus into a folder."""
    texts = divided.texts
    paths = {split: folder / f"{split}.npy" for split in SPLITS}
    tokens, covered = {}, 0
    for split, path in paths.items():
        tokens[split], token_bytes = _write_tokens(path, tokenizer, texts[split].in_parts("tokenizing"))
        covered += token_bytes
    text_bytes = {split: texts[split].size for split in SPLITS}
    held_out = {split: _map(paths[split]) for split in HELD_OUT}
    chunks = {split: texts[split].chunks("looking for overlaps") for split in SPLITS}
    train = chunks.pop("train")
    seen = seen_tokens(train, chunks, held_out, tokenizer, folder.parent)
    for split, mask in seen.items():
        np.save(_seen_path(folder, split), mask & (not divided.grouped))
    hashed = {split: [path] for split, path in paths.items()}
    for split in HELD_OUT:
        hashed[split].append(_seen_path(folder, split))
    tiers = {}
    if divided.tiers is not None:
        hashed |= {tier: [folder / f"{tier}.npy"] for tier in TIERS}
        tiers = _write_tiers(folder, divided.tiers, tokenizer.end_id)
    files = {
        "tokenizer.json": dump_state(tokenizer),
        HASHES: json.dumps({split: content_hash(arrays, tokenizer) for split, arrays in hashed.items()}),
        "statistics.json": json.dumps(
            {
                **statistics,
                "tiers": tiers,
                "documents": {split: len(texts[split]) for split in SPLITS},
                "tokens": tokens,
                "bytes": text_bytes,
                "bytes_per_token": sum(text_bytes.values()) / sum(tokens.values()),
                "byte_coverage": covered / sum(text_bytes.values()),
                # An end, which has no byte that is not seen, says nothing.
                "seen": {
                    split: float(mask[held_out[split][: len(mask)] != tokenizer.end_id].mean())
                    for split, mask in seen.items()
                },
            }
        ),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def _write_tokens(path: Path, tokenizer: Tokenizer, texts: Iterable[Iterable[str]]) -> tuple[int, int]:
    """Tokenize texts into an .npy file, some at a time; how many tokens, and the bytes they stand for."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)

    def counted_ids() -> Iterator[np.ndarray]:
        for ids in tokenize(tokenizer, texts):
            np.add(counts, np.bincount(ids, minlength=len(counts)), out=counts)
            yield ids

    size = _write_array(path, token_dtype(tokenizer), counted_ids())
    return size, int(counts @ tokenizer.byte_lengths)


def _write_tiers(folder: Path, tiers: np.ndarray, end_id: int) -> dict[str, dict[str, int]]:
    """Write the documents of each tier, in their order in the training split; how much each holds."""
    train = folder / "train.npy"
    dtype = _map(train).dtype

    def tokens_of(number: int) -> Iterator[np.ndarray]:
        document = 0
        with train.open("rb") as file:  # not mapped, as all that was read would count as memory
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while len(tokens := np.fromfile(file, dtype, _BATCH)):
                ends = tokens == end_id
                yield tokens[tiers[document + np.cumsum(ends) - ends] == number]
                document += int(np.count_nonzero(ends))

    return {
        tier: {
            "documents": int(np.count_nonzero(tiers == number)),
            "tokens": _write_array(folder / f"{tier}.npy", dtype, tokens_of(number)),
        }
        for number, tier in enumerate(TIERS)
    }


def _write_array(path: Path, dtype: np.dtype, parts: Iterable[np.ndarray]) -> int:
    """Write an .npy file a part at a time; how many entries it has."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    size = 0
    with path.open("wb") as file:
        # NumPy pads a header for the largest count that there may be: written again, it has the same length.
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (0,)})
        for part in parts:
            file.write(part.data)
            size += len(part)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (size,)})
    return size


@dataclass(frozen=True)
class _Divided:
    """The texts of each split, how many documents and groups they are, and counts.

    Attributes:
        grouped: whether the corpus said which documents belong together.
        tiers: (documents of the training split,) uint8, the tier of each, a place in TIERS; None if nothing
            judges them.
    """

    texts: dict[str, Texts]
    distinct: int
    groups: int
    grouped: bool
    statistics: dict[str, Any]
    tiers: np.ndarray | None


def _divide(config: DataConfig, documents: Iterable[Document], store: TextStore) -> _Divided:
    """Cut, deduplicate and split documents into an empty store."""
    # It imports scipy, which a run that finds its data in the cache does not need.
    from lab.data.deduplication import deduplicate

    counts: Counter[str] = Counter()
    qualities = Qualities()
    groups: list[str] = []

    def read(parts: Iterable[str]) -> Iterator[str]:
        for part in parts:
            counts["characters"] += len(part)
            tell("reading", counts["characters"])
            yield part

    def pieces() -> Iterator[Iterator[str]]:
        for document in documents:
            counts["documents"] += 1
            counts["characters"] += len(document.text)
            tell("reading", counts["characters"])
            whole = replace(document, rest=read(document.rest)) if document.rest else document
            before = counts["pieces"]
            for piece in pieces_of(whole, config.document_characters):
                counts["pieces"] += 1
                qualities.append(document.quality)
                if document.group:
                    groups.append(document.group)
                yield piece.parts()
            counts["cut"] += counts["pieces"] - before > 1

    unique = deduplicate(pieces(), store, groups)
    splits = split_texts(unique, config.validation_share, config.test_share)
    sizes = unique.group_sizes
    return _Divided(
        texts={split: Texts(store, chosen) for split, chosen in splits.items()},
        distinct=len(unique),
        groups=len(sizes),
        grouped=bool(groups),
        statistics={
            "judged_by": judged_by(config),
            "documents_read": counts["documents"],
            "characters": counts["characters"],
            "document_characters": config.document_characters,
            "documents_cut": counts["cut"],
            "exact_duplicates_removed": counts["pieces"] - len(unique),
            "near_duplicate_groups": int((sizes > 1).sum()),
            "near_duplicate_documents": int(sizes[sizes > 1].sum()),
            "too_short_to_compare": unique.short,
        },
        tiers=qualities.tiers(unique.kept, splits["train"], store),
    )


def _remedy(config: DataConfig, cache_dir: Path, statistics: Mapping[str, int]) -> str:
    """What to give, with a `document_characters` by which every split gets a window, if there is one."""
    if config.corpus == "functions":
        return "Let more be made: raise data.functions, by --set, SET= for make."

    tried: list[tuple[int, int]] = []

    def worth(characters: int) -> float:
        cut = config.model_copy(update={"document_characters": characters})
        with TextStore(cache_dir) as store:
            divided = _divide(cut, read_corpus(config), store)
            pieces = divided.distinct + divided.statistics["exact_duplicates_removed"]
            tried.append((divided.groups, pieces))
            texts = divided.texts
            if not all(texts.values()):
                return 0.0
            try:
                tokenizer = find_tokenizer(config.tokenizer) or _train(config.tokenizer, texts["train"])
            except ValueError:  # too little text to train it on
                return 0.0
            tokens = {split: _count_tokens(tokenizer, texts[split]) for split in SPLITS}
        if min(tokens.values()) < config.length:
            return 0.0
        total = sum(tokens.values())
        return min(
            tokens["validation"] / (config.validation_share * total),
            tokens["test"] / (config.test_share * total),
        )

    suggested = suggest_characters(statistics["characters"], config.length, worth)
    return remedy(suggested, *max(tried))


def _count_tokens(tokenizer: Tokenizer, texts: Texts) -> int:
    return sum(map(len, tokenize(tokenizer, texts.in_parts("tokenizing"))))


def _train(name: str, texts: Texts) -> Tokenizer:
    """Train `bpe:N`; in memory are the parts that the trainer takes at once, and its counts of words."""
    parts = chain.from_iterable(texts.in_parts("training the tokenizer"))
    return train_bpe(name, chain.from_iterable(map(cut_words, parts)))


def _corpus_size(statistics: Mapping[str, int]) -> str:
    return (
        f"{read_from(statistics['documents_read'], statistics['files'])} "
        f"({counted(statistics['characters'], 'character')})"
    )


def _alike(divided: _Divided) -> str:
    """How many documents a split can tell apart, where those of a group must stay together."""
    if divided.groups == divided.distinct:
        return f", of which {divided.distinct:,} distinct"
    groups = counted(divided.groups, "group")
    alike = "" if divided.grouped else " of near duplicates"
    return f", of which {divided.distinct:,} distinct in {groups}{alike}"


def token_dtype(tokenizer: Tokenizer) -> np.dtype:
    """What its ids are kept as: uint16 if they fit, else int32."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32)


def tokenize(tokenizer: Tokenizer, texts: Iterable[Iterable[str]]) -> Iterator[np.ndarray]:
    """The ids of texts, given in parts, each followed by the end: (n,) of the tokenizer's `token_dtype`.

    Yields:
        Those of some texts, or of some parts of a long one, at a time.
    """
    batch: list[str | None] = []  # None where a text ends
    size = 0
    for parts in texts:
        for part in parts if tokenizer.takes_parts else ("".join(parts),):
            batch.append(part)
            size += len(part)
            if size >= _BATCH:
                yield _ids(tokenizer, batch)
                batch, size = [], 0
        batch.append(None)
    if batch:
        yield _ids(tokenizer, batch)


def _ids(tokenizer: Tokenizer, batch: Sequence[str | None]) -> np.ndarray:
    """The ids of a batch."""
    encoded = iter(tokenizer.encode_batch([part for part in batch if part is not None]))
    end = np.array([tokenizer.end_id])
    arrays = [end if part is None else next(encoded) for part in batch]
    return np.concatenate(arrays, dtype=token_dtype(tokenizer), casting="unsafe")
