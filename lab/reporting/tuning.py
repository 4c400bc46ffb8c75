"""What a report says of arms that were tuned: how, with what outcome, and which trials are censored."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from lab.files import Row, read_json
from lab.metrics import NLL, find_metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, level_name
from lab.reporting.words import join, plain
from lab.results import DamagedError

FILE = "tuning.json"
SCHEMA = 2
STATES = ("done", "censored", "failed", "not finished")
EDGE = 0.05  # of a range, at each end


class Trial(TypedDict):
    """One trial as `tuning.json` holds it; further keys are shown too."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)  # type: ignore[misc]

    trial: int
    state: Literal["done", "censored", "failed", "not finished"]
    validation_nll: float | None
    validation_nll_when_stopped: float | None
    tokens_seen: int | None
    values: dict[str, float]


class Study(TypedDict):
    """The trials of one arm at one level."""

    arm: str
    level: dict[str, Any]
    fixed: dict[str, float]
    start: dict[str, float]
    best: dict[str, float] | None
    trials: list[Trial]


class Bounds(TypedDict):
    """The range of a tuned key."""

    low: float
    high: float
    log: bool
    step: float | None


class Specification(TypedDict):
    """How arms are tuned."""

    trials: int
    space: dict[str, Bounds]
    seed: int
    round_size: int
    sampler: str
    sampler_arguments: dict[str, Any]
    sampler_seed: int
    pruner: str
    pruner_arguments: dict[str, Any]


class TuningFile(TypedDict):
    """What `tuning.json` holds."""

    schema: int
    specification: Specification
    studies: list[Study]


def write(tree: ResultTree) -> Content | None:
    """What the plan's tuning came to, as far as it has come; None if there is none yet.

    Raises:
        DamagedError: if `tuning.json` is damaged or has another schema.
    """
    path = tree.path / FILE
    if not tree.plan.tuning or not path.is_file():
        return None
    content = _read(path)
    spec, studies = content["specification"], content["studies"]
    if not studies:
        return None
    keys = [_short(key) for key in spec["space"]]
    return Content(
        title="Tuning",
        verdict=_verdict(spec, studies),
        pictures=(
            Picture(
                name="tuning",
                title="Validation NLL of the trials, in the order in which they were asked for",
                caption="Each trial at its best stop (dot); the line is the best so far. A censored trial "
                "(▽) stands at the best that it had reached when it was stopped; × is a failed one.",
                panels=tuple(_panel(study) for study in studies),
            ),
        ),
        tables=(
            _study_table([_study_row(study, spec["space"]) for study in studies], keys),
            _trial_table([row for study in studies for row in _trial_rows(study, spec["space"])], keys),
        ),
        certain=(
            "The best of several trials on one split looks better than it is; the decisive runs on the test "
            "split do not suffer from that.",
        ),
        details=tuple(sentences(spec)),
        terms=("trial",),
    )


def _verdict(spec: Specification, studies: Sequence[Study]) -> tuple[str, ...]:
    states = [trial["state"] for study in studies for trial in study["trials"]]
    ended = (
        words.join([f"{states.count(state)} {state}" for state in STATES if state in states]) or "none yet"
    )
    names, levels = {study["arm"] for study in studies}, {level_name(study["level"]) for study in studies}
    arms = "One arm" if len(names) == 1 else f"{len(names)} arms"
    arms += f" at {len(levels)} levels" * (len(levels) > 1)
    return (f"{arms} had {words.count(spec['trials'], 'trial')}{' each' * (len(studies) > 1)}: {ended}.",)


def _read(path: Path) -> TuningFile:
    try:
        found = read_json(path)
        if isinstance(found, dict) and found.get("schema") != SCHEMA:
            raise DamagedError(f"{path}: `schema` must be {SCHEMA}, but got {found.get('schema')}.")
        return TypeAdapter(TuningFile).validate_python(found)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the whole"
        raise DamagedError(f"{path}: not what the lab writes there ({where}: {problem['msg']}).") from None
    except ValueError as error:
        raise DamagedError(str(error)) from None


