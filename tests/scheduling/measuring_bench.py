"""A result tree of two tiny real runs, one of which judges the other."""

import random

import pytest
import yaml
from ablation_bench import tiny_ablation
from rich.console import Console

import lab.config
from lab.ablation import Scale, cells
from lab.arms import arm_values
from lab.results import MeasurementResult, read_record
from lab.scheduling.driver import driving
from lab.scheduling.executors.local import COMMAND, LocalExecutor
from lab.scheduling.measuring import measure_finished
from lab.scheduling.places import Places
from lab.scheduling.plan import Plan
from lab.scheduling.preparing import prepare_data
from lab.scheduling.progress import RunsProgress

PRESET = {
    "data": {"corpus": "text", "length": 16, "validation_share": 0.2, "test_share": 0.2},
    "model": {"size": "0.1m", "layers": 1, "width": 16, "heads": 2, "ffn_width": 32},
    "training": {
        **{"batch_size": 4, "learning_rate": 0.01, "total_steps": 10, "warmup_steps": 2},
        **{"log_steps": 5, "checkpoint_steps": 20},
    },
    "evaluation": {
        **{"stops": 2, "validation_windows": 4, "test_windows": 4, "nelbo_draws": 2, "choice_items": 4},
        **{
            "exact_windows": 3,
            "choice_context_tokens": 8,
            "choice_option_tokens": 4,
            "sample_tokens": 0,
            "batch_size": 32,
        },
    },
    "inference": {
        **{"prompts": 4, "samplers": ["ancestral"], "temperatures": [1.0]},
        **{"draws": [1], "choice_items": 3},  # of others than the yardstick, which would serve
    },
}


class Tree:
    """A folder with a corpus, a preset, a cache and the tree."""

    def __init__(self, folder):
        self.folder = folder
        self.cache = folder / "cache"
        self.tree = folder / "results" / "tiny" / "tiny"
        self.logdir = self.tree / "measurements" / "inference" / "ar" / "seed=0"

    def write_corpus(self):
        words = random.Random(0)
        (self.folder / "corpus").mkdir()
        for number in range(40):
            text = " ".join(f"{words.choice('abcd') * words.randint(1, 3)}{number}" for _ in range(40))
            (self.folder / "corpus" / f"{number}.txt").write_text(text)
        (self.folder / "configs").mkdir()
        preset = {**PRESET, "data": {**PRESET["data"], "paths": [str(self.folder / "corpus")]}}
        (self.folder / "configs" / "tiny.yaml").write_text(yaml.safe_dump(preset))

    def plan(self, measurements=None, sections=(), ablation=None, **overrides):
        ablation = ablation or tiny_ablation(
            arms={"ar": arm_values("ar"), "judge": arm_values("ar")},
            sections=sections,
            scales={"tiny": Scale({}, seeds=1, budget="seconds")},
            measurements=measurements or {"inference": "judge"},
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lab.config, "PRESETS_DIR", self.folder / "configs")
            planned = cells(ablation, "tiny", overrides=overrides)
        facts = prepare_data(planned, ablation.measurements, self.cache)
        return Plan(self.tree, ablation, "tiny", planned, "python -m lab ablate tiny", facts)

    def drive(self, executor=None, **planned):
        """What became of the runs, and of the measurements."""
        plan = self.plan(**planned)
        progress = RunsProgress(Console(quiet=True))
        with driving(
            plan, executor or LocalExecutor(2, COMMAND), Places(cache=self.cache), progress
        ) as driver:
            return driver.bring(plan), measure_finished(plan, driver)

    def lines(self):
        """The rows of the measurement's log as they were written."""
        return (self.logdir / "metrics.jsonl").read_bytes().splitlines()

    def rows(self):
        return read_record(MeasurementResult, self.logdir / "result.json").rows

    def trained(self):
        """All that the runs have written, but for locks and logs."""
        files = [path for path in (self.tree / "runs").rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files if path.suffix not in (".lock", ".txt")}

    def run(self, *arguments):
        return [self.tree / "runs" / arm / "seed=0" for arm in arguments]
