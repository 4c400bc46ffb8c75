"""A made-up attribution tree whose effects are known."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fake_trees import FakeTree

from lab.ablation import load_ablation
from lab.arms import CORNERS
from lab.sections import AnySection

# Where each arm's curve is lowest, in doublings of 20,000 tokens seen; the last stop is at 8.
BEST = {"ar": 3, "order_frozen": 4, "suffix_frozen": 4, "dlm_frozen": 5}
CONTROLS = {"ar_masked_frozen": -0.03, "dlm_complementary": -0.06}
UNDER = {"ar_masked_frozen": "ar", "dlm_complementary": "dlm_frozen"}


@dataclass
class FakeCube(FakeTree):
    """The eight corners and two controls at one budget.

    The NLL of a corner at its best stop is 2.2 plus, for each factor and set of factors that are on, an
    amount of `parts`, plus a level of the seed, plus a run's own error of size `noise`. Away from the best
    stop the NLL rises by 0.02 per squared doubling. Choice accuracy and option gap fall in proportion to it.
    """

    budgets: tuple[int, ...] = (20_000,)
    seeds: tuple[int, ...] = (0, 1, 2)

    arms: tuple[str, ...] = (*CORNERS, *CONTROLS)
    parts: dict[str, float] = field(
        default_factory=lambda: {"a": -0.12, "b": 0.06, "c": -0.1, "ac": -0.08, "ab": -0.04, "abc": 0.03}
    )
    noise: float = 0.012

    def shown(self) -> tuple[AnySection, ...]:
        return load_ablation("attribution").sections if self.sections is None else self.sections

    def level(self, budget: int) -> dict[str, Any]:
        return {}

    def best_nll(self, arm: str, seed: int) -> float:
        """The NLL of one run at its best stop."""
        error, level = np.random.default_rng([self.arms.index(arm), seed]).normal(), 0.05 * seed
        return self.corner(arm) + level + self.noise * float(error)

    def corner(self, arm: str) -> float:
        """The NLL of an arm without errors."""
        if arm in UNDER:
            return self.corner(UNDER[arm]) + CONTROLS[arm]
        on = {factor for factor, level in zip("abc", CORNERS[arm], strict=True) if level}
        return 2.2 + sum(value for part, value in self.parts.items() if set(part) <= on)

    def nll(self, arm: str, tokens: float, budget: int, seed: int) -> float:
        away = math.log2(tokens / 20_000) - BEST.get(UNDER.get(arm, arm), 7)
        return self.best_nll(arm, seed) + 0.02 * away**2

    def metrics(self, arm: str, tokens: float, budget: int, seed: int, reading: str) -> dict[str, float]:
        nll = self.nll(arm, tokens, budget, seed) + (0.0 if reading == "annealed" else 0.08)
        return {
            "nll": nll,
            "nll_standard_error": 0.05,
            "bits_per_byte": nll / math.log(2),
            "choice_accuracy": 0.9 - 0.2 * (nll - 1.5),
            "option_gap": 1.4 - 0.5 * (nll - 1.5),
        }