def sentences(spec: Specification) -> list[str]:
    """How arms were tuned, in words."""
    ranges = [
        f"{_short(key).replace('_', ' ')} from {bounds['low']:g} to {bounds['high']:g}"
        + (" (logarithmic)" if bounds["log"] else "")
        + (f" in steps of {bounds['step']:g}" if bounds["step"] else "")
        for key, bounds in spec["space"].items()
    ]
    return [
        f"Each tuned arm had {spec['trials']} trials of one run each, with seed {spec['seed']}, which no "
        "decisive run has. The values with the lowest validation NLL at the run's best stop were taken, and "
        "the decisive seeds run with them; the numbers above are theirs, on the test split.",
        f"Tried: {join(ranges) or 'nothing, since the user set every value'}. The first trial is the arm as "
        "it stands. What an arm or its level sets keeps its value. Trials, sampler, pruner and seeds are the "
        "same for every arm.",
        f"Sampler: {spec['sampler']} ({_arguments(spec['sampler_arguments'])}; seed {spec['sampler_seed']}), "
        f"in rounds of {spec['round_size']}, whose outcomes are told together. "
        f"Pruner: {spec['pruner']} of the trials finished in earlier rounds "
        f"({_arguments(spec['pruner_arguments'])}; steps are stops, counted from 0; a trial counts with its "
        "lowest loss up to there).",
        "A trial that was stopped early is censored: what it had reached is shown, and enters no average and "
        "no choice. A failed trial counts as one of its arm's trials.",
    ]


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _study_row(study: Study, space: Mapping[str, Bounds]) -> Row:
    states: list[str] = [trial["state"] for trial in study["trials"]]
    finished = [trial["validation_nll"] for trial in study["trials"] if trial["validation_nll"] is not None]
    untuned = [trial["validation_nll"] for trial in study["trials"] if trial["values"] == study["start"]]
    values = study["fixed"] | (study["best"] or {})
    return {
        "arm": study["arm"],
        "level": level_name(study["level"]),
        "trials": len(states),
        **{state: states.count(state) for state in STATES},
        "best_validation_nll": min(finished) if finished else None,
        "untuned_validation_nll": untuned[0] if untuned else None,
        "tokens_seen": sum(trial["tokens_seen"] or 0 for trial in study["trials"]),
        **{
            _short(key): {
                "value": values.get(key),
                "own": key in study["fixed"],
                "edge": key in (study["best"] or {}) and at_edge(values[key], bounds),
            }
            for key, bounds in space.items()
        },
    }


def at_edge(value: float, bounds: Bounds) -> bool:
    """Whether a best value lies at an end of its range, so that a better one may lie beyond it.

    Nothing lies below zero.
    """
    scale = math.log if bounds["log"] else float
    low, high, place = (scale(number) for number in (bounds["low"], bounds["high"], value))
    margin = EDGE * (high - low)
    return place > high - margin or (place < low + margin and bounds["low"] > 0)


def _trial_rows(study: Study, space: Mapping[str, Bounds]) -> list[Row]:
    place = {"arm": study["arm"], "level": level_name(study["level"])}
    return [
        place
        | {name: value for name, value in trial.items() if name != "values"}
        | {_short(key): trial["values"].get(key, study["fixed"].get(key)) for key in space}
        for trial in study["trials"]
    ]


def _panel(study: Study) -> Figure:
    """Validation NLL by trial, of one arm and level."""
    figure, ax = drawing.new_panel(study["arm"] + words.at_level(study["level"]), height=2.8)
    trials = study["trials"]
    done = {
        trial["trial"]: nll
        for trial in trials
        if trial["state"] == "done" and (nll := trial["validation_nll"]) is not None
    }
    censored = {
        trial["trial"]: nll
        for trial in trials
        if trial["state"] == "censored" and (nll := trial["validation_nll_when_stopped"]) is not None
    }
    ax.plot(list(done), list(done.values()), "o", color=drawing.INK, alpha=0.6, markersize=5)
    ax.plot(list(censored), list(censored.values()), "v", color=drawing.GREY, markerfacecolor="none")
    best = [min(loss for other, loss in done.items() if other <= trial) for trial in done]
    ax.step(list(done), best, where="post", color=drawing.INK, linewidth=1.5)
    for trial in trials:
        if trial["state"] == "failed":
            ax.plot(trial["trial"], 0.97, "x", color=drawing.GREY, transform=ax.get_xaxis_transform())
    ax.set_xlim(-0.5, max(1, len(trials)) - 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("Trial")
    ax.set_ylabel(drawing.axis_label(find_metric(NLL), "validation"))
    return figure


def _study_table(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    columns = [table.text("Arm", "arm")]
    if any(row["level"] for row in rows):
        columns.append(table.level())
    columns += [table.number(words.capital(name), name) for name in ("trials", "done", "censored", "failed")]
    columns += [
        table.number(f"Tokens seen{table.LINE}all trials", "tokens_seen", printed=False),
        table.number(f"Validation NLL{table.LINE}as it stands", "untuned_validation_nll", _nll),
        table.number(f"Validation NLL{table.LINE}best trial", "best_validation_nll", _nll),
    ]
    columns += [_best_column(key) for key in keys]
    caption = (
        "Own: the arm or its level sets it, so it was not tuned. Edge: at an end of its range, so a better "
        "value may lie beyond it."
    )
    return Table("tuning_studies", rows, columns, caption=caption)


def _best_column(key: str) -> Column:
    heading = words.capital(key.replace("_", " "))
    return Column(f"{heading}{table.LINE}best trial", lambda row: best_in_words(row[key]))


def _trial_table(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    columns = [table.text("Arm", "arm"), *([table.level()] if any(row["level"] for row in rows) else [])]
    columns += [table.number("Trial", "trial"), table.text("State", "state")]
    columns.append(table.number("Validation NLL", "validation_nll", _nll))
    columns += [table.number(words.capital(key.replace("_", " ")), key) for key in keys]
    return Table("tuning", rows, columns, title="Every trial")


def _nll(value: float) -> str:
    return find_metric(NLL).shown(value)


def best_in_words(value: Row) -> str:
    """A best value for the table: the arm's own, or one at the end of its range, says so; a dash for none."""
    if value["value"] is None:
        return "–"
    return plain(value["value"]) + (" (own)" if value["own"] else " (edge)" if value["edge"] else "")
