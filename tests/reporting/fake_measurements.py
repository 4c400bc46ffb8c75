"""A made-up inference tree, measured after its runs, whose multiples of AR's FLOPs are known."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_trees import FakeTree

from lab.ablation import Cell, load_ablation
from lab.config import RunConfig, make_config
from lab.evaluation.measurements import inference
from lab.results import (
    Measured,
    MeasurementResult,
    PlanRecord,
    RunResult,
    Task,
    Text,
    measurement_folder,
    write_record,
)
from lab.sections import AnySection

STEPS, DRAWS = (1, 2, 4, 8, 16), (1, 4, 16)


@dataclass
class FakeInference(FakeTree):
    """Judge NLL and accuracy are linear in the logarithm of FLOPs, so interpolation is exact.

    AR costs 1 FLOP a token; the DLM with T passes T FLOPs, and its judge NLL falls by `slope` nats with
    each doubling from `dlm_nll_at_1`. With draws its accuracy rises by 0.05 a doubling from 0.4.

    Of every arm a doubling of the temperature adds 0.6 nats to the judge NLL and 0.5 to the entropy, which
    is `entropies` at temperature 1; an arm that is not there has none.
    """

    budgets: tuple[int, ...] = (20_000,)
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = ("judge", "ar", "dlm", "any_order_ar")
    metric: str = "judge_nll"
    samplers: tuple[str, ...] = ("ancestral", "confidence")
    ar_judge_nll: float = 2.0
    dlm_nll_at_1: float = 2.5
    slope: float = 0.2
    temperatures: tuple[float, ...] = (0.5, 1.0, 2.0)
    entropies: dict[str, float] = field(
        default_factory=lambda: {"ar": 2.0, "dlm": 1.8, "any_order_ar": 1.2, "real_text": 2.1}
    )
    ar_accuracy: float = 0.55
    shift: dict[int, float] = field(default_factory=lambda: {0: 0.0, 1: 0.1, 2: -0.1})

    def shown(self) -> tuple[AnySection, ...]:
        return load_ablation("inference-compute").sections if self.sections is None else self.sections

    def level(self, budget: int) -> dict[str, Any]:
        return {} if len(self.budgets) == 1 else super().level(budget)

    def config(self, arm: str, budget: int, seed: int) -> RunConfig:
        made = super().config(arm, budget, seed).model_dump(mode="json")
        measured = {"prompt_share": 0.75, "samplers": self.samplers, "draws": DRAWS}
        return make_config(made, {"inference": {**measured, "temperatures": self.temperatures}})

    def result(self, arm: str, budget: int, seed: int) -> RunResult:
        made = super().result(arm, budget, seed)
        if arm != "judge":
            return made
        return made.model_copy(update={"data": made.data.model_copy(update={"unique_tokens": 900_000})})

    def plan(self, cells: list[Cell]) -> PlanRecord:
        return super().plan(cells).model_copy(update={"measurements": {"inference": "judge"}})

    def values(self, arm: str, budget: int, seed: int, task: Task) -> tuple[dict[str, float], float]:
        """What a task gives, and its FLOPs."""
        steps, draws = task.settings.get("steps", 0), task.settings.get("num_draws")
        if task.measurement == "choice":
            exact, flops = (0.6, 60.0) if arm == "dlm" else (self.ar_accuracy, 10.0)
            sampled = draws and (0.4 + 0.05 * math.log2(draws), 10.0 * draws)
            accuracy, flops = sampled or (exact, flops)
            return {"choice_accuracy": accuracy, "choice_accuracy_standard_error": 0.04}, flops
        # The AR of a larger budget writes better, the DLM as well as before.
        nll, flops = self.ar_judge_nll - 0.1 * math.log2(budget / 20_000), 1.0
        nll += 0.4 if arm == "any_order_ar" else 0.0
        if task.measurement == "real_text":
            nll = 1.8
        elif arm == "dlm":
            nll, flops = self.dlm_nll_at_1 - self.slope * math.log2(steps) + self.shift[seed], steps
        doublings = math.log2(task.settings.get("temperature", 1.0))
        values = {"judge_nll": nll + 0.6 * doublings, "judge_nll_standard_error": 0.02}
        values |= {"distinct": 0.8, "repetition": 0.1}
        if of := self.entropies.get("real_text" if task.measurement == "real_text" else arm):
            values |= {"entropy": of + 0.5 * doublings, "entropy_standard_error": 0.03}
        return values, flops

    def rows(self, arm: str, seed: int, budget: int = 0) -> list[Measured]:
        budget = budget or self.budgets[0]
        result = self.result(arm, budget, seed)
        rows = []
        for number, task in enumerate(inference(self.config(arm, budget, seed))):
            values, flops = self.values(arm, budget, seed, task)
            text = Text(prompt="x = ", text=f"{task.settings.get('sampler', '')} of {seed}")
            real = task.measurement == "real_text"
            rows.append(
                Measured(
                    key=f"{arm}-{seed}-{number}",
                    task=task,
                    stops=(result.reference(result.best()),),
                    values=values,
                    costs={} if real else {"flops": flops, "flops_computed": 3 * flops},
                    texts=() if task.measurement == "choice" else (text,),
                )
            )
        return rows

    def write(self) -> "FakeInference":
        super().write()
        for arm in self.arms[1:]:
            for budget in self.budgets:
                for seed in self.seeds:
                    self.measure(arm, seed, budget)
        return self

    def measurement(self, arm: str, seed: int, budget: int = 0) -> Path:
        logdir = self.logdir(arm, budget or self.budgets[0], seed).relative_to(self.path).as_posix()
        return self.path / measurement_folder(logdir, "inference") / "result.json"

    def measure(self, arm: str, seed: int, budget: int = 0, **changes: Any) -> None:
        """Write what was measured of a run, with changes to its record."""
        budget = budget or self.budgets[0]
        result = self.result(arm, budget, seed)
        made = MeasurementResult(
            measurement="inference",
            wanted="all",
            code="feed",
            stops=(result.reference(result.best()),),
            tokens_seen=result.best().tokens_seen,
            epoch=result.best().epoch,
            process=result.process,
            wall_seconds=1.0,
            rows=tuple(self.rows(arm, seed, budget)),
        )
        write_record(self.measurement(arm, seed, budget), made.model_copy(update=changes))


def fake_inference(tmp_path: Path, **values: Any) -> FakeInference:
    """A written tree: `fake_inference(tmp_path, seeds=(0, 1))`."""
    return FakeInference(tmp_path / "results" / "inference-compute" / "laptop", **values).write()
