"""Every metric, declared once: TensorBoard, tables, figures, CSV files and sentences take it from here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number that is measured.

    Attributes:
        key: its name in records and CSV files.
        name: its name on pages.
        unit: of its values; empty for a plain number or share.
        unit_in_key: whether the key says the unit already.
        lower_is_better: whether less of it is better.
        decimals: shown on pages; of a share in percent.
        bound: whether it is an upper bound on the NLL and not the NLL itself.
        errors: keys of its standard errors, each from one source; the first is over the held-out examples.
        sample: what these examples are: `windows`, `training windows`, `items`, `prompts` or `problems`.
        percent: whether it is a share that figures and tables show in percent.
        margin: a difference below it does not matter: what `equivalent` is within, in the metric's unit. None
            where nobody has said so beforehand; such a metric is never called equivalent.
        after_runs: whether it is measured of finished runs alone.
        of_best: whether it is measured of finished runs, once of a stop, on examples of its own. As its name
            says which, no split needs to stand before it.
    """

    key: str
    name: str
    unit: str = ""
    unit_in_key: bool = False
    lower_is_better: bool = True
    decimals: int = 3
    bound: bool = False
    errors: tuple[str, ...] = ()
    sample: Literal["windows", "training windows", "items", "prompts", "problems", ""] = ""
    percent: bool = False
    margin: float | None = None
    after_runs: bool = False
    of_best: bool = False

    @property
    def tag(self) -> str:
        """Its name in TensorBoard, which carries the unit, and says of a bound that it is one."""
        return "_".join([self.key, *["bound"] * self.bound, *self._unit_words()])

    def error_tag(self, error: str) -> str:
        """The name in TensorBoard of one of its standard errors."""
        return "_".join([error, *self._unit_words()])

    def _unit_words(self) -> list[str]:
        return [] if self.unit_in_key else self.unit.replace("/", " per ").split()

    @property
    def examples(self) -> str:
        """What its standard error is over, in words: `held-out windows`."""
        return self.sample if self.sample == "training windows" else f"held-out {self.sample or 'windows'}"

    @property
    def of_stops(self) -> bool:
        """Whether runs measure it of their stops, and not only after them."""
        return self.sample in ("windows", "items") and not self.after_runs

    @property
    def scale(self) -> int:
        """What a value is multiplied by where it is shown in percent."""
        return 100 if self.percent else 1

    @property
    def difference_unit(self) -> str:
        """The unit in which a difference is shown."""
        return "percentage points" if self.percent else self.unit

    def on(self, split: str) -> str:
        """Its name, and before it the split that it is of: `test NLL`."""
        return self.name if self.of_best else f"{split} {self.name}".strip()

    def shown(self, value: float) -> str:
        """A value as pages show it, without its unit, but for a share's `%`."""
        return f"{self.scale * value:.{self.decimals}f}{' %' if self.percent else ''}"

    def with_errors(self, values: Mapping[str, float | None]) -> str:
        """Its name and value in a line, and after it the standard errors that there are: `NLL 1.20 ± 0.02`.

        Args:
            values: metric -> value, and standard error -> value.
        """
        errors = (error for key in self.errors if (error := values.get(key)) is not None)
        numbers = [values[self.key] or 0.0, *errors]
        shown = " ± ".join(f"{self.scale * number:.{self.decimals}f}" for number in numbers)
        return f"{self.name} {shown} {'%' if self.percent else self.unit}".rstrip()

    def improvement(self, before: float, after: float) -> float:
        """How much better `after` is, in the metric's unit: positive if it is."""
        return before - after if self.lower_is_better else after - before


NLL = "nll"
# A fifth of what cutting windows anew is worth to AR at 10,000 unique tokens (0.264), and below the spread of
# the DLM's gain over subsets of the corpus (0.069): what is smaller would not be called a finding.
MARGIN = 0.05  # nats/token
SHARE_MARGIN = 0.02  # 2 percentage points: one of 50 items

