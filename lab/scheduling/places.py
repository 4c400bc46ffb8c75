"""Where an ablation's files lie."""

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Where results, corpora and ledgers are kept.

    Args:
        results: folder of result trees.
        cache: folder of tokenized corpora and compiled programs.
        storage: Optuna database URL of the ledgers; empty for a journal file in each tree. It may hold a
            password, so it is not shown.
        shared: with Ray, fsspec URL of storage by which results travel between nodes; empty if all nodes
            share the path of the results.
    """

    results: Path = Path("results")
    cache: Path = Path(".cache")
    storage: str = field(default="", repr=False)
    shared: str = ""

    def check(self) -> None:
        """Refuse a folder of results that cannot be written to, before anything is computed.

        Raises:
            ValueError: naming what is in the way.
        """
        folder = next(path for path in (self.results, *self.results.absolute().parents) if path.exists())
        if not folder.is_dir():
            raise ValueError(f"`results` must be a folder, but {folder} is none.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"`results` must lie where files can be written, but {folder} is read-only.")

    def tree(self, ablation: str, preset: str, tuned: bool = False) -> Path:
        """The result tree of an ablation.

        A backend other than JAX has one of its own, since results of two never mix. So have arms that are
        tuned though their ablation does not, since what they are without it stays of use.
        """
        backend = os.environ["KERAS_BACKEND"]
        parts = [preset, *([] if backend == "jax" else [backend]), *(["tuned"] if tuned else [])]
        return self.results / ablation / "-".join(parts)
