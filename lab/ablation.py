"""An ablation as data: what it asks, which arms and levels it compares, and the cells that follow."""

import itertools
import re
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from traceback import extract_tb
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lab.config import (
    RunConfig,
    Values,
    find_file,
    make_config,
    merge,
    nest,
    parse_overrides,
    preset_layers,
    shipped_folder,
    strong_layers,
)
from lab.metrics import find_metric
from lab.registration import Registration, check_registration
from lab.sections import AnySection, Curves, check_sections

ABLATIONS_DIR = shipped_folder("ablations")
MOST_RUNS = 10_000  # of a plan: more is a slip of the keyboard
ROUNDING = 1e-6  # by how much a twin's initial weights differ: some float32 roundings


@dataclass(frozen=True)
class Scale:
    """How much of an ablation one preset runs.

    Args:
        levels: for each factor, named by its dotted configuration key, its levels; smallest first.
        seeds: number of repeats of each arm and level, numbered from 0.
        budget: the expected time and on what machine, in words.
        values: a configuration layer over the preset's own values.
        tune: trials for each of the arms that the ablation tunes unasked.
        members: runs that an ensemble averages, those of each replicate; with one there are no ensembles.
        twins: of how many seeds each run has a twin whose initial weights differ by rounding alone.
        alone: arm -> further levels of factors that `levels` varies, which that arm alone has: its runs there
            are compared with nothing, and have neither members nor twins.
    """

    levels: Mapping[str, Sequence[Any]]
    seeds: int
    budget: str
    values: Values = field(default_factory=dict)
    tune: int = 0
    members: int = 1
    twins: int = 0
    alone: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """What an ablation module declares.

    Args:
        name: lower case with dashes; its file has the same name, with underscores if it is in `ablations/`.
        question: one sentence.
        paper: the statement tested, with its section.
        arms: for each arm, the configuration layer that makes it.
        scales: for each preset it can run at, and for files with it as their `base`, how much of it.
        metric: key of the number compared (lab/metrics.py).
        expected: the expected finding, one sentence.
        sections: what its page shows, in order.
        tuned: the arms that are tuned (lab/scheduling/tuning/), even unasked; if there are none, asking for
            it tunes every arm.
        strong: the arms that run with what the preset found to be best for them (`strong_layers`), each the
            arm of that name; the others share the preset's values.
        ensembles: name -> the arm of whose members it averages the probabilities; compared like an arm.
        measurements: what is measured of each finished run's best stop after it, as named in
            lab/evaluation/measurements.py -> the arm whose best stops it is measured with, and which itself
            is not measured; empty if none.
        primary: what is to be decided, and by which rule; None if nothing was registered before the runs.

    Raises:
        ValueError: if the name is not lower case with dashes, there is nothing to run, a metric is unknown,
            or a section, what is registered, or what is tuned or measured with, names what there is not.
    """

    name: str
    question: str
    paper: str
    arms: Mapping[str, Values]
    scales: Mapping[str, Scale]
    metric: str
    expected: str
    sections: tuple[AnySection, ...] = (Curves(),)
    tuned: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()
    ensembles: Mapping[str, str] = field(default_factory=dict)
    measurements: Mapping[str, str] = field(default_factory=dict)
    primary: Registration | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            raise ValueError(f"`name` must be lower case words joined by dashes, but got name={self.name!r}.")
        if not self.arms or not self.scales:
            raise ValueError(
                "`arms` and `scales` must not be empty, "
                f"but got arms={list(self.arms)} and scales={list(self.scales)}."
            )
        for name, named in (
            ("tuned", self.tuned),
            ("strong", self.strong),
            ("ensembles", self.ensembles.values()),
        ):
            if unknown := set(named) - set(self.arms):
                raise ValueError(
                    f"`{name}` must be among the arms {list(self.arms)}, but got {sorted(unknown)}."
                )
        if taken := set(self.ensembles) & set(self.arms):
            raise ValueError(f"`ensembles` must have names that no arm has, but got {sorted(taken)}.")
        if unknown := set(self.measurements.values()) - {"", *self.arms}:
            raise ValueError(
                f"`measurements` must be made with one of the arms {list(self.arms)}, "
                f"but got {sorted(unknown)}."
            )
        for scale in self.scales.values():
            for arm, own in scale.alone.items():
                if arm not in self.arms or not scale.levels.keys() >= own.keys():
                    raise ValueError(
                        f"`alone` must be of the arms {list(self.arms)} and the levels {list(scale.levels)}, "
                        f"but got {list(own)} of {arm!r}."
                    )
        find_metric(self.metric)
        varied = sorted(set.intersection(*(set(scale.levels) for scale in self.scales.values())))
        compared = [*self.arms, *self.ensembles]
        check_sections(self.sections, compared, varied, measured=bool(self.measurements))
        if self.primary:
            check_registration(self.primary, self.metric, compared, varied, measured=bool(self.measurements))

    def scale(self, preset: str) -> Scale:
        """How much of this ablation a preset runs: what its own name has a scale for, or else its `base`.

        Raises:
            ValueError: if there is no such preset, or the ablation does not say how to run at it.
        """
        return self.scales[self._scale_name(preset_layers(preset), preset)]

    def base_layers(self, preset: str) -> list[Values]:
        """What lies under the arms: the ablation's values for its scale, just above the preset of that name.

        A file that has that preset as its `base` lies over them, since it is meant to change them.

        Raises:
            ValueError: as for `scale`.
        """
        layers = preset_layers(preset)
        scale = self._scale_name(layers, preset)
        above = list(layers).index(scale) + 1
        values = list(layers.values())
        return [*values[:above], self.scales[scale].values, *values[above:]]

    def _scale_name(self, layers: dict[str, Values], preset: str) -> str:
        for name in reversed(layers):
            if name in self.scales:
                return name
        raise ValueError(
            f"`preset` must be one of {sorted(self.scales)} for {self.name}, or a file with one of them as "
            f"its `base`, but got preset={preset!r}."
        )


