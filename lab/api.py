"""What the command line does, from Python: run an ablation, load what came of it or a model, write its page.

Nothing is printed unless it is asked for, and nothing ends the process, so all of it works in a notebook.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lab.ablation import Ablation, cells, dotted_values, load_ablation, strong_arms
from lab.config import Values, files_layer, merge, nest, parse_overrides, preset_name
from lab.console import make_console
from lab.environment import require_backend
from lab.files import Row
from lab.metrics import find_metric
from lab.results import MeasurementResult
from lab.scheduling.driver import Driver, Summary, driving
from lab.scheduling.executors.executor import Executor
from lab.scheduling.executors.resources import Resources
from lab.scheduling.measuring import measure_finished
from lab.scheduling.outcomes import TRIES, Outcome
from lab.scheduling.outlook import describe_plan
from lab.scheduling.places import Places
from lab.scheduling.plan import Plan
from lab.scheduling.preparing import prepare_data
from lab.scheduling.progress import RunsProgress
from lab.scheduling.tuning.driver import drive_tuned
from lab.scheduling.tuning.tuning import tuning_of

if TYPE_CHECKING:
    from lab.reporting.report import Report
    from lab.reporting.tree import CellResult, ResultTree
    from lab.training.exchange.model import Model


__all__ = [
    "AblationRun",
    "Places",
    "Resources",
    "Results",
    "load_model",
    "load_results",
    "report",
    "run_ablation",
]


@dataclass(frozen=True)
class AblationRun:
    """What came of an ablation that was run.

    Attributes:
        tree: the folder of its results; `load_results` and `report` take it.
        summary: how many runs were done, reused, failed, and the signal that ended it early, if one did.
    """

    tree: Path
    summary: Summary


@dataclass(frozen=True)
class Results:
    """What a result tree holds.

    Attributes:
        tree: its plan, and each planned run with its result.
        measurements: what was measured of finished runs after them: name of the measurement -> each run with
            its result.
    """

    tree: "ResultTree"
    measurements: Mapping[str, Sequence[tuple["CellResult", MeasurementResult]]]

    def rows(self) -> list[Row]:
        """All that runs measured at their stops, a row a number, for a table.

        Returns:
            Rows of `arm`, the keys of its level, `seed`, `reading`, `step`, `epoch`, `split`, `metric` and
            `value`; the units are those of lab/metrics.py.
        """
        return [
            {
                **{"arm": cell.arm, **cell.level, "seed": cell.seed},
                **{"reading": stop.reading, "step": stop.step, "epoch": stop.epoch},
                **{"split": measured.task.split, "metric": metric, "value": value},
            }
            for cell in self.tree.finished
            for stop in cell.done.stops
            for measured in stop.measured
            for metric, value in measured.values.items()
        ]


def run_ablation(
    ablation: str | Ablation,
    preset: str = "laptop",
    *,
    seeds: int | Literal["auto"] | None = None,
    levels: Mapping[str, Sequence[Any]] | None = None,
    overrides: Values | None = None,
    data: Sequence[str | Path] = (),
    tune: int | None = None,
    resources: Resources = Resources(),  # noqa: B008 (frozen)
    places: Places = Places(),  # noqa: B008
    tries: Mapping[Outcome, float] = TRIES,
    progress: bool = False,
) -> AblationRun:
    """Run what is missing of an ablation; what is there already is not computed again.

    Ctrl-C, or another notice, ends the runs at their next checkpoint and then returns; the same call goes on
    from there. In a thread other than the main one no signal can be taken, and it goes on to the end.

    Args:
        ablation: a module of `ablations/` by name, a file by its path, or what one declares.
        preset: a file in `configs/` by name, or a file by its path.
        seeds: repeats of each arm; the ablation's own if None. With `auto` as many as the looks of its
            registration ask for, while a primary contrast is undecided.
        levels: dotted key of a factor -> levels in place of the ablation's.
        overrides: dotted key of the configuration -> value, for every run.
        data: files, folders or globs of a text in place of the preset's.
        tune: trials for each arm that is tuned; the ablation's own if None.
        resources: what the runs are computed on.
        places: where results are kept.
        tries: how often a run may end in each way before it counts as failed.
        progress: show on the terminal, or in the notebook, how far the runs are.

    Raises:
        ValueError: if there is no such ablation, it cannot be run so, or its files cannot be written.
        OSError: if the cache cannot be written.
    """
    require_backend()
    typed = ablation if isinstance(ablation, str) else ablation.name
    ablation = load_ablation(ablation) if isinstance(ablation, str) else ablation
    overrides, paths = nest(overrides or {}), [str(path) for path in data]
    layer = merge(files_layer(paths), overrides)
    planned = [cells(ablation, preset, number, layer, levels) for number in _looks(ablation, seeds)]
    tuning = tuning_of(ablation, preset, tune, overrides)
    resources.check(planned[-1])
    resources = resources.fitted(planned[-1])
    places.check()
    console = make_console(quiet=not progress)
    last = Plan(
        places.tree(ablation.name, preset_name(preset), tuned=bool(tuning and not ablation.tuned)),
        ablation,
        preset_name(preset),
        planned[-1],
        _command(typed, preset, seeds, levels or {}, tune, paths, overrides, places.results),
        prepare_data(planned[-1], ablation.measurements, places.cache, console),
        tuning=tuning,
        auto=seeds == "auto",
        strong=strong_arms(ablation, preset, layer),
    )
    plans = [replace(last, cells=made) for made in planned]
    shown, executor = RunsProgress(console), resources.executor(places)
    if progress:
        own = len(cells(ablation, preset))
        stated = f"{ablation.scale(preset).budget}, as the ablation says of its own {own} runs"
        outlook = describe_plan(plans[0], resources.at_once(), stated, places.results)
        shown.pace = outlook.pace
        shown.say(outlook.line)
    return AblationRun(last.tree, _drive(plans, executor, places, shown, tries))


def load_results(path: str | Path) -> Results:
    """Read a result tree, `results/<ablation>/<preset>`, whatever is there of it by now.

    Raises:
        ValueError: if there is no plan, or a file is not as the lab writes it.
    """
    from lab.reporting.tree import read_tree

    tree = read_tree(Path(path))
    measured = {
        name: [(cell, result) for cell in tree.finished if (result := tree.measured(cell, name))]
        for name in tree.plan.measurements
    }
    return Results(tree, measured)


def report(path: str | Path) -> "Report":
    """Write the page of a result tree, with its pictures and tables.

    Raises:
        ValueError: if there is no plan, no run is finished, or the arms may not be compared.
    """
    from lab.reporting.report import write_report

    return write_report(Path(path))


def load_model(path: str | Path, batch_size: int = 32) -> "Model":
    """Load a model that `lab export` or `lab import` has written, to score text or to look at its logits.

    Args:
        path: its folder.
        batch_size: rows a pass.

    Raises:
        ValueError: naming the file, if one is missing, damaged, or of another program.
    """
    from lab.training.exchange.exported import load_model

    return load_model(Path(path), batch_size)


def _looks(ablation: Ablation, seeds: int | Literal["auto"] | None) -> tuple[int | None, ...]:
    """The numbers of seeds after which it may be enough."""
    if seeds != "auto":
        return (seeds,)
    if ablation.primary is None:
        raise ValueError(
            f"`seeds` must be a number for {ablation.name}, which registers no primary contrast, "
            "but got seeds='auto'."
        )
    return ablation.primary.looks


def _drive(
    plans: Sequence[Plan],
    executor: Executor,
    places: Places,
    progress: RunsProgress,
    tries: Mapping[Outcome, float],
) -> Summary:
    """Tune if it is planned, run, and measure what finished.

    Args:
        plans: the same one with more and more seeds; each is driven unless the one before decided all. Where
            the results of one are there and leave something undecided, as after a kill, it is passed over,
            so that `plan.json` never falls behind the look that was reached.
    """
    done, judged_by_measuring = 0, _is_judged_by_measuring(plans[-1])
    with driving(plans[-1], executor, places, progress, tries) as driver:
        for plan in plans:
            if plan is not plans[-1] and _finished(plan) and not _decided(plan):
                continue
            summary = drive_tuned(plan, driver) if plan.tuning else driver.bring(plan)
            summary.done, summary.reused = summary.done + done, summary.reused - done
            if judged_by_measuring:
                _measure(summary, plan, driver)
            if summary.interrupted or summary.failed or plan is plans[-1] or _decided(summary.plan or plan):
                break
            done = summary.done
        if not judged_by_measuring:
            _measure(summary, plan, driver)
        return summary


def _is_judged_by_measuring(plan: Plan) -> bool:
    """Whether what decides is measured after the runs, so that each look waits for it."""
    primary = plan.ablation.primary
    return primary is not None and find_metric(primary.metric or plan.ablation.metric).after_runs


def _measure(summary: Summary, plan: Plan, driver: Driver) -> None:
    """Measure what finished and is not measured yet, unless there was an interrupt."""
    if not summary.interrupted:
        measured = measure_finished(summary.plan or plan, driver)
        summary.failed |= measured.failed
        summary.interrupted = measured.interrupted


def _finished(plan: Plan) -> bool:
    """Whether all of its runs have results; not known before it is tuned."""
    return plan.tuning is None and all(plan.job(cell).result() for cell in plan.cells)


def _decided(plan: Plan) -> bool:
    """Whether the looks up to this plan's seeds have decided every primary contrast."""
    from lab.reporting.primary import is_decided
    from lab.reporting.tree import tree_of

    return is_decided(tree_of(plan.tree, plan.record()))


