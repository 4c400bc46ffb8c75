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

    def tree(self, ablation: str, preset: str, tuned: bool = False) -> Path:
        """The result tree of an ablation.

        A backend other than JAX has one of its own, since results of two never mix. So have arms that are
        tuned though their ablation does not, since what they are without it stays of use.
        """
        backend = os.environ["KERAS_BACKEND"]
        parts = [preset, *([] if backend == "jax" else [backend]), *(["tuned"] if tuned else [])]
        return self.results / ablation / "-".join(parts)
