"""What to say where a corpus is too small for its splits: what there is, and what would help."""

from collections.abc import Callable, Sequence

# How many pieces a text is cut into: fifty, five for a split of a tenth; others where that comes out badly.
_PIECES = (50, 60, 70, 80, 100, 40, 30, 20, 10)


def suggest_characters(total: int, length: int, worth: Callable[[int], float]) -> int | None:
    """A `data.document_characters` that is tried and works, or None if none does.

    Args:
        total: characters of the whole corpus.
        length: tokens a window; no piece is made of fewer characters.
        worth: how well a number does: the least part of its share that a held-out split gets; 0 if a split
            gets too little.
    """
    best, most = None, 0.0
    for size in dict.fromkeys(max(length, _round(total // pieces)) for pieces in _PIECES):
        share = worth(size)
        if share >= 0.5:  # a split of half its share is one that was asked for
            return size
        if share > most:
            best, most = size, share
    return best


def _round(number: int) -> int:
    """A number down to its first two digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit


def counted(number: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def read_from(documents: int, files: int) -> str:
    """`2 documents in 1 file`; of a corpus that is made, and has no files, `2 documents, made by rule`."""
    return counted(documents, "document") + (f" in {counted(files, 'file')}" if files else ", made by rule")


def listed(names: Sequence[str]) -> str:
    """`train`, `train and test`, `train, validation and test`."""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def remedy(suggested: int | None, groups: int, pieces: int) -> str:
    """What to give. One line, since a driver shows the last line of what a run said.

    Args:
        suggested: a `data.document_characters` that works.
        groups: of duplicates, exact and near, in which the pieces that were tried lie; at their most.
        pieces: how many these are.
    """
    if suggested is not None:
        return (
            "Give more documents, or let long ones be cut into pieces: "
            f"--set data.document_characters={suggested}, SET= for make."
        )
    if 2 * groups > pieces:
        return "Give more text: there is too little for pieces of it to help."
    alike = "all duplicates of each other" if groups == 1 else f"{groups:,} groups of duplicates"
    return (
        f"Give text that repeats itself less: its {pieces:,} pieces are {alike}, exact or near, "
        "and these stay in one split."
    )