def _command(
    name: str,
    preset: str,
    seeds: int | Literal["auto"] | None,
    levels: Mapping[str, Sequence[Any]],
    tune: int | None,
    paths: Sequence[str],
    overrides: Values,
    results: Path,
) -> str:
    """What to type for the same plan. A storage URL is left out: it may hold a password."""
    parts = ["python", "-m", "lab", "ablate", name, "--preset", preset]
    parts += [] if seeds is None else ["--seeds", str(seeds)]
    for key, values in levels.items():
        parts += ["--levels", f"{key}={','.join(map(_text, values))}"]
    parts += [] if tune is None else ["--tune", str(tune)]
    parts += [part for path in paths for part in ("--data", path)]
    for key, value in dotted_values(overrides):
        parts += ["--set", f"{key}={_text(value)}"]
    parts += [] if results == Path("results") else ["--results", str(results)]
    return " ".join(map(_quoted, parts))


def _quoted(part: str) -> str:
    """A part of a command as a shell takes it; of a name that is no UTF-8 the bytes are spelled."""
    if part.isascii() or part.isprintable():
        return shlex.quote(part)
    letters = [
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else rf"\x{byte:02x}"
        for byte in os.fsencode(part)
    ]
    return f"$'{''.join(letters)}'"


def _text(value: Any) -> str:
    """A value as it is typed behind `--set key=`."""
    if isinstance(value, str) and parse_overrides([f"value={value}"]) == {"value": value}:
        return value
    return json.dumps(value, separators=(",", ":"))
