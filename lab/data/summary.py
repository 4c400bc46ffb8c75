"""What `python -m lab data` prints about a corpus."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab.data.dataset import HELD_OUT, Dataset
from lab.data.shortage import counted, listed, read_from
from lab.data.splits import SPLITS
from lab.results import Baseline

BASELINE_COLUMNS = ("counted", "validation\nnats/token", "\nbits/byte", "test\nnats/token", "\nbits/byte")


def describe(dataset: Dataset) -> list[tuple[str, str]]:
    """Labels and values, in the order to print."""
    statistics = dataset.statistics
    by_split = [
        (f"{label}, {split}", f"{statistics[key][split]:,}")
        for key, label in (("documents", "documents"), ("bytes", "bytes"), ("tokens", "unique tokens"))
        for split in SPLITS
    ]
    made = "structures" in statistics  # by rule, with groups of its own
    seen = [
        (
            f"tokens that the training split holds too, {split}",
            f"{statistics['seen'][split]:.1%}{', none left out' if made else ''}",
        )
        for split in HELD_OUT
    ]
    structures = [
        (f"structures, {split}", f"{statistics['structures'][split]:,}") for split in SPLITS if made
    ]
    return [
        *((f"hash, {split}", dataset.hashes[split]) for split in SPLITS),
        *_packages(statistics),
        ("tokenizer", f"{dataset.tokenizer.name} ({dataset.tokenizer.vocab_size:,} ids)"),
        ("read", read_from(statistics["documents_read"], statistics["files"])),
        *([("", dataset.left_out)] if dataset.left_out else []),
        ("cut into pieces, each a document", _cut(statistics)),
        *by_split,
        *structures,
        ("largest data.unique_tokens", f"{len(dataset.train):,}"),
        *_tiers(statistics),
        ("bytes/token", f"{statistics['bytes_per_token']:.3f}"),
        ("bytes that the tokens cover", f"{statistics['byte_coverage']:.2%}"),
        ("exact duplicates removed", f"{statistics['exact_duplicates_removed']:,}"),
        (
            "groups kept in one split" if made else "near-duplicate groups",
            f"{statistics['near_duplicate_groups']:,} ({statistics['near_duplicate_documents']:,} documents)",
        ),
        *_short(statistics, made),
        *seen,
    ]


def describe_baselines(baselines: Sequence[Baseline]) -> list[tuple[str, ...]]:
    """What counting gives on the held-out windows: rows to print, below `BASELINE_COLUMNS`."""
    return [
        (
            one.name + _settings_words(one.settings),
            *(f"{values[key]:.3f}" for values in one.values.values() for key in ("nll", "bits_per_byte")),
        )
        for one in baselines
    ]


def _settings_words(settings: Mapping[str, int]) -> str:
    """Of which order and from how many tokens, where it is of any."""
    order = [f"Kneser-Ney, order {settings['order']}"] if "order" in settings else []
    tokens = [f"{settings['tokens']:,} tokens"] if "tokens" in settings else []
    return f" ({', '.join(order + tokens)})" if tokens else ""


def _short(statistics: Mapping[str, Any], made: bool) -> list[tuple[str, str]]:
    """How many documents near duplicates cannot be told of, where they are looked for."""
    short, documents = statistics["too_short_to_compare"], sum(statistics["documents"].values())
    what = "one with a word changed, or a character of text without spaces, is no near duplicate"
    row = ("documents too short to compare", f"{short / documents:.1%} ({short:,}: {what})")
    return [] if made else [row]


def _packages(statistics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the default corpus was read from."""
    if "packages" not in statistics:
        return []
    versions = listed([f"{name} {version}" for name, version in statistics["packages"].items()])
    # What differs has been said in a line of its own.
    return [("packages", f"{versions} ({'not ' if statistics['packages_note'] else ''}as listed)")]


def _tiers(statistics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What each tier of quality holds, and what tells them apart, if anything does."""
    rows = [
        (f"of data.quality={tier}", f"{held['tokens']:,} ({counted(held['documents'], 'document')})")
        for tier, held in statistics["tiers"].items()
    ]
    return [*rows, ("tiers of quality by", statistics["judged_by"])] if rows else []


def _cut(statistics: Mapping[str, Any]) -> str:
    """How many documents were cut, and into what."""
    cut, characters = statistics["documents_cut"], statistics["document_characters"]
    pieces = f", of at least {characters:,} characters" if characters else ""
    return f"{counted(cut, 'document')}{pieces} (data.document_characters={characters})"