class Cell(BaseModel):
    """One arm at one level and one seed: one run, and one entry in the ledger. `plan.json` keeps it whole.

    Attributes:
        arm: the arm's name.
        level: dotted configuration key -> value, empty if the ablation has no levels.
        seed: the repeat.
        role: `run`, what arms are compared by; or a run beside it at the same place: a further `member` of
            its ensemble, or its `twin`, whose initial weights differ by rounding alone.
        logdir: path below the result tree, with forward slashes; names the cell in it.
        config: everything the run needs.
        version: digest of what its weights follow from; empty until its data are known.
        evaluation: digest of what is to be measured of it; empty until its data are known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    level: dict[str, Any]
    seed: int
    role: Literal["run", "member", "twin"] = "run"
    logdir: str
    config: RunConfig
    version: str = ""
    evaluation: str = ""

    @property
    def label(self) -> str:
        """The cell in words, such as `dlm unique_tokens=20000 seed=0`."""
        return self.logdir.removeprefix("runs/").replace("/", " ")


def ablation_names() -> list[str]:
    """The ablations that `ablations/` holds, as make targets name them."""
    return sorted(path.stem.replace("_", "-") for path in ABLATIONS_DIR.glob("[!_]*.py"))


def load_ablation(ablation: str) -> Ablation:
    """The `ABLATION` that a module declares.

    Args:
        ablation: the name of a module in `ablations/`, or the path of a file like those.

    Raises:
        ValueError: if there is none, it cannot be run, or it declares no `ABLATION` of its own name.
    """
    name, path = find_file("ablation", ablation, ABLATIONS_DIR, ".py")
    try:
        declared = runpy.run_path(str(path), run_name=f"lab.ablations.{path.stem}").get("ABLATION")
    except Exception as error:
        lines = [each.lineno for each in extract_tb(error.__traceback__) if each.filename == str(path)]
        at = f", line {lines[-1]}" if lines else ""
        raise ValueError(
            f"{path} must declare ABLATION = Ablation(name={name!r}, ...), "
            f"but got {type(error).__name__}{at}: {error}"
        ) from error
    if not isinstance(declared, Ablation) or declared.name != name:
        got = f"name={declared.name!r}" if isinstance(declared, Ablation) else f"ABLATION={declared!r}"
        raise ValueError(f"{path} must declare ABLATION = Ablation(name={name!r}, ...), but got {got}.")
    return declared


def parse_levels(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Read `LEVELS` such as `data.unique_tokens=5000,20000`, one factor or several (by spaces) to a text.

    Raises:
        ValueError: if one has no `=`, a level is empty, a factor is given twice, or a value is not YAML.
    """
    levels: dict[str, list[Any]] = {}
    for assignment in (part for text in assignments for part in text.split()):
        key, equals, values = assignment.partition("=")
        if not equals or not key or not all(values.split(",")):
            raise ValueError(f"levels must look like data.unique_tokens=5000,20000, but got {assignment!r}.")
        if key in levels:
            raise ValueError(f"the levels of {key!r} are given twice.")
        levels[key] = [_lookup(parse_overrides([f"{key}={value}"]), key) for value in values.split(",")]
    return levels


