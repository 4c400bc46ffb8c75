"""Made-up result trees whose crossings and gains are known in closed form."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.ablation import Cell, load_ablation
from lab.arms import ARMS
from lab.config import RunConfig, make_config
from lab.registration import Registration
from lab.results import (
    Baseline,
    DataRecord,
    Examples,
    Measured,
    PlanRecord,
    Process,
    Registered,
    RunResult,
    Stop,
    StopReference,
    Task,
    VersionRecord,
    write_record,
)
from lab.sections import AnySection, compare
from lab.version import Version

PRESET = {
    "data": {"corpus": "stdlib", "length": 64},
    "training": {"batch_size": 32, "total_tokens": 5_120_000, "learning_rate": 1e-3},
    "evaluation": {"stops": 9, "choice_options": 4, "validation_windows": 4, "test_windows": 4},
}
CODE, EVALUATION = "feedfacecafebeef", "0ddba11c0ffee000"
DOCUMENTS = (0, 0, 1, 3)  # of the held-out windows
# The metrics of each measurement of a stop.
MEASUREMENTS = {
    "nll": ("nll", "nll_standard_error", "bits_per_byte"),
    "choice": (
        "choice_accuracy",
        "option_gap",
        "choice_accuracy_standard_error",
        "option_gap_standard_error",
    ),
    "nelbo": ("nelbo", "nelbo_example_standard_error", "nelbo_mask_standard_error"),
}
TOTAL_TOKENS = 5_120_000
PARAMETERS = 853_504
STOPS = 9


@dataclass
class FakeTree:
    """Writes a result tree; the tests read its parameters to know the truth.

    The AR's validation NLL falls by 0.3 nats per doubling of the tokens seen up to `best_epoch` and rises by
    0.4 per doubling after it. The DLM's falls by 0.2 per doubling throughout, so it is linear in log tokens
    and the interpolation between stops is exact.
    """

    path: Path
    budgets: tuple[int, ...] = (20_000, 80_000, 320_000)
    alone: tuple[int, ...] = ()  # budgets that the AR alone has
    seeds: tuple[int, ...] = (0, 1)
    readings: tuple[str, ...] = ("annealed", "along_run")
    best_epoch: float = 16.0
    dlm_start: float = 4.15
    seed_shift: dict[str, float] = field(default_factory=lambda: {"ar": 0.01, "dlm": -0.02})
    question: str = "Does a diffusion language model overtake an autoregressive one on repeated text?"
    sections: tuple[AnySection, ...] | None = None
    arms: tuple[str, ...] = ("ar", "dlm")
    metric: str = "nll"
    ngram: dict[int, float] = field(default_factory=dict)  # budget -> validation NLL of the n-gram, seed 0
    primary: Registration | None = None

    def shown(self) -> tuple[AnySection, ...]:
        """The sections of its page: those given, or the crossover's own."""
        return load_ablation("crossover").sections if self.sections is None else self.sections

    def level(self, budget: int) -> dict[str, Any]:
        return {"data.unique_tokens": budget}

    def nll(self, arm: str, tokens: float, budget: int, seed: int) -> float:
        return (self.ar_nll if arm == "ar" else self.dlm_nll)(tokens, budget, seed)

    def flops_per_token(self, arm: str) -> float:
        return 5.1e6 if arm == "ar" else 5.3e6

    def rates(self, arm: str) -> tuple[float, ...]:
        """Training speeds in a run's metrics.jsonl, tokens/s."""
        return (9e3, 3e4, 3.2e4)

    def ar_nll(self, tokens: float, budget: int, seed: int) -> float:
        doublings = math.log2(tokens / 20_000)
        best = math.log2(self.best_epoch * budget / 20_000)
        after = max(0.0, doublings - best)
        return 3.9 - 0.3 * (doublings - after) + 0.4 * after + self.seed_shift["ar"] * seed

    def dlm_nll(self, tokens: float, budget: int, seed: int) -> float:
        return self.dlm_start - 0.2 * math.log2(tokens / 20_000) + self.seed_shift["dlm"] * seed

    def metrics(self, arm: str, tokens: float, budget: int, seed: int, reading: str) -> dict[str, float]:
        nll = self.nll(arm, tokens, budget, seed)
        nll += 0.0 if reading == "annealed" else 0.08
        gap = 0.1 * math.log2(tokens / 10_000) + 0.02 * seed - (0.15 if arm == "dlm" else 0.0)
        values = {
            "nll": nll,
            "nll_standard_error": 0.05,
            "bits_per_byte": nll / math.log(2) / 0.99,
            "choice_accuracy": min(0.95, 0.25 + 0.5 * gap),
            "option_gap": gap,
        }
        if arm == "dlm":
            values |= {
                "nelbo": nll + 0.11,
                "nelbo_example_standard_error": 0.04,
                "nelbo_mask_standard_error": 0.01,
            }
        return values

    def config(self, arm: str, budget: int, seed: int) -> RunConfig:
        own = {"arm": arm, "seed": seed, "factors": ARMS.get(arm, {}), "data": {"unique_tokens": budget}}
        return make_config(PRESET, own)

    def data_hash(self, budget: int) -> str:
        return f"data{budget}"

    def measured(self, stop: StopReference, split: str, values: dict[str, float]) -> list[Measured]:
        """The rows of one stop on one split; the NLL by window too, whose mean is the NLL."""
        rows = []
        for name, keys in MEASUREMENTS.items():
            own = {key: values[key] for key in keys if key in values}
            if own:
                task = Task(measurement=name, split=split, settings={"windows": 4})
                by_window = tuple(values["nll"] + shift for shift in (-0.1, 0.0, 0.1, 0.0))
                examples = Examples(metric="nll", values=by_window, documents=DOCUMENTS)
                key = f"{name}-{split}-{stop.run}-{stop.reading}-{stop.step}"
                found = examples if name == "nll" else None
                rows.append(Measured(key=key, task=task, stops=(stop,), values=own, examples=found))
        return rows

    def baselines(self, budget: int, seed: int) -> list[Baseline]:
        """A budget's n-gram, 0.02 worse in each later seed, and the others 1 and 2 above it."""
        made = []
        if budget in self.ngram:
            for place, name in enumerate(("n-gram", "unigram", "uniform")):
                nll = self.ngram[budget] + 0.02 * seed + place
                by_split = {"validation": nll, "test": nll + 0.03}
                values = {
                    split: {"nll": value, "nll_standard_error": 0.05, "bits_per_byte": value / 0.69}
                    for split, value in by_split.items()
                }
                examples = {
                    split: Examples(metric="nll", values=(value,) * 4, documents=DOCUMENTS)
                    for split, value in by_split.items()
                }
                settings = {"order": 4 + seed} if name == "n-gram" else {}
                made.append(Baseline(name=name, settings=settings, values=values, examples=examples))
        return made

    def result(self, arm: str, budget: int, seed: int) -> RunResult:
        flops_per_token = self.flops_per_token(arm)
        config = self.config(arm, budget, seed)
        version = Version.of(config, self.data_hash(budget), "jax", CODE)
        stops = []
        for reading in self.readings:
            places = [TOTAL_TOKENS // 2**j for j in reversed(range(STOPS))]
            nll = {at: self.metrics(arm, at, budget, seed, reading)["nll"] for at in places}
            picked = {min(places, key=lambda at, nll=nll: nll[at]), TOTAL_TOKENS}
            for tokens in places:
                name = StopReference(run=version.digest(), reading=reading, step=tokens // 2048)
                values = self.metrics(arm, tokens, budget, seed, reading)
                rows = self.measured(name, "validation", values)
                if tokens in picked:
                    rows += self.measured(name, "test", values | {"nll": values["nll"] + 0.03})
                for row in rows:  # each seed has a held-out sample of its own
                    row.task.settings["sample"] = seed
                stops.append(
                    Stop(
                        reading=reading,
                        start=tokens // 2048,
                        step=tokens // 2048,
                        tokens_seen=tokens,
                        epoch=tokens / budget,
                        train_flops=tokens * flops_per_token,
                        measured=tuple(rows),
                    )
                )
        return RunResult(
            config=config,
            version=VersionRecord(values=dict(version.values), code=version.code),
            evaluation=EVALUATION,
            process=Process(
                backend="jax",
                device="cpu",
                cpu="Fast CPU 3000",
                threads=2,
                versions={"python": "3.11.7", "keras": "3.15.1", "jax": "0.10.2"},
            ),
            data=DataRecord(
                hash=self.data_hash(budget),
                hashes={"train": self.data_hash(budget), "validation": "va1", "test": "7e57"},
                corpus="stdlib",
                tokenizer="bytes",
                unique_tokens=budget,
                windows=budget // 64,
                length=64,
                bytes_per_token=0.99,
                train_tokens=1_000_000,
                documents={"validation": 70, "test": 80},
                seen_tokens={"validation": 0.25, "test": 0.5},
                seen_windows={"validation": 0.125, "test": 0.25},
            ),
            parameters=PARAMETERS,
            train_flops_per_token=flops_per_token,
            forward_flops_per_token=flops_per_token / 3,
            train_flops=TOTAL_TOKENS * flops_per_token * 1.4,
            evaluation_flops=1e12,
            wall_seconds=95.5 + seed,
            stops=tuple(stops),
            baselines=tuple(self.baselines(budget, seed)),
        )

    def logdir(self, arm: str, budget: int, seed: int) -> Path:
        return self.path / "runs" / arm / f"unique_tokens={budget}" / f"seed={seed}"

    def registered(self) -> Registered | None:
        if self.primary is None:
            return None
        rule = self.primary.at_levels(self.metric, [self.level(budget) for budget in self.budgets])
        return Registered(rule=rule, hash=rule.digest())

    def plan(self, cells: list[Cell]) -> PlanRecord:
        return PlanRecord(
            ablation="crossover",
            preset="laptop",
            question=self.question,
            paper="arXiv:2511.03276, section 2",
            metric=self.metric,
            expected="The DLM overtakes the AR at the smaller budgets and not at the largest.",
            arms=self.arms,
            sections=self.shown(),
            command="make crossover",
            registration=self.registered(),
            cells=tuple(cells),
        )

    def write(self) -> "FakeTree":
        cells = []
        for budget in (*self.budgets, *self.alone):
            for arm in self.arms if budget in self.budgets else ("ar",):
                for seed in self.seeds:
                    logdir = self.logdir(arm, budget, seed)
                    result = self.result(arm, budget, seed)
                    cells.append(
                        Cell(
                            arm=arm,
                            level=self.level(budget),
                            seed=seed,
                            logdir=logdir.relative_to(self.path).as_posix(),
                            config=result.config,
                            version=result.run,
                            evaluation=EVALUATION,
                        )
                    )
                    write_record(logdir / "result.json", result)
                    rows = [{"kind": "train", "tokens_per_second": rate} for rate in self.rates(arm)]
                    lines = [json.dumps(row) + "\n" for row in rows]
                    (logdir / "metrics.jsonl").write_text("".join(lines))
        write_record(self.path / "plan.json", self.plan(cells))
        return self

    def replan(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change plan.json in place."""
        path = self.path / "plan.json"
        plan = json.loads(path.read_text())
        change(plan)
        self.store(path, plan)

    def edit(self, arm: str, budget: int, seed: int, change: Callable[[dict[str, Any]], object]) -> None:
        """Change one run's result.json in place; the plan goes on planning what is there then."""
        logdir = self.logdir(arm, budget, seed)
        path = logdir / "result.json"
        result = json.loads(path.read_text())
        change(result)
        self.store(path, result)
        run = Version(result["version"]["values"], result["version"]["code"]).digest()
        place = logdir.relative_to(self.path).as_posix()

        def follow(plan: dict[str, Any]) -> None:
            for cell in plan["cells"]:
                cell["version"] = run if cell["logdir"] == place else cell["version"]

        self.replan(follow)

    def fail(self, arm: str, budget: int, seed: int, reason: str) -> None:
        """Make one run a failed one."""
        logdir = self.logdir(arm, budget, seed)
        (logdir / "result.json").unlink()
        self.store(
            logdir / "failure.json", {"reason": reason, "log_tail": "Traceback\nRuntimeError: last line"}
        )

    @staticmethod
    def store(path: Path, value: Any) -> None:
        path.write_text(json.dumps(value))


def set_nll(result: dict[str, Any], place: int, nll: float) -> None:
    """Give a stop of a result.json another NLL, and a test split that agrees, as if it were picked."""
    stop = result["stops"][place]
    kept = [row for row in stop["measured"] if row["task"]["split"] == "validation"]
    kept[0]["values"]["nll"] = nll
    test = json.loads(json.dumps(kept))
    for row in test:
        row["task"]["split"] = "test"
    test[0]["values"]["nll"] = nll + 0.03
    stop["measured"] = kept + test


def unmeasure(result: dict[str, Any], measurement: str) -> None:
    """Take a measurement from all stops of a result.json."""
    for stop in result["stops"]:
        stop["measured"] = [row for row in stop["measured"] if row["task"]["measurement"] != measurement]


def overfit_at_the_end(result: dict[str, Any]) -> None:
    """Make the annealed stop before the last the best, as good as the last was."""
    nll = result["stops"][8]["measured"][0]["values"]["nll"]
    set_nll(result, 7, nll)
    set_nll(result, 8, nll + 1e-3)


@dataclass
class FakeSweep(FakeTree):
    """A sweep of one budget: an AR, which overfits, with noisier forms of it, and a DLM with two of its own.

    Each arm's NLL is its reference's minus its gain, a little less in later seeds. `dlm_passes2` has twice
    the FLOPs and half the speed.
    """

    budgets: tuple[int, ...] = (20_000,)
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = ("ar", "ar_mask10", "ar_mask30", "ar_mask90", "dlm", "dlm_passes2")
    contrasts: dict[str, str] = field(
        default_factory=lambda: {
            "ar_mask10": "ar",
            "ar_mask30": "ar",
            "ar_mask90": "ar",
            "dlm": "ar",
            "dlm_passes2": "dlm",
        }
    )
    gains: dict[str, float] = field(
        default_factory=lambda: {
            "ar_mask10": 0.0,
            "ar_mask30": 0.2,
            "ar_mask90": -0.4,
            "dlm_passes2": 0.1,
        }
    )
    # Per seed, what is added to the gain of every arm.
    gain_shift: tuple[float, ...] = (-0.01, 0.0, 0.01, 0.02, 0.03)

    def shown(self) -> tuple[AnySection, ...]:
        return compare(self.contrasts) if self.sections is None else self.sections

    def level(self, budget: int) -> dict[str, Any]:
        return {} if len(self.budgets) == 1 else super().level(budget)

    def nll(self, arm: str, tokens: float, budget: int, seed: int) -> float:
        if arm not in self.gains:
            return super().nll(arm, tokens, budget, seed)
        without = self.nll(self.contrasts[arm], tokens, budget, seed)
        return without - self.gains[arm] - self.gain_shift[seed]

    def flops_per_token(self, arm: str) -> float:
        return super().flops_per_token(arm) * (2 if arm == "dlm_passes2" else 1)

    def rates(self, arm: str) -> tuple[float, ...]:
        return tuple(rate / (2 if arm == "dlm_passes2" else 1) for rate in super().rates(arm))
