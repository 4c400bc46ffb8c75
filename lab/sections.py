"""What a page shows: a list of sections, each a small frozen model that the plan keeps.

A section says what of which arms is shown. What makes it is in `lab/reporting/sections/`, under the same
name. An ablation declares its sections; a new question needs no new kind of report.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lab.metrics import find_metric

# Where arms are compared: at the stop of lowest validation NLL, and at the last.
Place = Literal["best", "end"]
PLACES: tuple[Place, ...] = ("best", "end")
# What may be demanded to be equal of runs whose numbers stand side by side.
Matched = Literal["data", "held_out", "parameters", "stops", "train_flops"]
EQUAL: tuple[Matched, ...] = ("data", "held_out", "parameters", "stops")
UNEVEN: tuple[Matched, ...] = ("data", "held_out", "parameters")  # of runs whose last stops differ

UNIQUE_TOKENS = "data.unique_tokens"  # the level that a budget of text is
# What a run's stop, and a measurement, may be drawn against; a level is named by its configuration key.
Axis = Literal["epoch", "tokens_seen", "train_flops", "seconds"]
COSTS = ("parameters", "epoch", "tokens_seen", "train_flops", "flops", "flops_computed", "num_draws", "steps")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Section(_Frozen):
    """One section of a page.

    Attributes:
        title: its heading; empty for the kind's own.
        note: what the reader must know of it beside what follows from the numbers.
    """

    title: str = ""
    note: str = ""


class Contrast(_Frozen):
    """An arm against another, seed by seed.

    Attributes:
        arm: the arm.
        reference: the arm that it is compared with.
        level: where the arm is taken: configuration key -> value; empty for each level.
        reference_level: what of the reference's level differs from the arm's.
        best_of: the key of a level, such as a size, at whichever value of which each of the two does best: by
            the ablation's metric on the validation split, the mean over seeds. Empty: both at one level.
        reference_at: at which stop the reference is taken; empty for the arm's. So an arm at its last stop is
            compared with itself at its best.
    """

    arm: str
    reference: str
    level: dict[str, Any] = {}
    reference_level: dict[str, Any] = {}
    best_of: str = ""
    reference_at: Place | Literal[""] = ""

    @model_validator(mode="after")
    def _of_two(self) -> "Contrast":
        if self.arm == self.reference and not (self.reference_level or self.reference_at):
            raise ValueError(
                "`contrasts` must be between two arms, or two levels or stops of one, "
                f"but got {self.arm!r} with itself."
            )
        if self.best_of and (self.reference_level or self.best_of in self.level):
            raise ValueError(
                "`best_of` must be a level that the contrast does not name itself, "
                f"but got best_of={self.best_of!r} with level={self.level} and "
                f"reference_level={self.reference_level}."
            )
        return self


class _Comparing(Section):
    """A section that sets runs side by side.

    Attributes:
        matched: what must be equal of them.
    """

    matched: tuple[Matched, ...] = EQUAL


class _Testing(_Comparing):
    """A section of tests: a metric at a place is a family of them.

    Attributes:
        metrics: empty for the ablation's.
        at: at which stops.
    """

    metrics: tuple[str, ...] = ()
    at: tuple[Place, ...] = Field(default=PLACES, min_length=1)


class Curves(Section):
    """A metric on the validation split while training goes on.

    Attributes:
        metric: empty for the ablation's.
        panels: title -> arms that are drawn together; empty for one panel of all, or for `against`.
        against: arm -> the arm beside which it is drawn, in panels of a few.
        x: what it is drawn against, a panel each.
        marks: `best` stops; `crossing`, where an arm becomes better than the best of the arm that it is
            drawn against; `equal_tokens`, where it does at the same number of tokens seen; `onset`, where
            overfitting begins: the best stop of a run that went on beyond it.
    """

    kind: Literal["curves"] = "curves"
    metric: str = ""
    panels: dict[str, tuple[str, ...]] = {}
    against: dict[str, str] = {}
    x: tuple[Axis, ...] = ("epoch",)
    marks: tuple[Literal["best", "crossing", "equal_tokens", "onset"], ...] = ("best",)


class Differences(_Testing):
    """Contrasts of metrics on the test split, paired by seed.

    Attributes:
        contrasts: what is compared with what; `pairs` makes them.
    """

    kind: Literal["differences"] = "differences"
    contrasts: tuple[Contrast, ...]

    @model_validator(mode="after")
    def _of_two_stops(self) -> "Differences":
        check_places(self.contrasts, self.at, "contrasts")
        return self


class Interaction(_Testing):
    """How much more an arm gains from one level over another than a reference does, paired by seed.

    Attributes:
        arm: the arm.
        reference: the arm whose own gain is taken off.
        key: the configuration key of the factor.
        level: where both arms are taken.
        reference_level: where each is compared with itself. Across the two, held-out text must be equal.
    """

    kind: Literal["interaction"] = "interaction"
    arm: str
    reference: str
    key: str
    level: Any
    reference_level: Any


class Against(_Comparing):
    """Metrics against a level or a cost.

    Attributes:
        x: a level's configuration key, or one of `COSTS`.
        metrics: a panel each; empty for the ablation's.
        arms: empty for all.
        measurement: what was measured after the runs, `generation` or `choice`; empty for the test split of
            the runs at `at`.
        reference: the arm that the others are compared with at each point; empty for none.
        at: at which stop of the runs; `every` draws them over their stops, against how far they had come.
        levels: `first` shows the first level alone, as a line for each level may be too many.
    """

    kind: Literal["against"] = "against"
    x: str
    metrics: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    measurement: str = ""
    reference: str = ""
    at: Place | Literal["every"] = "best"
    levels: Literal["every", "first"] = "every"

    @model_validator(mode="after")
    def _over_stops(self) -> "Against":
        along = ("epoch", "tokens_seen", "train_flops")
        if self.at == "every" and (self.x not in along or self.measurement or self.reference):
            raise ValueError(
                f"an Against at every stop must have x of {list(along)}, no measurement and no reference, "
                f"but got x={self.x!r}, measurement={self.measurement!r}, reference={self.reference!r}."
            )
        return self


class Factorial(_Testing):
    """Shapley values, main effects and interactions of the cube's three factors over its eight corners."""

    kind: Literal["factorial"] = "factorial"


