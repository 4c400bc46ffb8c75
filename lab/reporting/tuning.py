"""What a report says of arms that were tuned: how, with what outcome, and which trials ended early."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import ConfigDict, Field

from lab.files import Row, read_json
from lab.metrics import NLL, find_metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, level_name
from lab.results import DamagedError, Record, parse_record

FILE = "tuning.json"
SCHEMA = 3
DONE, EARLY = "done", "ended early"
STATES = (DONE, EARLY, "failed", "not finished")
METRIC = find_metric(NLL)  # by which trials are compared
EDGE = 0.05  # of a range, at each end


class _Part(Record):
    """Further keys are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Trial(Record):
    """One trial as `tuning.json` holds it; further keys are shown too."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    trial: int
    state: Literal["done", "ended early", "failed", "not finished"]
    validation_nll: float | None
    tokens_seen: int | None
    values: dict[str, float | str]


class Study(_Part):
    """The trials of one arm at one level."""

    arm: str
    level: dict[str, Any]
    fixed: dict[str, float | str]
    start: dict[str, float | str]
    best: dict[str, float | str] | None
    trials: list[Trial]


class Bounds(_Part):
    """The range of a tuned key, and the keys that take the same value."""

    kind: Literal["range"]
    low: float
    high: float
    log: bool
    step: float | None
    also: tuple[str, ...]

    def at_edge(self, value: float | str) -> bool:
        """Whether a best value lies at an end of the range, so that a better one may lie beyond it.

        Nothing lies below zero.
        """
        scale = math.log if self.log else float
        low, high, place = (scale(number) for number in (self.low, self.high, float(value)))
        margin = EDGE * (high - low)
        return place > high - margin or (place < low + margin and self.low > 0)


class Options(_Part):
    """The settings of which one is taken, and of which arms."""

    kind: Literal["choice"]
    options: dict[str, dict[str, Any]]
    compute: str

    def at_edge(self, _: float | str) -> bool:
        """Options have no order, so none lies at an end."""
        return False


class Specification(_Part):
    """How arms are tuned."""

    trials: int
    space: dict[str, Annotated[Bounds | Options, Field(discriminator="kind")]]
    seed: int
    round_size: int
    sampler: str
    sampler_arguments: dict[str, Any]
    sampler_seed: int
    patience: int


class TuningFile(_Part):
    """What `tuning.json` holds."""

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
    file = _read(path)
    spec, studies = file.specification, file.studies
    if not studies:
        return None
    picture = Picture(
        name="tuning",
        title="Validation NLL of the trials, in the order in which they were asked for",
        caption="Each trial at its best stop; the line is the best so far. ▽ is a trial that ended early, "
        "as it got worse; × a failed one.",
        panels=tuple(map(_panel, studies)),
    )
    return Content(
        title="Tuning",
        verdict=(_verdict(spec, studies),),
        pictures=(picture,),
        tables=(_study_table(studies, spec), _trial_table(studies, spec)),
        certain=(
            "The best of several trials on one split looks better than it is; the decisive runs on the test "
            "split do not suffer from that.",
        ),
        tuning=spec,
        terms=("trial",),
    )


def _read(path: Path) -> TuningFile:
    try:
        content = read_json(path)
    except ValueError as error:
        raise DamagedError(str(error)) from None
    if isinstance(content, dict) and content.get("schema") != SCHEMA:
        raise DamagedError(f"{path}: `schema` must be {SCHEMA}, but got {content.get('schema')}.")
    return parse_record(TuningFile, content, path)


def _verdict(spec: Specification, studies: Sequence[Study]) -> str:
    counts = Counter[str](trial.state for study in studies for trial in study.trials)
    ended = words.join([f"{counts[state]} {state}" for state in STATES if counts[state]]) or "none yet"
    names, levels = {study.arm for study in studies}, {level_name(study.level) for study in studies}
    arms = "One arm" if len(names) == 1 else f"{len(names)} arms"
    arms += f" at {len(levels)} levels" * (len(levels) > 1)
    return f"{arms} had {words.count(spec.trials, 'trial')}{' each' * (len(studies) > 1)}: {ended}."


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _heading(key: str) -> str:
    return words.capital(_short(key).replace("_", " "))


def _panel(study: Study) -> Figure:
    """Validation NLL by trial, of one arm and level."""
    figure, ax = drawing.new_panel(study.arm + words.at_level(study.level), height=2.8)
    known = {one.trial: one.validation_nll for one in study.trials if one.validation_nll is not None}
    for state, marker, fill in ((DONE, "o", drawing.INK), (EARLY, "v", "none")):
        own = [one.trial for one in study.trials if one.state == state]
        (drawn,) = ax.plot(own, [known[trial] for trial in own], marker, color=drawing.INK, alpha=0.6)
        drawn.set_markerfacecolor(fill)
    best = list(accumulate(known.values(), min))
    ax.step(list(known), best, where="post", color=drawing.INK, linewidth=1.5)
    for trial in study.trials:
        if trial.state == "failed":
            ax.plot(trial.trial, 0.97, "x", color=drawing.GREY, transform=ax.get_xaxis_transform())
    ax.set_xlim(-0.5, max(1, len(study.trials)) - 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("Trial")
    ax.set_ylabel(drawing.axis_label(METRIC, "validation"))
    return figure


def _study_table(studies: Sequence[Study], spec: Specification) -> Table:
    rows = []
    for study in studies:
        states = Counter[str](trial.state for trial in study.trials)
        losses = [trial.validation_nll for trial in study.trials if trial.validation_nll is not None]
        untuned = [trial.validation_nll for trial in study.trials if trial.values == study.start]
        best = study.best or {}
        values = study.fixed | best
        row: Row = {"arm": study.arm, "level": level_name(study.level), "trials": len(study.trials)}
        row |= {state: states[state] for state in STATES}
        row["best_validation_nll"] = min(losses, default=None)
        row["untuned_validation_nll"] = untuned[0] if untuned else None
        row["tokens_seen"] = sum(trial.tokens_seen or 0 for trial in study.trials)
        row |= {_short(key): values.get(key) for key in spec.space}
        row["own"] = _listed(key for key in spec.space if key in study.fixed)
        row["edge"] = _listed(
            key for key, tried in spec.space.items() if key in best and tried.at_edge(best[key])
        )
        rows.append(row)

    def best_column(key: str) -> Column:
        return Column(f"{_heading(key)}{table.LINE}best trial", lambda row: best_in_words(row, _short(key)))

    columns = [
        table.text("Arm", "arm"),
        *table.levels(rows),
        *[table.number(_heading(name), name) for name in ("trials", "done", "ended early", "failed")],
        table.number(f"Tokens seen{table.LINE}all trials", "tokens_seen", printed=False),
        table.number(f"Validation NLL{table.LINE}as it stands", "untuned_validation_nll", METRIC.shown),
        table.number(f"Validation NLL{table.LINE}best trial", "best_validation_nll", METRIC.shown),
        *map(best_column, spec.space),
    ]
    caption = (
        "Own: the arm or its level sets it, so it was not tuned. Edge: at an end of its range, so a better "
        "value may lie beyond it."
    )
    return Table("tuning_studies", rows, columns, caption)


def _trial_table(studies: Sequence[Study], spec: Specification) -> Table:
    rows = [
        {"arm": study.arm, "level": level_name(study.level)}
        | trial.model_dump(exclude={"values"})
        | {_short(key): trial.values.get(key, study.fixed.get(key)) for key in spec.space}
        for study in studies
        for trial in study.trials
    ]
    columns = [
        table.text("Arm", "arm"),
        *table.levels(rows),
        table.number("Trial", "trial"),
        table.text("State", "state"),
        table.number("Validation NLL", "validation_nll", METRIC.shown),
        *[table.number(_heading(key), _short(key), _plain) for key in spec.space],
    ]
    return Table("tuning", rows, columns, title="Every trial")


def best_in_words(row: Row, name: str) -> str:
    """A best value for the table: the arm's own, or one at the end of its range, says so; a dash for none."""
    note = "".join(f" ({why})" for why in ("own", "edge") if name in row[why].split())
    return table.shown(row[name], lambda value: _plain(value) + note)


def _listed(keys: Iterable[str]) -> str:
    return " ".join(_short(key) for key in keys)


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else words.plain(value)
