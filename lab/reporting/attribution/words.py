"""What an attribution found, in words."""

from lab.reporting import tables
from lab.reporting.attribution.effects import GAIN, INTERACTION, Contrast, Effect
from lab.reporting.attribution.findings import CONTROLS, CORNER_ARMS, Attribution, Cube, Step, unit_of
from lab.reporting.words import improving_clause, join, scope, signed

FACTOR_WORDS = {
    "order": "any-order modelling",
    "compute": "super-dense compute",
    "draws": "Monte Carlo augmentation",
}
LEVEL_WORDS = {
    "order": ("left to right", "any order"),
    "compute": ("causal", "dense"),
    "draws": ("one or none", "fresh"),
}
STOP_WORDS = {"best": "at the best stop", "end": "at the end of training"}
KIND_WORDS = {
    "gain": "AR → DLM",
    "shapley": "Shapley value",
    "main": "Main effect",
    "interaction": "Interaction",
}
AR, DLM = CORNER_ARMS[0], CORNER_ARMS[-1]


def effect_name(contrast: Contrast) -> str:
    """An effect for a table's row: its factors, or `all three` for the gain."""
    return "all three" if contrast.kind == GAIN else contrast.name


def evidence_words(effect: Effect) -> str:
    """`better` or `worse` on the evidence of the corrected test, else why not."""
    side = "better" if effect.mean > 0 else "worse"
    return {
        "test": side,
        "uncorrected": f"{side} (uncorrected)",
        "none": "undecided",
        "too few seeds": "too few seeds",
        "no spread": "undecided (no spread)",
    }[effect.evidence]


def headline(cube: Cube) -> str:
    """The gain and its three parts in one sentence, or why there are none."""
    found = cube.headline
    if found is None:
        return f"The gain is not attributed: {refusal(cube)}"
    metric, unit = cube.metric, unit_of(cube.metric)
    ar, dlm = (f"{cube.mean(arm, found.reading, found.stop):.{metric.decimals}f}" for arm in (AR, DLM))
    verb = _verb(found.gain.mean, found)
    amount = f"{abs(found.gain.mean):.{metric.decimals}f} {unit}".strip()
    share = 100 / found.gain.mean if found.gain.evidence == "test" and found.gain.mean > 0 else None
    parts = [_part(effect, share) for effect in found.shapley]
    undecided = "" if found.gain.evidence == "test" else ", which is undecided"
    return (
        f"From AR to DLM the test {metric.name} {STOP_WORDS['best']} {verb} by {amount} "
        f"({ar} to {dlm}){undecided}; by Shapley value, {join(parts)}{_held(found)}"
        f"{_of_what(found)}{improving_clause(cube.improving(found.reading))}."
    )


def _of_what(attribution: Attribution) -> str:
    """What the parts of an undecided gain are parts of; or nothing."""
    if attribution.gain.evidence == "test":
        return ""
    return "; the sum of these parts cannot be told from 0"


def _verb(gain: float, found: Attribution | Step) -> str:
    """Whether the metric falls or rises with a gain."""
    return "falls" if (gain > 0) == found.metric.lower_is_better else "rises"


def _part(effect: Effect, share: float | None) -> str:
    percent = "" if share is None else f" ({effect.mean * share:.0f}\u00a0%)".replace("-", "−")
    verb = "brings" if effect.mean >= 0 else "costs"
    return f"{FACTOR_WORDS[effect.contrast.name]} {verb} {abs(effect.mean):.3f}{percent}"


def _held(found: Attribution) -> str:
    """Which of the three parts the corrected test supports: the end of the headline."""
    if found.gain.evidence == "too few seeds":
        return ", from one seed, which has no spread to judge by"
    held = [FACTOR_WORDS[effect.contrast.name] for effect in found.shapley if effect.evidence == "test"]
    if len(held) == len(found.shapley):
        return ", each beyond chance by the corrected test"
    if not held:
        return ", none of them beyond chance by the corrected test"
    return (
        f", of which only {join(held)} {'are' if len(held) > 1 else 'is'} beyond chance by the corrected test"
    )


def refusal(cube: Cube) -> str:
    """Which corners are wanting, if attribution is refused."""
    none = [arm for arm in CORNER_ARMS if not cube.runs(arm)]
    if none:
        return f"it needs all eight corners, and no run of {join(none)} has finished."
    gaps = [f"{arm} seed {', '.join(map(str, seeds))}" for arm, seeds in cube.unfinished().items()]
    return f"it needs a seed that all eight corners finished, and there is none (unfinished: {join(gaps)})."


