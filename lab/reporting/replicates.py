"""What the seeds of a tree have of their own: what an interval over seeds covers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.data.budget import expected_overlap
from lab.metrics import NLL, find_metric
from lab.reporting.tree import CellResult, level_name


@dataclass(frozen=True)
class Replicates:
    """What differs between the seeds of an arm at a level, beside the randomness of training.

    Attributes:
        own_tokens: whether their unique tokens do, of every arm at every level with two seeds.
        own_held_out: whether their held-out windows do; likewise.
        share: of the training split, what the largest budget takes: what two seeds are expected to have in
            common of their unique tokens; None if no run has finished.
        documents: what they are expected to have in common of their held-out documents; None if the metric is
            not kept by window.
        known: whether any arm has finished two seeds at a level. Else nothing is known of what seeds share.
    """

    own_tokens: bool
    own_held_out: bool
    share: float | None = None
    documents: float | None = None
    known: bool = True

    @property
    def own_documents(self) -> bool:
        """Whether their held-out windows are drawn of documents of their own, at least in part."""
        return self.own_held_out and not self.same_documents

    @property
    def same_documents(self) -> bool:
        """Whether they are drawn of the same documents, all that there are."""
        return self.own_held_out and self.documents == 1

    @property
    def limited(self) -> bool:
        """Whether the seeds' parts are so much the same text that a verdict is about that text alone."""
        return self.share is not None and self.share > 0.5


def replicates_of(cells: Iterable[CellResult], metric: str = NLL) -> Replicates:
    """Read it from finished runs: the part of the training split that each has, and its held-out sample.

    Args:
        cells: the runs.
        metric: which sample: of the metric's tasks. What files ask is the same for all seeds.
    """
    done = [cell for cell in cells if cell.status == "done"]
    arms: dict[tuple[str, str], list[CellResult]] = {}
    for cell in done:
        arms.setdefault((cell.arm, level_name(cell.level)), []).append(cell)
    groups = [group for group in arms.values() if len({cell.seed for cell in group}) > 1]

    def differ(part: Callable[[CellResult], object]) -> bool:
        """Whether each seed has a part of its own."""
        return bool(groups) and all(
            len({part(cell) for cell in group}) == len({cell.seed for cell in group}) for group in groups
        )

    data = [cell.done.data for cell in done]
    share = max((expected_overlap(one.unique_tokens, one.train_tokens) for one in data), default=None)
    documents = max((known for cell in done if (known := _documents(cell, metric)) is not None), default=None)
    own_held_out = differ(lambda cell: _sample(cell, metric))
    return Replicates(differ(_tokens), own_held_out, share, documents, known=bool(groups))


def _documents(cell: CellResult, metric: str) -> float | None:
    """The share of the test split's documents, as windows are drawn of them, that a run is measured on."""
    measured = cell.done.best().examples(metric, "test")
    if measured is None or find_metric(metric).sample != "windows":
        return None
    return expected_overlap(len(set(measured.documents)), cell.done.data.documents["test"])


def _tokens(cell: CellResult) -> tuple[str, int | None]:
    """Which part of the training split a run trains on: of the whole there is one."""
    config = cell.done.config
    return cell.done.data.hash, config.replicate if config.data.unique_tokens else None


def _sample(cell: CellResult, metric: str) -> str:
    """Which held-out sample a run was measured on, as the tasks of a metric name it, or else its others."""
    rows = [row for stop in cell.done.stops for row in stop.measured if row.task.split == "test"]
    own = [row for row in rows if metric in row.values] or rows
    return str(own[0].task.settings.get("sample") if own else None)
