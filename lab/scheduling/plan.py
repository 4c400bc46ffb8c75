"""The plan of one result tree: which cells it is to hold, kept as `plan.json`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.config import load_config
from lab.scheduling.ablation import Ablation, Cell
from lab.scheduling.tuning import Tuning
from lab.tracking.records import write_json

SCHEMA = 2


@dataclass(frozen=True)
class Plan:
    """An ablation at one preset, in the folder that holds its results.

    Args:
        tree: the result tree, `results/<ablation>/<preset>`.
        ablation: what is asked.
        preset: the preset's name.
        cells: every run, in starting order.
        command: what the user can type to get the same plan; holds no storage URL.
        tuning: how its arms are tuned; None if they are not.
    """

    tree: Path
    ablation: Ablation
    preset: str
    cells: Sequence[Cell]
    command: str
    tuning: Tuning | None = None

    @property
    def name(self) -> str:
        """The name of the plan's study: letters, digits and dashes."""
        return f"{self.ablation.name}-{self.preset}"

    def logdir(self, cell: Cell) -> Path:
        """Where a cell's run keeps its files."""
        return self.tree / cell.logdir

    def write(self) -> None:
        """Write `plan.json`."""
        ablation = self.ablation
        content = {
            "schema": SCHEMA,
            "ablation": ablation.name,
            "preset": self.preset,
            "question": ablation.question,
            "paper": ablation.paper,
            "metric": ablation.metric,
            "unit": ablation.unit,
            "expected": ablation.expected,
            "analysis": ablation.analysis,
            "arms": list(ablation.arms),
            "contrasts": dict(ablation.contrasts),
            "command": self.command,
            "tuning": self.tuning.spec() if self.tuning else None,
            "cells": [
                {
                    "key": cell.key,
                    "arm": cell.arm,
                    "level": dict(cell.level),
                    "seed": cell.seed,
                    "logdir": cell.logdir,
                }
                for cell in self.cells
            ],
        }
        write_json(self.tree / "plan.json", content)

    def set_aside(self) -> list[Path]:
        """Move away each logdir that holds a run of another configuration; nothing is deleted.

        Returns:
            The new places, `<logdir>.<key of the old configuration>`.
        """
        return [_move_aside(logdir, key) for logdir, key in self._superseded()]

    def _superseded(self) -> list[tuple[Path, str]]:
        found = []
        for cell in self.cells:
            config = self.logdir(cell) / "config.yaml"
            if config.is_file() and (key := _key_of(config)) != cell.key:
                found.append((self.logdir(cell), key))
        return found


def _key_of(config: Path) -> str:
    """The key of a `config.yaml`; of its text if another version of the lab wrote it."""
    try:
        return load_config(config).key()
    except ValueError:
        return hashlib.sha256(config.read_bytes()).hexdigest()[:16]


def _move_aside(logdir: Path, key: str) -> Path:
    places = (logdir.with_name(f"{logdir.name}.{key}" + (f".{n}" if n > 1 else "")) for n in range(1, 1000))
    return logdir.rename(next(place for place in places if not place.exists()))
