"""The plan of one result tree: which cells it is to hold, kept as `plan.json`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lab.config import DataConfig, load_config
from lab.scheduling.ablation import Ablation, Cell
from lab.scheduling.tuning import Tuning
from lab.tracking.records import code_hash, write_json
from lab.tracking.version import Version, read_version

SCHEMA = 2


class SetAside(NamedTuple):
    """An old run's new place, and what it differs in from the plan, in words."""

    place: Path
    changed: str


@dataclass(frozen=True)
class Plan:
    """An ablation at one preset, in the folder that holds its results.

    Args:
        tree: the result tree, `results/<ablation>/<preset>`.
        ablation: what is asked.
        preset: the preset's name.
        cells: every run, in starting order.
        command: what the user can type to get the same plan; holds no storage URL.
        data_hashes: of the corpora that the cells train on.
        code: hash of the code that decides numbers.
        tuning: how its arms are tuned; None if they are not.
    """

    tree: Path
    ablation: Ablation
    preset: str
    cells: Sequence[Cell]
    command: str
    data_hashes: Mapping[DataConfig, str] = field(default_factory=dict)
    code: str = field(default_factory=code_hash)
    tuning: Tuning | None = None

    @property
    def name(self) -> str:
        """The name of the plan's study: letters, digits and dashes."""
        return f"{self.ablation.name}-{self.preset}"

    def version(self, cell: Cell) -> Version:
        """What a cell's numbers follow from, today."""
        return Version(cell.key, self.code, self.data_hashes.get(cell.config.data, ""))

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
                    "version": self.version(cell).digest(),
                    "arm": cell.arm,
                    "level": dict(cell.level),
                    "seed": cell.seed,
                    "logdir": cell.logdir,
                }
                for cell in self.cells
            ],
        }
        write_json(self.tree / "plan.json", content)

    def set_aside(self) -> list[SetAside]:
        """Move away each logdir that holds another version of its cell's run; nothing is deleted.

        The new place is `<logdir>.<key of the old configuration>`.
        """
        return [
            SetAside(_move_aside(logdir, key), " and ".join(changed))
            for logdir, key, changed in self._superseded()
        ]

    def _superseded(self) -> list[tuple[Path, str, list[str]]]:
        found = []
        for cell in self.cells:
            logdir = self.logdir(cell)
            if not (logdir / "config.yaml").is_file():
                continue
            old = read_version(logdir)
            key = old.config_key if old else _key_of(logdir / "config.yaml")
            if old:
                changed = old.differs(self.version(cell))
            elif key != cell.key:
                changed = ["configuration"]
            else:  # begun by a lab that did not say by which code and on which data
                changed = ["version"] * any(
                    (logdir / name).exists() for name in ("metrics.jsonl", "checkpoints")
                )
            if changed:
                found.append((logdir, key, changed))
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