def parse_seeds(text: str) -> int | Literal["auto"]:
    """Read `SEEDS`: a number, or `auto`.

    Raises:
        ValueError: if it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"`seeds` must be a whole number or 'auto', but got seeds={text!r}.") from None


def _lookup(values: Values, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def cells(
    ablation: Ablation,
    preset: str,
    seeds: int | None = None,
    overrides: Values | None = None,
    levels: Mapping[str, Sequence[Any]] | None = None,
) -> list[Cell]:
    """Every run of an ablation, checked, in the order in which they should start: smallest level first.

    What an arm has alone comes after what is compared. Each configuration is the preset with the ablation's
    values for it (`Ablation.base_layers`), under the arm, the level, and the overrides.

    Args:
        ablation: what to run.
        preset: the name of a file in `configs/`, or the path of one, that the ablation has a scale for.
        seeds: number of repeats, in place of the scale's own.
        overrides: a configuration layer from the user.
        levels: of factors that the ablation varies, in place of the scale's own, and of those that an arm
            has alone.

    Raises:
        ValueError: if the preset is unknown, a configuration is not valid, an override sets what the
            ablation varies, levels are given for what it does not vary, there are too many cells, two are the
            same run, or a run is to start from one that is not there, or that in the end starts from it.
    """
    scale = ablation.scale(preset)
    levels = levels or {}
    if unknown := sorted(set(levels) - set(scale.levels)):
        raise ValueError(
            f"`levels` must be of what {ablation.name} varies, {sorted(scale.levels)}, "
            f"but got {', '.join(unknown)}; --set sets other values."
        )
    alone = {arm: own for arm, own in scale.alone.items() if not own.keys() & levels.keys()}
    scale = replace(scale, levels={**scale.levels, **levels}, alone=alone)
    seeds = scale.seeds if seeds is None else seeds
    if seeds < 1:
        raise ValueError(f"`seeds` must be >= 1, but got seeds={seeds}.")
    if (runs := prod(map(len, scale.levels.values())) * seeds * len(ablation.arms)) > MOST_RUNS:
        raise ValueError(
            f"arms x levels x seeds must be at most {MOST_RUNS:,} runs, but got {runs:,}: {seeds:,} seeds of "
            f"{len(ablation.arms)} arms at {runs // seeds // len(ablation.arms):,} levels."
        )
    overrides = overrides or {}
    _check_overrides(ablation, scale, overrides)
    base = ablation.base_layers(preset)
    strong = strong_arms(ablation, preset, overrides)

    def config(arm: str, level: Values, own: Values) -> RunConfig:
        return make_config(*base, strong.get(arm, {}), ablation.arms[arm], nest(level), overrides, own)

    places = list(itertools.product(_levels(scale.levels), range(seeds), ablation.arms))
    alone_places = [
        place
        for arm, own in scale.alone.items()
        for place in itertools.product(_levels({**scale.levels, **own}), range(seeds), [arm])
    ]
    made = [
        _cell(arm, level, seed, config(arm, level, _own(arm, seed)))
        for level, seed, arm in [*places, *alone_places]
    ]
    for level, seed, arm in places:
        beside: list[tuple[Literal["member", "twin"], str, Values]] = []
        if arm in ablation.ensembles.values():
            beside += [("member", f"member={n}", {"member": n}) for n in range(1, scale.members)]
        if seed < scale.twins:
            beside += [("twin", "twin", {"training": {"perturbation": ROUNDING}})]
        made += [
            _cell(arm, level, seed, config(arm, level, merge(_own(arm, seed), own)), role, name)
            for role, name, own in beside
        ]
    _check_distinct(made)
    _check_starts(made)
    return made


def strong_arms(ablation: Ablation, preset: str, overrides: Values) -> dict[str, Any]:
    """What the preset found to be best for `strong` arms, but for what the user sets: arm -> a layer."""
    own = set(dotted_keys(overrides))
    found = strong_layers(preset)
    left = {
        arm: nest({key: value for key, value in dotted_values(found[arm]) if key not in own})
        for arm in ablation.strong
        if arm in found
    }
    return {arm: layer for arm, layer in left.items() if layer}


def _own(arm: str, seed: int) -> Values:
    return {"arm": arm, "seed": seed}


def _levels(levels: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of levels, the first factor changing slowest; one empty level if there are none."""
    return [dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values())]


