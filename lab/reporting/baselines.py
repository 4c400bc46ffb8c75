"""What counting gives beside the arms: n-gram, unigram and uniform, of the runs' own tokens and windows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lab.files import Row
from lab.metrics import NLL, Metric
from lab.reporting import words
from lab.reporting.series import Point, Runs
from lab.reporting.tree import CellResult, by_level
from lab.results import Baseline, BaselineName, Split

NGRAM: BaselineName = "n-gram"
LINE_CAPTION = "Dotted in grey: an n-gram, which only counts the same unique tokens."


@dataclass(frozen=True)
class LevelBaseline:
    """One baseline of runs at one level that train on equally many unique tokens.

    Attributes:
        name: of the baseline.
        level: of the runs.
        unique_tokens: of the runs.
        alone: whether all runs of the level have as many.
        by_seed: seed -> what was measured.
    """

    name: BaselineName
    level: Mapping[str, object]
    unique_tokens: int
    alone: bool
    by_seed: Mapping[int, Baseline]

    def point(self, split: Split) -> Point:
        """What it gives on a split."""
        values = {seed: one.values.get(split, {}) for seed, one in self.by_seed.items()}
        return Point({}, values, self.level)

    @property
    def title(self) -> str:
        """Its name, the orders that its seeds chose, and the unique tokens where runs differ in them."""
        orders = sorted({order for one in self.by_seed.values() if (order := one.settings.get("order"))})
        text = " to ".join(map(str, dict.fromkeys((orders[0], orders[-1])))) if orders else ""
        kind = f" (Kneser-Ney, order {text})" if orders else ""
        return f"{self.name}{kind}" + ("" if self.alone else f", {self.unique_tokens:,} unique tokens")


def baselines_of(cells: Iterable[CellResult]) -> list[LevelBaseline]:
    """The baselines of finished runs, level by level.

    Each run has those of its own tokens; where runs share seed and tokens they are the same.
    """
    made = []
    for group in by_level(cells):
        by_tokens: dict[int, dict[BaselineName, dict[int, Baseline]]] = {}
        for cell in group:
            for one in cell.done.baselines:
                own = by_tokens.setdefault(cell.done.data.unique_tokens, {})
                own.setdefault(one.name, {}).setdefault(cell.seed, one)
        made += [
            LevelBaseline(
                name, group[0].level, unique_tokens, len(by_tokens) == 1, dict(sorted(by_seed.items()))
            )
            for unique_tokens, own in sorted(by_tokens.items())
            for name, by_seed in own.items()
        ]
    return made


def ngram_lines(cells: Iterable[CellResult], metric: Metric, split: Split) -> list[tuple[str, float]]:
    """Names and heights of the n-gram's lines: means over seeds, in the metric's unit, each height once."""
    lines: dict[float, list[LevelBaseline]] = {}
    for one in baselines_of(cells):
        height = one.point(split).mean(metric.key) if one.name == NGRAM else None
        if height is not None:
            lines.setdefault(height, []).append(one)
    return [(_line_name(own) if len(lines) > 1 else NGRAM, height) for height, own in lines.items()]


def _line_name(own: Sequence[LevelBaseline]) -> str:
    """The name of the line of an n-gram that is one at all these levels: by what they have in common."""
    first = own[0]
    shared = {k: v for k, v in first.level.items() if all(one.level.get(k) == v for one in own)}
    where = [words.level_words(shared), "" if first.alone else f"{first.unique_tokens:,} unique tokens"]
    return ", ".join(filter(None, [NGRAM, *where]))


def over_ngram(runs: Runs) -> float | None:
    """By how much the test NLL at the best stop exceeds the n-gram's, paired by seed: the mean over seeds.

    None where no run has an n-gram.
    """
    excess = []
    best = runs.at("best")
    own = best.values(NLL) if best else {}
    for cell in runs.cells:
        ngram = next((one for one in cell.done.baselines if one.name == NGRAM), None)
        if ngram and NLL in ngram.values.get("test", {}) and cell.seed in own:
            excess.append(own[cell.seed] - ngram.values["test"][NLL])
    return fmean(excess) if excess else None


def warning(arms: Sequence[Row]) -> list[str]:
    """Which arms are worse than the n-gram, all of them and at all levels: a sentence, or nothing.

    Args:
        arms: rows of arms with `best_nll_over_ngram`, under one reading.
    """
    worse: dict[str, list[str]] = {}
    for row in arms:
        if (row.get("best_nll_over_ngram") or 0.0) > 0:
            by = f"by {row['best_nll_over_ngram']:.3f}"
            where = words.named_level(row["level"])
            worse.setdefault(words.arm_name(row["arm"]), []).append(f"with {where} {by}" if where else by)
    if not worse:
        return []
    names = "; ".join(f"{arm} {words.join(places)}" for arm, places in worse.items())
    return [
        "Worse than an n-gram that only counts the same unique tokens, in test NLL at the best stop "
        f"(nats/token, mean over seeds): {names}."
    ]