def found(attribution: Attribution) -> str:
    """One metric at one stop: the gain, its parts and the largest interaction, in a sentence or two."""
    metric = attribution.metric
    parts = [f"{FACTOR_WORDS[e.contrast.name]} {_measured(e)}" for e in attribution.shapley]
    largest = max(attribution.of_kind(INTERACTION), key=lambda effect: abs(effect.mean))
    unit = ", ".join(filter(None, [unit_of(metric), "positive is better"]))
    return (
        f"Test {metric.name} {STOP_WORDS[attribution.stop]} ({unit}): AR to DLM "
        f"{_measured(attribution.gain)}, of which {join(parts)}{_of_what(attribution)}. "
        f"Largest interaction: {largest.contrast.name}, {_measured(largest)}."
    )


def _measured(effect: Effect) -> str:
    if effect.interval is None:
        return signed(effect.mean)
    low, high = effect.interval
    return f"{signed(effect.mean)} [{signed(low)}, {signed(high)}]"


def uncertainty(cube: Cube) -> str:
    """What the effects are uncertain by, and how verdicts are reached."""
    found = cube.headline
    if found is None:
        return ""
    n = len(cube.seeds)
    if n == 1:
        return "One seed was finished by all eight corners. It has no spread, so it decides nothing."
    reach = found.shapley[0].interval
    spread = found.shapley[0].standard_deviation
    wide = ""
    if n == 2:
        wide = " With two seeds it reaches 9 standard deviations to each side and decides little."
    elif reach and spread:
        deviations = (reach[1] - reach[0]) / 2 / spread
        wide = f" With {n} seeds it reaches {deviations:.1f} standard deviations to each side."
    window = found.window_error(found.gain)
    return (
        f"Every effect is taken seed by seed ({n} seeds), so what all arms of a seed share drops out. The "
        "paired t interval asks only that an effect varies about normally over seeds, and the verdicts rest "
        f"on it.{wide} The bootstrap interval learns the spread from the residuals of all eight corners and "
        "is mostly narrower, but asks that seeds do not move one factor's effect. In simulations of three "
        "seeds the t interval covered 94 to 97 % and the bootstrap 94 to 98 %; where seeds did move a "
        "factor, the bootstrap of that factor's main effect covered 70 %. p-values are of the paired t test, "
        "corrected (Holm) over the ten effects of one metric and stop; “uncorrected” marks an effect below "
        "0.05 only before that. The gain is one comparison and is not corrected, and neither are the 95 % "
        f"intervals. {_without_spread(found)}{scope([window], cube.metric, unit_of(cube.metric))}"
    )


def _without_spread(attribution: Attribution) -> str:
    """How many effects are the same at every seed: a sentence with a space behind it, or nothing."""
    same = sum(effect.evidence == "no spread" for effect in (attribution.gain, *attribution.effects))
    if not same:
        return ""
    return (
        f"{same} effect{'s are' if same > 1 else ' is'} the same at every seed, which leaves no spread to "
        "judge by: undecided, and not counted among the tests. "
    )


def left_out(cube: Cube) -> str:
    """What is missing, or nothing."""
    counts = tables.run_counts(cube.tree)
    if not counts["failed"] and not counts["missing"]:
        return ""
    planned = f"Of {len(cube.tree.cells)} planned runs"
    said = f"{planned}, {counts['failed']} failed and {counts['missing']} are missing. "
    if not cube.seeds:
        return said + "The corner table shows what there is."
    gaps = [f"{arm} (seed {', '.join(map(str, seeds))})" for arm, seeds in cube.unfinished().items()]
    if not gaps:
        return said + "All eight corners are complete."
    return (
        f"{said}Only seeds that all eight corners finished count: {', '.join(map(str, cube.seeds))}. "
        f"Left out: seed {', '.join(map(str, cube.left_out))}, for want of {join(gaps)}."
    )


def asymmetry(cube: Cube, control: str) -> str:
    """What a control says about its edge of the cube, at the best stop by what is compared."""
    place = (control, cube.readings[0], "best", cube.metric)
    steps = [step for step in cube.steps if (step.control, step.reading, step.stop, step.metric) == place]
    if not steps:
        return "Its control has no finished run that counts."
    first, second = (_stepped(step) for step in steps)
    start, end = CONTROLS[control]
    return (
        f"From {start} to {control} the {cube.metric.name} {first}, and from {control} to {end} it {second}."
    )


def _stepped(step: Step) -> str:
    verb = _verb(step.gain, step)
    if step.interval is None:
        return f"{verb} by {abs(step.gain):.3f}"
    low, high = sorted(bound if step.gain > 0 else -bound for bound in step.interval)
    return f"{verb} by {abs(step.gain):.3f} [{low:.3f}, {high:.3f}]".replace("-", "−")