class Quantity(_Comparing):
    """A number that each seed of an arm gives, such as where two curves cross.

    Attributes:
        names: what is computed, of `lab/reporting/quantities.py`.
        reference: the arm that it is taken against.
        metric: empty for the ablation's.
        arms: empty for all.
        measurement: what was measured after the runs, where it is taken of that.
    """

    kind: Literal["quantity"] = "quantity"
    names: tuple[
        Literal["crossing", "equal_tokens", "onset", "best_level", "match_ratio", "data_potential"],
        ...,
    ]
    reference: str = ""
    metric: str = ""
    arms: tuple[str, ...] = ()
    measurement: str = ""

    @model_validator(mode="after")
    def _complete(self) -> "Quantity":
        against = {"crossing", "equal_tokens", "match_ratio", "data_potential"} & set(self.names)
        if against and not self.reference:
            raise ValueError(f"a Quantity of {sorted(against)} must name the `reference` arm, but has none.")
        if "match_ratio" in self.names and (self.names != ("match_ratio",) or not self.measurement):
            raise ValueError(
                "a Quantity of match_ratio must have that name alone and a `measurement`, "
                f"but got names={self.names} and measurement={self.measurement!r}."
            )
        if "data_potential" in self.names and (len(self.names) > 1 or self.measurement):
            raise ValueError(
                "a Quantity of data_potential must have that name alone and no `measurement`, "
                f"but got names={self.names} and measurement={self.measurement!r}."
            )
        return self


class Frontier(_Comparing):
    """How surprising a judge finds the texts that arms wrote, against how varied they are, over temperatures.

    Arms are compared where their texts are equally varied, as those of the reference at temperature 1.

    Attributes:
        reference: the arm that the others are compared with.
    """

    kind: Literal["frontier"] = "frontier"
    reference: str


class Texts(Section):
    """Samples that were generated, beside real text.

    Attributes:
        arms: empty for all.
    """

    kind: Literal["texts"] = "texts"
    arms: tuple[str, ...] = ()


class Fit(Section):
    """A power law of a metric or quantity in levels or costs: y = c * product over x_i ** b_i, for each arm.

    Attributes:
        y: a metric's key, taken on the test split at the best stop, or `onset`, in epochs. Runs whose onset
            is only bounded, as they overfitted never or from their first stop on, are counted, not fitted.
        x: level keys or costs, each of at least two values.
        arms: empty for all.
        held_out: level that is left out of the fit and predicted; `last` for the last one of the arm's, which
            has the most of each; empty for none.
        published: x -> the exponent that others found, to stand beside.
        published_by: who.
    """

    kind: Literal["fit"] = "fit"
    y: str
    x: tuple[str, ...]
    arms: tuple[str, ...] = ()
    held_out: dict[str, Any] | Literal["last"] = {}
    published: dict[str, float] = {}
    published_by: str = ""


AnySection = Annotated[
    Curves | Differences | Interaction | Against | Factorial | Quantity | Frontier | Texts | Fit,
    Field(discriminator="kind"),
]


