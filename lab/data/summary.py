"""What `python -m lab data` prints about a corpus."""

from lab.data.dataset import Dataset


def describe(dataset: Dataset) -> list[tuple[str, str]]:
    """Labels and values, in the order to print."""
    statistics = dataset.statistics
    by_split = [
        (f"{label}, {split}", f"{statistics[key][split]:,}")
        for key, label in (("documents", "documents"), ("tokens", "unique tokens"))
        for split in ("train", "validation", "test")
    ]
    return [
        ("hash", dataset.hash),
        ("tokenizer", f"{dataset.tokenizer.name} ({dataset.tokenizer.vocab_size:,} ids)"),
        *by_split,
        ("bytes/token", f"{statistics['bytes_per_token']:.3f}"),
        ("bytes that the tokens cover", f"{statistics['byte_coverage']:.2%}"),
        ("exact duplicates removed", f"{statistics['exact_duplicates_removed']:,}"),
        (
            "near-duplicate groups",
            f"{statistics['near_duplicate_groups']:,} ({statistics['near_duplicate_documents']:,} documents)",
        ),
    ]