_DECLARED = (
    Metric(NLL, "NLL", "nats/token", errors=("nll_standard_error",), sample="windows", margin=MARGIN),
    Metric(
        "nll_exact",
        "NLL at all places",
        "nats/token",
        errors=("nll_exact_standard_error",),
        sample="windows",
        margin=MARGIN,
    ),
    Metric("nll_by_token", "NLL by token", "nats/token", sample="windows", margin=MARGIN),
    Metric(
        "bits_per_byte",
        "bits per byte",
        "bits/byte",
        unit_in_key=True,
        sample="windows",
        margin=round(MARGIN / math.log(2), 3),  # the same where a token is a byte
    ),
    Metric(
        "choice_accuracy",
        "choice accuracy",
        lower_is_better=False,
        errors=("choice_accuracy_standard_error",),
        sample="items",
        percent=True,
        decimals=1,
        margin=SHARE_MARGIN,
    ),
    Metric(
        "option_gap",
        "option gap",
        "nats/token",
        lower_is_better=False,
        errors=("option_gap_standard_error",),
        sample="items",
        margin=MARGIN,
    ),
    Metric(
        "choice_true_nll",
        "NLL of true options",
        "nats/token",
        errors=("choice_true_nll_standard_error",),
        sample="items",
        margin=MARGIN,
    ),
    Metric(
        "choice_wrong_nll",
        "NLL of wrong options",
        "nats/token",
        lower_is_better=False,
        errors=("choice_wrong_nll_standard_error",),
        sample="items",
        margin=MARGIN,
    ),
    Metric(
        "nll_calibrated",
        "calibrated NLL",
        "nats/token",
        errors=("nll_calibrated_standard_error",),
        sample="windows",
        margin=MARGIN,
        after_runs=True,
    ),
    # Above 1 the arm is over-confident.
    Metric("temperature", "temperature of calibration", sample="windows", after_runs=True),
    Metric(
        "nelbo",
        "NELBO",
        "nats/token",
        bound=True,
        errors=("nelbo_example_standard_error", "nelbo_mask_standard_error"),
        sample="windows",
        margin=MARGIN,
    ),
    Metric(
        "judge_nll",
        "judge NLL",
        "nats/token",
        errors=("judge_nll_standard_error",),
        sample="prompts",
        margin=MARGIN,
    ),
    Metric(
        "entropy",
        "entropy within a text",
        "nats/token",
        lower_is_better=False,
        errors=("entropy_standard_error",),
        sample="prompts",
    ),
    Metric("distinct", "distinct n-grams", lower_is_better=False, sample="prompts"),
    Metric("repetition", "repetition", errors=("repetition_standard_error",), sample="prompts"),
    Metric(
        "parse_rate",
        "Python lines that parse",
        lower_is_better=False,
        errors=("parse_rate_standard_error",),
        sample="prompts",
        percent=True,
        decimals=1,
        margin=SHARE_MARGIN,
    ),
    # Of the run's own training text, and beside it of held-out text.
    Metric(
        "train_nll",
        "NLL of training windows",
        "nats/token",
        errors=("train_nll_standard_error",),
        sample="training windows",
        margin=MARGIN,
        after_runs=True,
        of_best=True,
    ),
    Metric(
        "extraction_rate",
        "training windows extracted",
        errors=("extraction_rate_standard_error",),
        sample="training windows",
        percent=True,
        decimals=1,
        after_runs=True,
        of_best=True,
    ),
    Metric(
        "extraction_rate_held_out",
        "held-out windows extracted",
        lower_is_better=False,
        errors=("extraction_rate_held_out_standard_error",),
        sample="windows",
        percent=True,
        decimals=1,
        after_runs=True,
        of_best=True,
    ),
    # Of benchmark tasks from files.
    Metric(
        "task_accuracy",
        "task accuracy",
        lower_is_better=False,
        errors=("task_accuracy_standard_error", "task_accuracy_draw_standard_error"),
        sample="items",
        percent=True,
        decimals=1,
        margin=SHARE_MARGIN,
        after_runs=True,
        of_best=True,
    ),
    Metric(
        "task_accuracy_norm",
        "task accuracy by characters",
        lower_is_better=False,
        errors=("task_accuracy_norm_standard_error", "task_accuracy_norm_draw_standard_error"),
        sample="items",
        percent=True,
        decimals=1,
        margin=SHARE_MARGIN,
        after_runs=True,
        of_best=True,
    ),
    Metric(
        "task_nll",
        "NLL of right answers",
        "nats/answer",
        errors=("task_nll_standard_error", "task_nll_draw_standard_error"),
        sample="items",
        after_runs=True,
        of_best=True,
    ),
    Metric("task_questions", "questions", sample="items", decimals=0, after_runs=True, of_best=True),
    Metric(
        "task_cut",
        "questions with a cut context",
        sample="items",
        percent=True,
        decimals=1,
        after_runs=True,
        of_best=True,
    ),
    Metric(
        "task_left_out",
        "questions that did not fit",
        sample="items",
        percent=True,
        decimals=1,
        after_runs=True,
        of_best=True,
    ),
    # Of a gap in the middle of a window; what an arm sees on its right, an arm of left to right does not.
    Metric(
        "infilling_nll",
        "NLL of gaps between both sides",
        "nats/token",
        errors=("infilling_nll_standard_error",),
        sample="windows",
        margin=MARGIN,
        after_runs=True,
    ),
    Metric(
        "infilling_left_nll",
        "NLL of gaps after the left side",
        "nats/token",
        errors=("infilling_left_nll_standard_error",),
        sample="windows",
        margin=MARGIN,
        after_runs=True,
    ),
    Metric(
        "infilling_accuracy",
        "infilling accuracy",
        lower_is_better=False,
        errors=("infilling_accuracy_standard_error",),
        sample="windows",
        percent=True,
        decimals=1,
        margin=SHARE_MARGIN,
        after_runs=True,
    ),
    # Of code that was run.
    *(
        Metric(
            key,
            name,
            lower_is_better=False,
            errors=(f"{key}_standard_error",),
            sample="problems",
            percent=True,
            decimals=1,
            margin=SHARE_MARGIN,
            after_runs=True,
            of_best=True,
        )
        for key, name in (
            ("pass_at_1", "pass@1"),
            ("pass_at_k", "pass@k"),
            ("infilling_pass_at_1", "pass@1 of infilling"),
            ("retrieval_pass_at_1", "pass@1 of looking up"),
            ("ngram_pass_at_1", "pass@1 of the n-gram"),
            ("reference_pass_at_1", "pass@1 of the references"),
            ("code_parses", "bodies that are Python"),
        )
    ),
    Metric("code_problems", "problems", sample="problems", decimals=0, after_runs=True, of_best=True),
    Metric(
        "code_left_out",
        "problems that did not fit",
        sample="problems",
        percent=True,
        decimals=1,
        after_runs=True,
        of_best=True,
    ),
    # Of training.
    Metric("train_loss", "training loss", "nats/token"),
    Metric("gradient_norm", "gradient norm"),
    Metric("learning_rate", "learning rate"),
    Metric("tokens_per_second", "speed", "tokens/s", unit_in_key=True, lower_is_better=False, decimals=0),
    Metric("auxiliary_loss", "auxiliary loss of mixtures", "nats/token"),
    Metric("dropped_share", "tokens without an expert", percent=True, decimals=1),
)

METRICS = {metric.key: metric for metric in _DECLARED}
TRAINING = (
    *("train_loss", "gradient_norm", "learning_rate", "tokens_per_second"),
    *("auxiliary_loss", "dropped_share"),
)


def find_metric(key: str) -> Metric:
    """The metric of this key.

    Raises:
        ValueError: if none is declared.
    """
    if key not in METRICS:
        raise ValueError(f"`metric` must be one of {sorted(METRICS)}, but got metric={key!r}.")
    return METRICS[key]
