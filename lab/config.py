"""One run's configuration: YAML read into frozen models, every key known, every value checked.

A preset in `configs/` gives every value; an ablation's arm and the user's `SET="a.b=c"` override some.
The resolved configuration is what a run trains from and what its logdir keeps as `config.yaml`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lab.models.sizes import SIZES

LAYOUT_KEYS = {"parallel", "model_parallel"}  # of `training`: where a run is computed, not what

PRESETS_DIR = Path(__file__).parent.parent / "configs"

Values = Mapping[str, Any]


class _Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(_Section):
    """Which text, cut how. `unique_tokens` is U, the budget; None takes the whole training split.

    `corpus` is `packages`, the source of Keras and KerasHub (lab/data/packages.py), the same text everywhere;
    `stdlib`, the standard library of the Python that runs, another text for each version of it; or `text`,
    the files of `paths`. `document_characters` cuts longer documents into pieces of at least so many
    characters, each a document of its own (lab/data/pieces.py); 0 leaves them whole.
    """

    corpus: Literal["packages", "stdlib", "text"] = "packages"
    paths: tuple[str, ...] = ()
    text_field: str = "text"
    document_characters: int = Field(default=0, ge=0)
    tokenizer: str = "bytes"
    unique_tokens: int | None = Field(default=None, gt=0)
    length: int = Field(default=64, ge=2, le=32767)
    windows: Literal["fixed", "jittered"] = "fixed"
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.1, gt=0, lt=0.5)

    @model_validator(mode="after")
    def _paths_belong_to_text(self) -> "DataConfig":
        if (self.corpus == "text") != bool(self.paths):
            raise ValueError(
                "`paths` must name files for corpus=text and be empty for any other, "
                f"but got corpus={self.corpus} and paths={list(self.paths)}."
            )
        return self


class ModelConfig(_Section):
    """The Transformer. `size` names a shape; `layers`, `width`, `heads`, `ffn_width` change parts of it.

    `loops` applies the block stack several times with the same weights: compute without parameters.
    """

    size: str = "0.8m"
    layers: int = Field(default=0, gt=0)
    width: int = Field(default=0, gt=0)
    heads: int = Field(default=0, gt=0)
    ffn_width: int = Field(default=0, gt=0)
    loops: int = Field(default=1, gt=0)
    tie_embeddings: bool = True
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    mlp_dropout: float = Field(default=0.0, ge=0, lt=1)
    dtype: Literal["float32", "mixed_bfloat16"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _shape_of_size(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        size = values.get("size", "0.8m")
        if not isinstance(size, str) or size not in SIZES:
            raise ValueError(f"`size` must be one of {sorted(SIZES)}, but got size={size!r}.")
        return {**SIZES[size], **values}

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelConfig":
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                "`width / heads` must be a whole even number (RoPE turns pairs of features), "
                f"but got width={self.width}, heads={self.heads}."
            )
        return self


class FactorsConfig(_Section):
    """The cube: which orders, what one pass computes, how many draws a sequence gets (docs/cube.md).

    Args:
        order: which orders are drawn; see `parse_order`.
        compute: `causal`, each token from those before it in the order, or `dense`, the hidden tokens from
            all others.
        draws: K; visit v of a window uses draw v mod K.
        redraw: `visit`: each window has draws of its own; `epoch`: all windows of an epoch share one.
        complementary: draws 2j and 2j + 1 of a window hide a set and its complement.
        passes: R independent draws of the same windows in one step, their gradients averaged.
        estimator: how the number of hidden tokens is drawn: `counted` (k uniform on 1..L, mean over the
            hidden) or `bernoulli` (t uniform on (0, 1), each token hidden with probability 1 - alpha(t),
            weight -alpha'(t) / (1 - alpha(t)); 1/t for the linear noise schedule).
        noise_schedule: alpha of the Bernoulli estimator.
        noise_window: which k are drawn; see `parse_noise_window`.
        input_noise: what a causal pass reads in place of some tokens; see `parse_input_noise`.
        loss_on: `all` targets, or only the `hidden` ones: those altered by `input_noise`.
        attention_mask_dropout: chance that a slot is hidden from the attention of all other slots.
    """

    order: str = "left_to_right"
    compute: Literal["causal", "dense"] = "causal"
    draws: int | Literal["inf"] = "inf"
    redraw: Literal["visit", "epoch"] = "visit"
    complementary: bool = False
    passes: int = Field(default=1, gt=0)
    estimator: Literal["counted", "bernoulli"] = "counted"
    noise_schedule: Literal["linear", "cosine"] = "linear"
    noise_window: str = "all"
    input_noise: str = "none"
    loss_on: Literal["all", "hidden"] = "all"
    attention_mask_dropout: float = Field(default=0.0, ge=0, lt=1)

    @field_validator("order")
    @classmethod
    def _order_exists(cls, order: str) -> str:
        parse_order(order)
        return order

    @field_validator("noise_window")
    @classmethod
    def _noise_window_exists(cls, noise_window: str) -> str:
        parse_noise_window(noise_window)
        return noise_window

    @field_validator("input_noise")
    @classmethod
    def _input_noise_exists(cls, input_noise: str) -> str:
        parse_input_noise(input_noise)
        return input_noise

    @field_validator("draws")
    @classmethod
    def _draws_positive(cls, draws: int | str) -> int | str:
        if isinstance(draws, int) and draws < 1:
            raise ValueError(f"`draws` must be a whole number >= 1 or inf, but got draws={draws}.")
        return draws

    @property
    def drawn(self) -> bool:
        """Whether anything of a training pass is drawn, so that two passes over a window can differ."""
        return (self.compute, self.order, self.input_noise) != ("causal", "left_to_right", "none") or bool(
            self.attention_mask_dropout
        )

    @model_validator(mode="after")
    def _cell_exists(self) -> "FactorsConfig":
        if found := next(self._impossible(), None):
            name, reason = found
            raise ValueError(
                f"{name}={getattr(self, name)} {reason}, but got compute={self.compute}, order={self.order}, "
                f"estimator={self.estimator}, input_noise={self.input_noise}."
            )
        return self

    def _impossible(self) -> Iterator[tuple[str, str]]:
        """The settings that have no meaning beside the others, and why."""
        dense_any = (self.compute, self.order) == ("dense", "any")
        counted = self.estimator == "counted"
        if not counted and not dense_any:
            yield (
                "estimator",
                "hides each token on its own, which only compute=dense with order=any can train on",
            )
        if counted and self.noise_schedule != "linear":
            yield "noise_schedule", "acts through estimator=bernoulli only"
        if self.noise_window != "all" and not (self.compute == "dense" and counted):
            yield "noise_window", "chooses how many tokens are hidden: compute=dense, estimator=counted"
        if self.complementary and not (dense_any and counted):
            yield (
                "complementary",
                "pairs a hidden set with its complement: compute=dense, order=any, estimator=counted",
            )
        if self.complementary and self.noise_window != "all":
            yield "complementary", "needs every k and L - k, which only noise_window=all has"
        if self.complementary and self.draws != "inf" and self.draws % 2:
            yield "complementary", f"needs an even number of draws or inf, and draws={self.draws} is odd"
        if self.input_noise != "none" and self.compute != "causal":
            yield (
                "input_noise",
                "alters the inputs of compute=causal; compute=dense hides its targets already",
            )
        if self.loss_on == "hidden" and self.input_noise == "none":
            yield (
                "loss_on",
                "needs tokens that input_noise altered; compute=dense has its loss on them anyway",
            )
        if self.passes > 1 and not self.drawn:
            yield "passes", "would repeat one and the same pass: nothing is drawn"
        if self.redraw != "visit" and not self.drawn:
            yield "redraw", "says when to draw, and nothing is drawn"


class TrainingConfig(_Section):
    """The optimizer and its schedule. Exactly one of `total_epochs`, `total_tokens`, `total_steps` is given.

    A step is one update of the weights on `batch_size` sequences, computed in `accumulation` equal parts.
    Under `schedule: wsd` the main run stays at the peak learning rate and each stop is reached by a branch
    that decays over the last `decay_share` of the steps before it; under `cosine` the horizon is the total.

    `parallel` says where a run is computed (docs/distribution.md): on one device, `none`; on all devices of
    all its processes, each with all weights and a part of every micro-batch, `data`; or with the weights in
    `model_parallel` parts and the micro-batch in as many as there are devices for, `model`. It changes the
    order of sums alone, so it is no part of the run's key.
    """

    batch_size: int = Field(default=32, gt=0)
    accumulation: int = Field(default=1, gt=0)
    total_epochs: float | None = Field(default=None, gt=0)
    total_tokens: int | None = Field(default=None, gt=0)
    total_steps: int | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup_steps: int = Field(default=50, ge=0)
    decay_share: float = Field(default=0.2, gt=0, lt=1)
    final_learning_rate_share: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    clip_norm: float = Field(default=1.0, gt=0)
    log_steps: int = Field(default=20, gt=0)
    checkpoint_steps: int = Field(default=200, gt=0)
    parallel: Literal["none", "data", "model"] = "none"
    model_parallel: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _parts_of_a_model(self) -> "TrainingConfig":
        if self.model_parallel > 1 and self.parallel != "model":
            raise ValueError(
                "`model_parallel` must be 1 unless parallel=model, "
                f"but got model_parallel={self.model_parallel}, parallel={self.parallel}."
            )
        return self

    @model_validator(mode="after")
    def _one_duration(self) -> "TrainingConfig":
        given = [name for name in ("total_epochs", "total_tokens", "total_steps") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of total_epochs, total_tokens, total_steps must be given, but got {given}."
            )
        if self.batch_size % self.accumulation:
            raise ValueError(
                "`accumulation` must divide `batch_size`, "
                f"but got accumulation={self.accumulation}, batch_size={self.batch_size}."
            )
        return self


class EvaluationConfig(_Section):
    """The yardstick. Stops lie at total / ratio^j tokens for j = 0 .. stops - 1."""

    stops: int = Field(default=8, gt=0)
    stop_ratio: float = Field(default=2.0, gt=1)
    validation_windows: int = Field(default=32, gt=1)
    test_windows: int = Field(default=64, gt=1)
    nelbo_draws: int = Field(default=8, gt=1)
    choice_items: int = Field(default=64, gt=1)
    choice_options: int = Field(default=4, gt=1)
    choice_context_tokens: int = Field(default=48, gt=0)
    choice_option_tokens: int = Field(default=8, gt=0)
    sample_tokens: int = Field(default=64, ge=0)
    batch_size: int = Field(default=128, gt=0)


class InferenceConfig(_Section):
    """Generation and multiple choice at several amounts of compute, measured after training where asked for.

    A prompt is the first part of a held-out window, the rest of it is generated: n tokens, in n, n/2, n/4,
    ... and 1 passes with each sampler (lab/evaluation/denoising.py). `draws` are the numbers of Monte Carlo
    draws with which the `choice_items` are scored.
    """

    prompts: int = Field(default=200, gt=1)
    prompt_share: float = Field(default=0.25, ge=0, lt=1)
    samplers: tuple[Annotated[str, Field(pattern=r"^(ancestral|confidence|blocks:[1-9][0-9]*)$")], ...] = (
        "ancestral",
        "confidence",
        "blocks:8",
    )
    draws: tuple[Annotated[int, Field(gt=0)], ...] = (1, 4, 16)
    choice_items: int = Field(default=128, gt=1)


class RunConfig(_Section):
    """All that decides one run's numbers: one arm at one seed."""

    arm: str = Field(default="ar", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.=-]*$")
    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    factors: FactorsConfig = FactorsConfig()
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _options_fit(self) -> "RunConfig":
        tokens = self.evaluation.choice_context_tokens + self.evaluation.choice_option_tokens
        if tokens > self.data.length:
            raise ValueError(
                "choice_context_tokens + choice_option_tokens must fit in data.length, "
                f"but got {tokens} > {self.data.length}."
            )
        return self

    @model_validator(mode="after")
    def _parts_are_even(self) -> "RunConfig":
        for name in ("heads", "width", "ffn_width"):
            if getattr(self.model, name) % self.training.model_parallel:
                raise ValueError(
                    f"`model_parallel` must divide heads, width and ffn_width, but got "
                    f"model_parallel={self.training.model_parallel}, {name}={getattr(self.model, name)}."
                )
        return self

    def to_yaml(self) -> str:
        """The whole configuration as YAML that `load_config` reads back to an equal object."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)

    def key(self) -> str:
        """16 hex digits that name the configuration: equal exactly if every value is, but for the layout."""
        values = self.model_dump(mode="json", exclude={"training": LAYOUT_KEYS})
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_order(order: str) -> tuple[str, float]:
    """Split an order level into its kind and its number.

    Args:
        order: `left_to_right`, `any`, `fixed:N` with 1 <= N < 2**15, or `right_to_left:share` with
            share in [0, 1].

    Returns:
        The kind and N, the share, or 0.

    Raises:
        ValueError: for any other text.
    """
    kind, _, number = order.partition(":")
    if kind in ("left_to_right", "any") and not number and ":" not in order:
        return kind, 0.0
    if kind == "fixed" and number.isdecimal() and 1 <= int(number) < 2**15:
        return kind, float(number)
    if kind == "right_to_left":
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if 0 <= share <= 1:
            return kind, share
    raise ValueError(
        "`order` must be left_to_right, any, fixed:N (1 <= N < 32768) or right_to_left:share "
        f"(0 <= share <= 1), but got order={order!r}."
    )


def parse_noise_window(noise_window: str) -> tuple[str, float]:
    """Split a noise window into its kind and its number.

    Args:
        noise_window: which counts k of hidden tokens are drawn: `all` of 1 .. L, the `low`, `mid` or `high`
            third of them, or `fixed:SHARE`, k = max(1, round(SHARE L)), with SHARE in (0, 1].

    Returns:
        The kind, and the share or 0.

    Raises:
        ValueError: for any other text.
    """
    kind, colon, number = noise_window.partition(":")
    if kind in ("all", "low", "mid", "high") and not colon:
        return kind, 0.0
    share = _share(number)
    if kind == "fixed" and share:
        return kind, share
    raise ValueError(
        "`noise_window` must be all, low, mid, high or fixed:SHARE (0 < SHARE <= 1), "
        f"but got noise_window={noise_window!r}."
    )


def parse_input_noise(input_noise: str) -> tuple[str, float, bool]:
    """Split an input noise into its kind, its ratio, and whether the ratio is drawn.

    Args:
        input_noise: `none`; or what altered inputs become, `mask` (the mask id) or `replace` (random tokens),
            and how many are: `mask:R`, k = max(1, round(R L)) of L, or `mask:0-R`, k uniform on
            1 .. max(1, round(R L)); R in (0, 1].

    Returns:
        The kind, R (0 for none), and whether k is drawn.

    Raises:
        ValueError: for any other text.
    """
    kind, _, number = input_noise.partition(":")
    if input_noise == "none":
        return "none", 0.0, False
    drawn = number.startswith("0-")
    ratio = _share(number.removeprefix("0-"))
    if kind in ("mask", "replace") and ratio:
        return kind, ratio, drawn
    raise ValueError(
        "`input_noise` must be none, or mask or replace with a ratio such as mask:0.3 or mask:0-1 "
        f"(0 < ratio <= 1), but got input_noise={input_noise!r}."
    )


def _share(text: str) -> float:
    """A number in (0, 1], or 0 for any other text."""
    try:
        share = float(text)
    except ValueError:
        return 0.0
    return share if 0 < share <= 1 else 0.0


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise ValueError(f"a key must be text, but got {key!r}, at line {key_node.start_mark.line + 1}.")
        if key in mapping:
            raise ValueError(f"the key {key!r} is given twice, at line {key_node.start_mark.line + 1}.")
        mapping[key] = loader.construct_object(value_node, deep=True)  # type: ignore[no-untyped-call]
    return mapping


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _scalar(text: str, assignment: str) -> Any:
    """A value from the command line. YAML 1.1 reads `1e-3` as text; people mean a number."""
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)e[+-]?[0-9]+", text, re.IGNORECASE):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"an override's value must be YAML, but got {assignment!r}.") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ValueError: if the file is missing, is not a mapping, or gives a key twice.
    """
    if not path.is_file():
        raise ValueError(f"expected a YAML file at {path}, but there is none.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, but got {type(values).__name__}.")
    return values


def preset_names() -> list[str]:
    """The presets that `configs/` holds."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The values of one preset, by name.

    Raises:
        ValueError: if no preset has this name.
    """
    if name not in preset_names():
        raise ValueError(f"`preset` must be one of {preset_names()}, but got preset={name!r}.")
    return read_yaml(PRESETS_DIR / f"{name}.yaml")


def merge(base: Values, override: Values) -> dict[str, Any]:
    """`base` with the values of `override` laid over it, section by section."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def nest(dotted: Values) -> dict[str, Any]:
    """`{"model.width": 256}` as `{"model": {"width": 256}}`."""
    nested: dict[str, Any] = {}
    for key, value in dotted.items():
        *sections, name = key.split(".")
        branch: dict[str, Any] = {name: value}
        for section in reversed(sections):
            branch = {section: branch}
        nested = merge(nested, branch)
    return nested


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Read `SET` assignments such as `model.width=256`, one or several (by spaces) to a text.

    Raises:
        ValueError: if one has no `=`, its value is not YAML, or two give the same key or a key and its part.
    """
    dotted: dict[str, Any] = {}
    for assignment in (part for text in assignments for part in text.split()):
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ValueError(f"an override must look like model.width=256, but got {assignment!r}.")
        if key in dotted:
            raise ValueError(f"the override {key!r} is given twice.")
        dotted[key] = _scalar(value, assignment)
    for key in dotted:
        if parts := [other for other in dotted if other.startswith(f"{key}.")]:
            raise ValueError(f"the override {key!r} would hide {parts[0]!r}: give one of them.")
    return nest(dotted)


def make_config(*layers: Values) -> RunConfig:
    """Lay mappings over one another, the last on top, and check the whole.

    A layer that gives one of the three durations takes away those below it.

    Raises:
        ValueError: naming each key that is unknown or holds a value it may not, and what was expected.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        training = layer.get("training", {})
        durations = {"total_epochs", "total_tokens", "total_steps"}
        if isinstance(training, Mapping) and durations & set(training):
            below = values.get("training")
            kept = below if isinstance(below, Mapping) else {}
            values = {**values, "training": {k: v for k, v in kept.items() if k not in durations}}
        values = merge(values, layer)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ValueError("the configuration is not valid:\n  " + "\n  ".join(lines)) from None


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    if problem["type"] == "extra_forbidden":
        section: Any = RunConfig
        for part in problem["loc"][:-1]:
            section = section.model_fields[part].annotation
        name = ".".join(map(str, problem["loc"][:-1])) or "the top level"
        return f"{where}: no such key; {name} has {sorted(section.model_fields)}."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("value_error", "missing"):
        return f"{where}: {message}"
    return f"{where}: {message}, but got {problem['input']!r}."


def load_config(path: Path) -> RunConfig:
    """Read a resolved configuration, such as a logdir's `config.yaml`."""
    return make_config(read_yaml(path))
