"""The plan of one result tree: which cells it is to hold, kept as `plan.json`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lab.ablation import Ablation, Cell, start_of
from lab.code import closure_hash
from lab.config import DataConfig
from lab.evaluation.measurements import evaluation_digest
from lab.results import PLAN, RESULT, DamagedError, PlanRecord, Registered, read_record, write_record
from lab.scheduling.jobs import Job
from lab.scheduling.tuning.tuning import Tuning
from lab.version import ENGINE, Version, result_digest


class DataFacts(NamedTuple):
    """What a plan knows of a corpus before its runs read it.

    Attributes:
        hashes: split -> hash of its content.
        train_tokens: tokens of the training split.
        key: under which the cache holds it; empty if that is not known.
        left_out: which files were not read, in words.
    """

    hashes: Mapping[str, str]
    train_tokens: int
    key: str = ""
    left_out: str = ""


UNREAD = DataFacts({"train": "", "validation": "", "test": ""}, 0)


@dataclass(frozen=True)
class Plan:
    """An ablation at one preset, in the folder that holds its results.

    Args:
        tree: the result tree, `results/<ablation>/<preset>`.
        ablation: what is asked.
        preset: the preset's name.
        cells: every run, in starting order.
        command: what the user can type to get the same plan; holds no storage URL.
        data: the corpora that the cells train on; one that is not there counts as unread.
        code: hash of the code that trains.
        tuning: how its arms are tuned; None if they are not.
        auto: whether it is the plan of one look, after which more seeds may follow.
        strong: arm -> what the preset found to be best for it, of the ablation's `strong` arms.
    """

    tree: Path
    ablation: Ablation
    preset: str
    cells: Sequence[Cell]
    command: str
    data: Mapping[DataConfig, DataFacts] = field(default_factory=dict)
    code: str = field(default_factory=lambda: closure_hash(ENGINE))
    tuning: Tuning | None = None
    auto: bool = False
    strong: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the plan's study: letters, digits and dashes."""
        return f"{self.ablation.name}-{self.preset}"

    @cached_property
    def ensembles(self) -> dict[str, str]:
        """The ensembles of whose arm further members are planned: name -> arm."""
        planned = {cell.arm for cell in self.cells if cell.role == "member"}
        return {name: arm for name, arm in self.ablation.ensembles.items() if arm in planned}

    @cached_property
    def factors(self) -> Mapping[str, Sequence[Any]]:
        """What the plan varies: `arm`, `seed` and the keys of the levels -> its values."""
        keys = self.cells[0].level if self.cells else {}
        levels = {key: _distinct(cell.level[key] for cell in self.cells) for key in keys}
        return {
            "arm": list(self.ablation.arms),
            "seed": _distinct(cell.seed for cell in self.cells),
            **levels,
        }

    def facts(self, cell: Cell) -> DataFacts:
        """What is known of the corpus that a cell trains on."""
        return self.data.get(cell.config.data, UNREAD)

    def windows(self, cell: Cell) -> int:
        """Windows of an epoch of a cell's run."""
        data = cell.config.data
        return (data.unique_tokens or self.facts(cell).train_tokens) // data.length

    def version(self, cell: Cell) -> Version:
        """What the weights of a cell's run follow from, today."""
        return self._version(cell, self._start(cell))

    def _version(self, cell: Cell, start: Job | None) -> Version:
        backend, data = os.environ["KERAS_BACKEND"], self.facts(cell).hashes["train"]
        return Version.of(cell.config, data, backend, self.code, start.version if start else "")

    def _start(self, cell: Cell) -> Job | None:
        """The run from whose best stop a cell's begins."""
        begun = start_of(cell, self.cells)
        return self.job(begun) if begun else None

    def job(self, cell: Cell) -> Job:
        """A cell's run."""
        start = self._start(cell)
        version = self._version(cell, start)
        wanted = evaluation_digest(cell.config, self.facts(cell).hashes)
        return Job(
            key=cell.logdir,
            version=result_digest(version.digest(), wanted),
            arm=cell.arm,
            level=cell.level,
            seed=cell.seed,
            factors=self.factors,
            logdir=self.logdir(cell),
            config=cell.config,
            wanted=wanted,
            run=version,
            inputs=(start.logdir,) if start else (),
            start=start,
            data_key=self.facts(cell).key,
        )

    def logdir(self, cell: Cell) -> Path:
        """Where a cell's run keeps its files."""
        return self.tree / cell.logdir

    def write(self) -> None:
        """Write `plan.json`."""
        write_record(self.tree / PLAN, self.record())

    def record(self) -> PlanRecord:
        """What `plan.json` is to hold."""
        ablation = self.ablation
        jobs = [self.job(cell) for cell in self.cells]
        stamped = [
            cell.model_copy(update={"version": job.run.digest(), "evaluation": job.wanted})
            for cell, job in zip(self.cells, jobs, strict=True)
            if job.run
        ]
        return PlanRecord(
            ablation=ablation.name,
            preset=self.preset,
            question=ablation.question,
            paper=ablation.paper,
            metric=ablation.metric,
            expected=ablation.expected,
            arms=tuple(ablation.arms),
            ensembles=self.ensembles,
            strong=dict(self.strong),
            sections=ablation.sections,
            measurements=dict(ablation.measurements),
            command=self.command,
            tuning=self.tuning.spec() if self.tuning else None,
            registration=self._registered(),
            auto=self.auto,
            left_out=" ".join(
                dict.fromkeys(facts.left_out for facts in self.data.values() if facts.left_out)
            ),
            cells=tuple(stamped),
        )

    @property
    def _compared_levels(self) -> list[dict[str, Any]]:
        """The levels that every planned arm has."""
        planned = {(cell.arm, repr(cell.level)) for cell in self.cells}
        arms = {arm for arm, _ in planned}
        return [
            level
            for level in _distinct(cell.level for cell in self.cells)
            if all((arm, repr(level)) in planned for arm in arms)
        ]

    def _registered(self) -> Registered | None:
        """The ablation's rule at this plan's levels, and whether it is the one that came before any result.

        A plan that is missing or damaged while results are there registered nothing.
        """
        if self.ablation.primary is None:
            return None
        runs = _distinct((cell.arm, cell.level) for cell in self.cells)
        rule = self.ablation.primary.at_levels(self.ablation.metric, self._compared_levels, runs)
        made = Registered(rule=rule, hash=rule.digest())
        if not any(self.tree.glob(f"runs/**/{RESULT}")):
            return made
        try:
            planned = read_record(PlanRecord, self.tree / PLAN)
        except DamagedError:
            planned = None
        before = planned.registration if planned else None
        if before is None:
            return made.model_copy(update={"after_results": True})
        first = before.first or before.rule
        changed = {"first": first} if first.digest() != made.hash else {}
        return made.model_copy(update={"after_results": before.after_results, **changed})


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repeats, as they first came; lists are among them."""
    return list({repr(value): value for value in values}.values())