def _cell(
    arm: str,
    level: Mapping[str, Any],
    seed: int,
    config: RunConfig,
    role: Literal["run", "member", "twin"] = "run",
    beside: str = "",
) -> Cell:
    # As the configuration reads them: 1e3 and 1000 are one level.
    values = config.model_dump(mode="json")
    level = {key: _lookup(values, key) for key in level}
    folders = [arm, level_text(level), ",".join(filter(None, [f"seed={seed}", beside]))]
    logdir = "/".join(["runs", *filter(None, folders)])
    return Cell(arm=arm, level=level, seed=seed, role=role, logdir=logdir, config=config)


def level_text(level: Mapping[str, Any]) -> str:
    """A level as a folder name: `unique_tokens=20000`. Characters unsafe in a path become dashes."""
    parts = (f"{key.rpartition('.')[2]}={value}" for key, value in level.items())
    return ",".join(re.sub(r"[^A-Za-z0-9._=-]", "-", part) for part in parts)


def dotted_values(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a layer with their dotted keys: `model.width`, 256."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted_values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def dotted_keys(values: Values) -> Iterator[str]:
    """The dotted keys of the values in a layer: `model.width`."""
    return (key for key, _ in dotted_values(values))


def _check_overrides(ablation: Ablation, scale: Scale, overrides: Values) -> None:
    varied = {
        "arm",
        "seed",
        *scale.levels,
        *(key for arm in ablation.arms.values() for key in dotted_keys(arm)),
    }
    clash = sorted(varied & set(dotted_keys(overrides)))
    if clash:
        hint = f"; --levels {clash[0]}=... sets its levels" if clash[0] in scale.levels else ""
        raise ValueError(
            f"an override must not set what {ablation.name} varies, but got {', '.join(clash)}{hint}."
        )


def _check_distinct(made: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in made:
        if cell.logdir in seen:
            raise ValueError(f"two cells must differ, but {cell.label!r} is there twice.")
        seen[cell.logdir] = cell


def start_of(cell: Cell, among: Iterable[Cell]) -> Cell | None:
    """The cell from whose best stop a run begins: that of the arm which it names, at its level and seed.

    Args:
        cell: the run.
        among: the cells of its plan.

    Returns:
        None if its weights are drawn.

    Raises:
        ValueError: if there is no such cell.
    """
    arm = cell.config.training.start_from
    if not arm:
        return None
    alike = [
        other for other in among if (other.level, other.seed, other.role) == (cell.level, cell.seed, "run")
    ]
    for other in alike:
        if other.arm == arm:
            return other
    raise ValueError(
        f"`start_from` of {cell.label} must be one of {[other.arm for other in alike]}, "
        f"but got start_from={arm!r}."
    )


def _check_starts(made: Sequence[Cell]) -> None:
    for cell in made:
        path, start = [cell], start_of(cell, made)
        while start is not None:
            if start in path:
                arms = " from ".join(one.arm for one in [*path, start])
                raise ValueError(f"`start_from` must not lead in a circle, but {arms} does.")
            path.append(start)
            start = start_of(start, made)
