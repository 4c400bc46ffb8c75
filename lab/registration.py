"""What an ablation is to decide, and by which rule: named before its runs, as data."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lab.metrics import find_metric
from lab.sections import Contrast, Place, check_places
from lab.version import digest


class Registration(BaseModel):
    """The primary contrasts of an ablation, and the rule by which they are decided.

    Attributes:
        contrasts: what is decided; all of them are one family of tests.
        levels: where a contrast that names no level is taken: at `every` one, or at the `first`, which is
            the smallest.
        metric: its key; empty for the ablation's.
        place: at which stop, on the test split.
        margin: a difference smaller than this counts as none, in the metric's unit.
        looks: numbers of seeds at which the contrasts are judged, ascending. At the last all that may be
            spent is spent.
        alpha: share of experiments without any difference that may call one, over all contrasts and looks;
            and, apart from it, of those with differences of the margin that may call one equivalent.
        spending: how `alpha` is spent over the looks (`lab/reporting/sequential.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    contrasts: tuple[Contrast, ...] = Field(min_length=1)
    levels: Literal["every", "first"] = "every"
    metric: str = ""
    place: Place = "best"
    # Nats/token: about one standard deviation of the gain over seeds at `laptop` (0.045).
    margin: float = Field(default=0.05, gt=0)
    # Three seeds are the fewest whose spread says anything; each step is about 1.5 times the one before.
    looks: tuple[int, ...] = Field(default=(3, 5, 8, 12, 16), min_length=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    spending: Literal["pocock"] = "pocock"

    @field_validator("looks")
    @classmethod
    def _ascending(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if looks[0] < 3 or list(looks) != sorted(set(looks)):
            raise ValueError(f"`looks` must ascend from at least 3 seeds, but got looks={looks}.")
        return looks

    def at_levels(
        self,
        metric: str,
        levels: Sequence[Mapping[str, Any]],
        planned: Sequence[tuple[str, Mapping[str, Any]]] = (),
    ) -> "Registration":
        """The rule of one plan: its metric by name, and each contrast at each level, in full.

        A level for which the reference is not planned is left out.

        Args:
            metric: the ablation's.
            levels: those at which every arm is planned, the smallest first.
            planned: arms and their levels. A contrast that names a level which is none of those is taken
                where both of its arms are planned.

        Raises:
            ValueError: if a contrast is taken at no planned level, or against none.
        """
        contrasts: list[Contrast] = []
        for contrast in self.contrasts:
            own = [level for arm, level in planned if arm == contrast.arm]
            others = [*levels, *(level for arm, level in planned if arm == contrast.reference)]
            alike = _alike(contrast, levels, others) or _alike(contrast, own, others)
            if not alike:
                elsewhere = (
                    f" with its reference at {contrast.reference_level}" if contrast.reference_level else ""
                )
                raise ValueError(
                    f"`primary` must be at planned levels, {[dict(level) for level in levels]}, "
                    f"but {contrast.arm} against {contrast.reference} is at {contrast.level}{elsewhere}."
                )
            first = self.levels == "first" and not contrast.level
            contrasts += [
                contrast.model_copy(update={"level": dict(level)})
                for level in (alike[:1] if first else alike)
                if contrast.arm != contrast.reference
                or contrast.reference_at
                or {**level, **contrast.reference_level} != level
            ]
        made = {"contrasts": tuple(contrasts), "levels": "every", "metric": self.metric or metric}
        return self.model_copy(update=made)

    def digest(self) -> str:
        """16 hex digits that name the rule."""
        values = self.model_dump(mode="json")
        # Left out where it is empty, so that no rule from before it was there has another name.
        values["contrasts"] = [
            {key: value for key, value in contrast.items() if key not in ("best_of", "reference_at") or value}
            for contrast in values["contrasts"]
        ]
        return digest(values)


def _alike(
    contrast: Contrast, levels: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Which levels of an arm a contrast is at, of those whose reference is at one of the others."""
    return [
        level
        for level in levels
        if contrast.level.items() <= level.items() and {**level, **contrast.reference_level} in others
    ]


def check_registration(
    registration: Registration, metric: str, arms: Sequence[str], levels: Sequence[str], *, measured: bool
) -> None:
    """Refuse a registration that names an arm, a level or a metric that there is not.

    Args:
        registration: of an ablation.
        metric: the ablation's.
        arms: that it has.
        levels: configuration keys that it varies at every scale.
        measured: whether its runs are measured after them.

    Raises:
        ValueError: naming what it names, or the level that its runs would choose.
    """
    contrasts = registration.contrasts
    named = {arm for contrast in contrasts for arm in (contrast.arm, contrast.reference)}
    if unknown := sorted(named - set(arms)):
        raise ValueError(f"`primary` must name arms of {list(arms)}, but got {unknown}.")
    keys = {key for contrast in contrasts for key in (*contrast.level, *contrast.reference_level)}
    if unknown := sorted(keys - set(levels)):
        raise ValueError(f"`primary` must name levels of {list(levels)}, but got {unknown}.")
    if chosen_later := sorted({contrast.best_of for contrast in contrasts} - {""}):
        raise ValueError(
            f"`primary` must be at levels that are named before the runs, but got the best of {chosen_later}."
        )
    check_places(contrasts, (registration.place,), "primary")
    chosen = find_metric(registration.metric or metric)
    if not (chosen.of_stops or chosen.of_best) or chosen.bound:
        raise ValueError(
            "`primary` must be of a metric that is measured exactly, once of a stop, "
            f"but got metric={chosen.key!r}."
        )
    if chosen.after_runs and not measured:
        raise ValueError(
            "`measurements` must name what measures the metric of `primary` after the runs, but got none."
        )
