"""Look at the corpora of a plan before its runs: what is wrong with them is said once, and at once."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from lab.ablation import Cell
from lab.config import DataConfig, require_end
from lab.evaluation.measurements import find_set
from lab.scheduling.plan import DataFacts
from lab.training.schedule import total_steps


def prepare_data(
    cells: Sequence[Cell], measurements: Iterable[str], cache_dir: Path, console: Console | None = None
) -> dict[DataConfig, DataFacts]:
    """Tokenize each corpus, and make sure that it suffices for the runs and their measurements.

    Args:
        cells: the runs.
        measurements: names of the sets of tasks that are measured after them.
        cache_dir: where tokenized corpora are kept.
        console: where to show how far they are, if anywhere.

    Returns:
        What the plan knows of each corpus.

    Raises:
        ValueError: naming what a corpus lacks.
    """
    # Imported here, since a plan that is refused before has no need of tokenizers.
    from lab.data.budget import budget
    from lab.data.dataset import prepare
    from lab.data.progress import shown_on
    from lab.evaluation.held_out import require_held_out

    sections = ["evaluation", *(find_set(name).section for name in measurements)]
    corpora = dict.fromkeys(cell.config.data for cell in cells)
    with shown_on(console) if console else nullcontext():
        datasets = {data: prepare(data, cache_dir) for data in corpora}
    for config in {(cell.config.data, cell.config.training): cell.config for cell in cells}.values():
        data, dataset = config.data, datasets[config.data]
        tokens = len(budget(dataset.train, data.unique_tokens, data.length, config.replicate))
        require_end(total_steps(config.training, data.length, tokens // data.length))
        require_held_out(config, dataset, *sections)
    return {
        data: DataFacts(dataset.hashes, len(dataset.train), dataset.key, dataset.left_out)
        for data, dataset in datasets.items()
    }