def pairs(references: Mapping[str, str]) -> tuple[Contrast, ...]:
    """Contrasts at each level: arm -> the arm that it is compared with."""
    return tuple(Contrast(arm=arm, reference=reference) for arm, reference in references.items())


def between_levels(arms: Iterable[str], key: str, level: Any, reference: Any) -> tuple[Contrast, ...]:
    """Contrasts of each arm at one level of a factor with itself at another.

    Args:
        arms: which.
        key: the factor's configuration key.
        level: where the arm is taken.
        reference: where it is compared with.
    """
    return tuple(
        Contrast(arm=arm, reference=arm, level={key: level}, reference_level={key: reference}) for arm in arms
    )


def at_best(references: Mapping[str, str], key: str) -> tuple[Contrast, ...]:
    """Contrasts of arms, each at its own best level of a factor: arm -> the arm that it is compared with.

    Args:
        references: which arms.
        key: the factor's configuration key.
    """
    return tuple(Contrast(arm=arm, reference=reference, best_of=key) for arm, reference in references.items())


def over_best(arms: Iterable[str]) -> tuple[Contrast, ...]:
    """Contrasts of each arm with itself at its best stop, at each level."""
    return tuple(Contrast(arm=arm, reference=arm, reference_at="best") for arm in arms)


def compare(references: Mapping[str, str]) -> tuple[AnySection, ...]:
    """The sections of an ablation that compares arms: arm -> the arm that it is compared with."""
    return (
        Differences(contrasts=pairs(references)),
        Curves(against=dict(references), x=("epoch", "train_flops", "seconds")),
    )


def check_places(contrasts: Iterable[Contrast], at: Iterable[Place], name: str) -> None:
    """Refuse contrasts of an arm with itself at one and the same stop.

    Args:
        contrasts: of a section or a registration.
        at: where the arms are taken.
        name: of what declares them.

    Raises:
        ValueError: naming the arm and the stop.
    """
    at = tuple(at)
    for one in contrasts:
        if one.arm == one.reference and not one.reference_level and one.reference_at in at:
            raise ValueError(
                f"`{name}` must take an arm and its reference at two stops, "
                f"but got {one.arm!r} with itself at {one.reference_at!r}."
            )


def arms_of(section: Section) -> set[str]:
    """The arms that a section names."""
    values = dict(section)
    contrasts = values.get("contrasts", ())
    named = {
        *values.get("arms", ()),
        *(arm for arms in values.get("panels", {}).values() for arm in arms),
        *(arm for pair in values.get("against", {}).items() for arm in pair),
        *(arm for contrast in contrasts for arm in (contrast.arm, contrast.reference)),
        values.get("arm", ""),
        values.get("reference", ""),
    }
    return named - {""}


def metrics_of(section: Section) -> set[str]:
    """The metrics that a section names."""
    values = dict(section)
    return {*values.get("metrics", ()), values.get("metric", ""), values.get("y", "")} - {"", "onset"}


def check_sections(
    sections: Iterable[Section], arms: Iterable[str], levels: Iterable[str], *, measured: bool
) -> None:
    """Refuse sections that name an arm, a metric, an axis or a measurement that there is not.

    Args:
        sections: of an ablation.
        arms: that it has.
        levels: configuration keys that it varies at every scale.
        measured: whether its runs are measured after them.

    Raises:
        ValueError: naming the section and what it names.
    """
    arms, levels = list(arms), list(levels)
    axes = [*levels, *COSTS]
    for section in sections:
        kind = type(section).__name__
        for metric in sorted(metrics_of(section)):
            find_metric(metric)
        if unknown := sorted(arms_of(section) - set(arms)):
            raise ValueError(f"`sections` must name arms of {arms}, but a {kind} names {unknown}.")
        if dict(section).get("names") == ("data_potential",) and UNIQUE_TOKENS not in axes:
            raise ValueError(f"a Quantity of data_potential needs levels of {UNIQUE_TOKENS}, but got {axes}.")
        chosen = {contrast.best_of for contrast in dict(section).get("contrasts", ())} - {""}
        if unvaried := sorted(chosen - set(levels)):
            raise ValueError(f"`best_of` of a {kind} must be one of {levels}, but got {unvaried}.")
        x = (section.x,) if isinstance(section, Against) else section.x if isinstance(section, Fit) else ()
        if strange := sorted(set(x) - set(axes)):
            raise ValueError(f"`x` of a {kind} must be one of {axes}, but got {strange}.")
        if isinstance(section, Interaction) and section.key not in levels:
            raise ValueError(f"`key` of an Interaction must be one of {levels}, but got {section.key!r}.")
        if not measured and (isinstance(section, Texts | Frontier) or dict(section).get("measurement")):
            raise ValueError(
                f"a {kind} of what is measured after the runs needs `measurements`, but got none."
            )
