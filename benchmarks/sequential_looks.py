"""Simulated experiments that add seeds look by look: errors, power and seeds, with and without spending.

    python benchmarks/sequential_looks.py     # writes benchmarks/sequential_looks.json, in under a minute

The gains of a seed are normal. Of three contrasts all are with one reference, so any two of them have a
correlation of 0.5, and `one of three` means that the others' true gain is 0. What decides is what the lab
decides by (lab/reporting/sequential.py).
"""

from itertools import product
from pathlib import Path

import numpy as np

from lab.files import write_json
from lab.registration import Registration
from lab.reporting.sequential import equivalence_p, levels_for, look_by_look, nominal_levels, paired_p
from lab.sections import Contrast

EXPERIMENTS = 20_000  # the standard error of a share of 5 % is 0.15 %
DEVIATIONS = (0.05, 0.08)  # over seeds, of a gain; nats/token
GAINS = (0.0, 0.03, 0.05, 0.1)
FAMILIES = {"one": 1, "all of three": 3, "one of three": 3}
OTHER_LOOKS = ((3, 6, 9), (3, 4, 5, 6, 7, 8, 9, 10), (4, 8, 12, 16, 20), (5, 10))
RULE = Registration(contrasts=(Contrast(arm="dlm", reference="ar"),))


def simulate(deviation: float, gain: float, family: str, generator: np.random.Generator) -> list[dict]:
    """Shares of the experiments in which something happened, under the rule and by peeking at 5 %."""
    contrasts, seeds = FAMILIES[family], RULE.looks[-1]
    shared = generator.standard_normal((seeds, 1, EXPERIMENTS))
    own = generator.standard_normal((seeds, contrasts, EXPERIMENTS))
    noise = own if contrasts == 1 else (own + shared) / np.sqrt(2)
    truth = np.array([0.0 if family == "one of three" and index else gain for index in range(contrasts)])
    gains = truth[:, None] + deviation * noise
    difference = np.stack([paired_p(gains[:look]) for look in RULE.looks])
    equivalence = np.stack([equivalence_p(gains[:look], RULE.margin) for look in RULE.looks])
    peeking = np.repeat(RULE.alpha / np.arange(1, contrasts + 1)[:, None], len(RULE.looks), axis=1)
    levels = {"spending": levels_for(RULE, contrasts), "peeking": (peeking, peeking)}
    rows = []
    for rule, (first, second) in levels.items():
        looked = look_by_look(difference, equivalence, first, second)
        end = np.minimum(looked.stopped, len(RULE.looks) - 1).max(axis=0)
        undecided = looked.stopped == len(RULE.looks)
        differs, apart = looked.differs, truth[:, None]
        rows.append(
            {
                **{"rule": rule, "deviation": deviation, "gain": gain, "contrasts": family},
                "any_false_difference": share(differs & (apart == 0)),
                "any_false_equivalence": share(looked.equivalent & (apart >= RULE.margin)),
                "differs": float(np.mean(differs[0])),
                "equivalent": float(np.mean(looked.equivalent[0] & ~differs[0])),
                "undecided": float(np.mean(undecided[0])),
                "seeds": float(np.mean(np.array(RULE.looks)[end])),
            }
        )
    return rows


def spending(looks: tuple[int, ...], generator: np.random.Generator) -> list[dict]:
    """What t tests at nominal levels spend, as a share of what they may, without any true difference.

    `unknown` is how many seeds the levels leave out of the dependence of two looks (`nominal_levels`).
    """
    draws = generator.standard_normal(
        (looks[-1], 50 * EXPERIMENTS)
    )  # standard error 0.4 to 0.8 % of the share
    p_values = np.stack([paired_p(draws[:look]) for look in looks])
    rows = []
    for unknown, contrasts in product((0, 2), (1, 3)):
        levels = np.array(nominal_levels(looks, RULE.alpha / contrasts, unknown=unknown))
        crossed = float(np.mean((p_values <= levels[:, None]).any(axis=0)))
        part = crossed / (RULE.alpha / contrasts)
        rows.append({"looks": looks, "alpha": f"5 % / {contrasts}", "unknown": unknown, "spent": part})
    return rows


def share(happened: np.ndarray) -> float:
    """Of the experiments in which it happened to any contrast."""
    return float(np.mean(happened.any(axis=0)))


def main() -> None:
    """Write all rows, and print the table of docs/statistics.md."""
    generator = np.random.default_rng(0)
    cases = product(DEVIATIONS, GAINS, FAMILIES)
    rows = [row for case in cases for row in simulate(*case, generator)]
    settings = {"experiments": EXPERIMENTS, "margin": RULE.margin, "looks": RULE.looks, "alpha": RULE.alpha}
    spent = [row for looks in (RULE.looks, *OTHER_LOOKS) for row in spending(looks, generator)]
    write_json(Path(__file__).with_suffix(".json"), {**settings, "rows": rows, "spent": spent})
    for row in spent:
        print("|", " | ".join(map(str, row.values())), "|")
    for kept, peeking in zip(rows[::2], rows[1::2], strict=True):
        shown = ("any_false_difference", "any_false_equivalence", "differs", "equivalent", "undecided")
        cells = [f"{100 * kept[name]:.1f}" for name in shown] + [f"{kept['seeds']:.1f}"]
        cells += [f"{100 * peeking[name]:.1f}" for name in shown[:2]] + [f"{peeking['seeds']:.1f}"]
        print("|", " | ".join([*(str(kept[k]) for k in ("deviation", "gain", "contrasts")), *cells]), "|")


if __name__ == "__main__":
    main()
