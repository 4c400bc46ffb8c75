"""What an ablation measures once its runs are finished: inference at several amounts of compute."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lab.data.dataset import prepare
from lab.evaluation.inference import measure_inference
from lab.evaluation.inference_file import FILE, JUDGE, InferenceFile, Task, passes
from lab.scheduling.ablation import Cell
from lab.scheduling.driver import read_result
from lab.scheduling.locks import sole_owner
from lab.scheduling.plan import Plan
from lab.training.finished import load_finished


def measure_missing(plan: Plan, cache_dir: Path, console: Console) -> None:
    """Measure every finished run but the judges, as far as its `inference.json` does not hold it yet.

    A run is judged by the finished judges of other seeds at its level, since one of its own seed began with
    the same weights; by that one where there is no other. Without a finished judge it is passed over.

    Args:
        plan: the result tree and its cells; runs without a result are passed over.
        cache_dir: where tokenized corpora are kept.
        console: where progress is shown.

    Raises:
        ValueError: if a driver works on the tree.
    """
    with sole_owner(plan.tree, "driver"):
        finished = [cell for cell in plan.cells if read_result(plan.logdir(cell), cell.key)]
        work = []
        for cell in finished:
            judges = judges_of(cell, finished)
            if cell.arm != JUDGE and not judges:
                console.print(escape(f"{cell.label}: no judge is finished, so nothing is measured"))
            elif cell.arm != JUDGE:
                path = plan.logdir(cell) / FILE
                file = InferenceFile(path, cell.config, [judge.key for judge in judges])
                if file.missing:
                    work.append((cell, judges, file))
        total = sum(passes(cell.config, task) for cell, _, file in work for task in file.missing)
        with _bar(console, total) as bar:
            for cell, judges, file in work:
                bar.begin(cell)
                dataset = prepare(cell.config.data, cache_dir)
                arm, *others = (
                    load_finished(plan.logdir(one), dataset.tokenizer.vocab_size) for one in (cell, *judges)
                )
                measure_inference(arm, [other.scorer for other in others], dataset, file, bar.advance)
                bar.end()


def judges_of(cell: Cell, finished: list[Cell]) -> list[Cell]:
    """The finished judges at a run's level: those of other seeds if there are any."""
    judges = [other for other in finished if other.arm == JUDGE and other.level == cell.level]
    return [judge for judge in judges if judge.seed != cell.seed] or judges


class _Bar:
    """One bar over all measurements; where the console is no terminal, a line for each run."""

    def __init__(self, console: Console, progress: Progress, total: int) -> None:
        self._console, self._progress = console, progress
        self._task = progress.add_task("inference", total=total, detail="")
        self._cell: Cell | None = None

    def begin(self, cell: Cell) -> None:
        self._cell = cell
        self._progress.update(self._task, detail=escape(cell.label))

    def advance(self, task: Task) -> None:
        if self._cell:
            self._progress.advance(self._task, passes(self._cell.config, task))

    def end(self) -> None:
        if self._cell:
            self._console.print(escape(f"{self._cell.label}: inference measured"), highlight=False)


@contextmanager
def _bar(console: Console, total: int) -> Iterator[_Bar]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, disable=not (console.is_terminal and total)) as progress:
        yield _Bar(console, progress, total)
