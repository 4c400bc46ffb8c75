"""One run's configuration: YAML read into frozen models, every key known, every value checked.

A preset in `configs/` gives every value; an ablation's arm and the user's `SET="a.b=c"` override some.
The resolved configuration is what a run trains from and what its logdir keeps as `config.yaml`.
"""

import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import log
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lab.factors import parse_ar_share, parse_input_noise, parse_noise_window, parse_order
from lab.models.architecture import Architecture
from lab.models.sizes import SIZES

ARM = "[A-Za-z0-9][A-Za-z0-9_.=-]*"  # a regular expression of arms' names, which become those of folders

Values = Mapping[str, Any]
Tier = Literal["low", "medium", "high"]  # of quality, the lowest first
JUDGED = ("packages", "stdlib")  # the corpora whose documents a rule of the lab's judges


def shipped_folder(name: str) -> Path:
    """A folder that comes with the lab: in a wheel inside the package, in a checkout beside it."""
    inside = Path(__file__).parent / name
    return inside if inside.is_dir() else inside.parents[1] / name


PRESETS_DIR = shipped_folder("configs")
LARGEST = 2**53  # of any number: the last up to which a float holds each whole one
MOST_STEPS = 2**29  # of a run: beyond, lab/training/schedule.py takes them for never
MOST_REPEATS = 2**16  # of what one measurement, or one step, does again and again
NGRAM = 4  # tokens by which generated text is judged to repeat itself; of bytes about half a word
ARMS_KEY = "arms"  # of a preset: what is best for single arms


@dataclass(frozen=True)
class Neutral:
    """Marks a field that drops out of a run's key at this value, at which the run is as if it were not there.

    A field that is added later is marked so: then it makes no older run new.
    """

    value: Any


@dataclass(frozen=True)
class Unkeyed:
    """Marks a field on which a run's weights do not depend, or which is in the hash of its data."""


def require_end(steps: float) -> None:
    """Refuse a run of so many steps.

    Raises:
        ValueError: if they are too many.
    """
    if steps >= MOST_STEPS:
        raise ValueError(
            f"the duration must be below {MOST_STEPS:,} steps, but its total_epochs, total_tokens or "
            f"total_steps makes {steps:.3g}."
        )


def strict_number(annotation: Any, value: Any) -> Any:
    """A value for a field of this type, whole numbers as such however they are written; `1e3` is 1000.

    Raises:
        ValueError: for text, or true and false, where a number is expected, and a number where they are; and
            for numbers beyond `LARGEST`.
    """
    kinds = set(_kinds(annotation))
    if isinstance(value, list | tuple):
        inner = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), None)
        return value if inner is None else tuple(strict_number(inner, each) for each in value)
    numbers = kinds & {int, float}
    words = sorted(word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))
    if numbers and isinstance(value, bool | str) and value not in words:
        said = str(value).lower() if isinstance(value, bool) else repr(value)
        raise ValueError(f"expected {' or '.join([_of_kinds(numbers), *words])}, but got {said}.")
    if bool in kinds and not isinstance(value, bool):
        raise ValueError(f"expected true or false, but got {value!r}.")
    if numbers and isinstance(value, int | float) and LARGEST < abs(value) < float("inf"):
        raise ValueError(f"expected a number of at most 2**53, but got {Decimal(value):.3g}.")
    if isinstance(value, float) and int in kinds and float not in kinds and value.is_integer():
        return int(value)
    return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types of a union, without what is noted beside them."""
    if get_origin(annotation) in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _kinds(each)
    else:
        yield get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _of_kinds(numbers: set[Any]) -> str:
    return "a number" if float in numbers else "a whole number"


class Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know, and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_other_type(cls, value: Any, info: ValidationInfo) -> Any:
        return strict_number(cls.model_fields[info.field_name or ""].annotation, value)


class DataConfig(Section):
    """Which text, cut how. `unique_tokens` is U, the budget; None takes the whole training split.

    `corpus` is `packages`, the source of Keras and KerasHub (lab/data/packages.py), the same text everywhere;
    `stdlib`, the standard library of the Python that runs, another text for each version of it; or `text`,
    the files of `paths`; or `functions`, so many small Python functions as `functions` says, made by rule
    (lab/data/functions.py). `document_characters` cuts longer documents into pieces of at least so many
    characters, each a document of its own (lab/data/pieces.py); 0 leaves them whole. `windows` are cut at
    other places in each epoch, `jittered`, or always at the same, `fixed` (lab/data/windows.py).

    `quality` is the tier of the training split that `unique_tokens` are drawn of; empty for all of it. The
    corpora of Python source are judged by a rule of their own (lab/data/quality.py); records of `paths` by
    `quality_field`, a number or the name of a tier.

    With `subset: replicate` each seed has a part of the training split and a held-out sample of its own;
    with `fixed` all seeds have those of seed 0, and a claim is about this text alone.
    """

    corpus: Annotated[Literal["packages", "stdlib", "text", "functions"], Unkeyed()] = "packages"
    paths: Annotated[tuple[str, ...], Unkeyed()] = ()
    text_field: Annotated[str, Unkeyed()] = "text"
    quality_field: Annotated[str, Unkeyed()] = ""
    quality: Annotated[Literal["", Tier], Neutral("")] = ""
    document_characters: Annotated[int, Unkeyed()] = Field(default=0, ge=0)
    functions: Annotated[int, Unkeyed()] = Field(default=20_000, gt=0, le=200_000)
    tokenizer: Annotated[str, Unkeyed()] = "bytes"
    unique_tokens: int | None = Field(default=None, gt=0)
    subset: Literal["replicate", "fixed"] = "replicate"
    length: int = Field(default=64, ge=2, le=32767)
    windows: Literal["fixed", "jittered"] = "jittered"
    validation_share: Annotated[float, Unkeyed()] = Field(default=0.1, gt=0, lt=0.5)
    test_share: Annotated[float, Unkeyed()] = Field(default=0.1, gt=0, lt=0.5)

    @model_validator(mode="after")
    def _paths_belong_to_text(self) -> "DataConfig":
        if (self.corpus == "text") != bool(self.paths):
            raise ValueError(
                "`paths` must name files for corpus=text and be empty for any other, "
                f"but got corpus={self.corpus} and paths={list(self.paths)}."
            )
        return self

    @model_validator(mode="after")
    def _functions_are_made(self) -> "DataConfig":
        made = self.corpus == "functions"
        for name in ("document_characters", "quality", "quality_field") if made else ("functions",):
            default, value = type(self).model_fields[name].default, getattr(self, name)
            if value != default:
                raise ValueError(
                    f"`{name}` must be {default!r} where corpus={self.corpus} has no use for it, "
                    f"but got {name}={value!r}."
                )
        return self

    @model_validator(mode="after")
    def _quality_is_known(self) -> "DataConfig":
        if self.quality_field and self.corpus != "text":
            raise ValueError(
                "`quality_field` must be empty for a corpus that is judged by its own rule, "
                f"but got corpus={self.corpus} and quality_field={self.quality_field!r}."
            )
        if self.quality and self.corpus == "text" and not self.quality_field:
            raise ValueError(
                "`quality_field` must name the field by which the records of corpus=text are judged, "
                f"but got quality={self.quality!r} and no quality_field."
            )
        return self


class ModelConfig(Section):
    """The Transformer. `size` names a shape; `layers`, `width`, `heads`, `ffn_width` change parts of it.

    `lab.models.architecture.Architecture` says what the fields mean.
    """

    size: Annotated[str, Unkeyed()] = "0.8m"
    layers: int = Field(default=0, gt=0)
    width: int = Field(default=0, gt=0)
    heads: int = Field(default=0, gt=0)
    ffn_width: int = Field(default=0, gt=0)
    loops: Annotated[int, Neutral(1)] = Field(default=1, gt=0)
    tie_embeddings: bool = True
    target_embedding: Annotated[bool, Neutral(True)] = True
    head_dim: int | None = Field(default=None, gt=0)
    kv_heads: int | None = Field(default=None, gt=0)
    qk_norm: Annotated[bool, Neutral(True)] = True
    norm_gain: Annotated[bool, Neutral(False)] = False
    rope_base: Annotated[float, Neutral(10_000.0)] = Field(default=10_000.0, gt=1)
    feed_forward: Annotated[Literal["swiglu", "token_choice", "expert_choice"], Neutral("swiglu")] = "swiglu"
    experts: Annotated[int, Neutral(1)] = Field(default=1, gt=0)
    experts_per_token: Annotated[int, Neutral(1)] = Field(default=1, gt=0)
    capacity_factor: Annotated[float, Neutral(1.25)] = Field(default=1.25, gt=0)
    balance_weight: Annotated[float, Neutral(0.01)] = Field(default=0.01, ge=0)
    router_z_weight: Annotated[float, Neutral(0.001)] = Field(default=0.001, ge=0)
    attention_dropout: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, lt=1)
    mlp_dropout: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, lt=1)
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
    def _mixture_is_used(self) -> "ModelConfig":
        unused = {
            "swiglu": ("experts_per_token", "capacity_factor", "balance_weight", "router_z_weight"),
            "token_choice": (),
            "expert_choice": ("balance_weight",),  # its experts are equally busy as they are
        }
        for name in unused[self.feed_forward]:
            default, value = type(self).model_fields[name].default, getattr(self, name)
            if value != default:
                raise ValueError(
                    f"`{name}` must be {default} where feed_forward={self.feed_forward} has no use for it, "
                    f"but got {name}={value}."
                )
        return self

    @model_validator(mode="after")
    def _shapes_fit(self) -> "ModelConfig":
        self.architecture(vocab_size=1, length=1)
        return self

    def architecture(self, vocab_size: int, length: int) -> Architecture:
        """The description of this model for a vocabulary and a length of windows."""
        values = self.model_dump(exclude={"size", "attention_dropout", "mlp_dropout", "dtype"})
        return Architecture(vocab_size=vocab_size, length=length, **values)


class FactorsConfig(Section):
    """The cube: which orders, what one pass computes, how many draws a sequence gets (docs/cube.md).

    Args:
        order: which orders are drawn; see `parse_order`.
        compute: `causal`, each token from those before it in the order, or `dense`, the hidden tokens from
            all others.
        draws: K; visit v of a text uses draw v mod K. Under `data.windows: jittered` it is kept for the text,
            however the window is cut.
        redraw: `visit`: each window has draws of its own; `epoch`: all windows of an epoch share one.
        complementary: draws 2j and 2j + 1 hide a set and its complement.
        stratified: the noise levels of an update are spread evenly over its rows, t = frac(u + row / rows).
        passes: R independent draws of the same windows in one step, their gradients averaged.
        estimator: how the number of hidden tokens is drawn: `counted` (k uniform on 1..L, mean over the
            hidden) or `bernoulli` (t uniform on (0, 1), each token hidden with probability 1 - alpha(t),
            weight -alpha'(t) / (1 - alpha(t)); 1/t for the linear noise schedule).
        noise_schedule: alpha of the Bernoulli estimator.
        noise_window: which k are drawn; see `parse_noise_window`.
        input_noise: what a causal pass reads in place of some tokens; see `parse_input_noise`.
        loss_on: `all` targets, or only the `hidden` ones: those altered by `input_noise`.
        attention_mask_dropout: chance that a slot is hidden from the attention of all other slots.
        block: B: blocks of B tokens are modelled left to right, and within one its tokens as the rest says,
            with k uniform on 1..B for each block. It divides L; B = L is as `window`, one block for all.
        ar_share: share of the rows of each micro-batch that train as `ar` does, left to right in a causal
            pass; the others train as the rest of these factors says, in a dense one.
        read_as: how evaluation reads the weights where some rows are trained each way, in `dense` passes or
            in `causal` ones. Where all are trained one way, it reads them so.
    """

    order: str = "left_to_right"
    compute: Literal["causal", "dense"] = "causal"
    draws: int | Literal["inf"] = "inf"
    redraw: Annotated[Literal["visit", "epoch"], Neutral("visit")] = "visit"
    complementary: Annotated[bool, Neutral(False)] = False
    stratified: Annotated[bool, Neutral(False)] = False
    passes: Annotated[int, Neutral(1)] = Field(default=1, gt=0, le=MOST_REPEATS)
    estimator: Literal["counted", "bernoulli"] = "counted"
    noise_schedule: Annotated[Literal["linear", "cosine"], Neutral("linear")] = "linear"
    noise_window: Annotated[str, Neutral("all")] = "all"
    input_noise: Annotated[str, Neutral("none")] = "none"
    loss_on: Annotated[Literal["all", "hidden"], Neutral("all")] = "all"
    attention_mask_dropout: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, lt=1)
    block: Annotated[int | Literal["window"], Neutral("window")] = "window"
    ar_share: Annotated[float, Neutral(0.0)] = 0.0
    read_as: Annotated[Literal["dense", "causal"], Unkeyed()] = "dense"

    @field_validator("ar_share")
    @classmethod
    def _ar_share_is_a_fraction(cls, ar_share: float) -> float:
        parse_ar_share(ar_share)
        return ar_share

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
        if isinstance(draws, int) and not 1 <= draws < 2**31:
            raise ValueError(
                f"`draws` must be a whole number >= 1 and < 2**31, or inf, but got draws={draws}."
            )
        return draws

    @field_validator("block")
    @classmethod
    def _block_positive(cls, block: int | str) -> int | str:
        if isinstance(block, int) and block < 1:
            raise ValueError(f"`block` must be a whole number >= 1 or window, but got block={block}.")
        return block

    @property
    def drawn(self) -> bool:
        """Whether anything of a training pass is drawn, so that two passes over a window can differ."""
        if self.attention_mask_dropout or 0 < self.ar_share < 1:
            return True
        if self.ar_share == 1 or self.block == 1:
            return False
        kind, number = parse_order(self.order)
        orders = {"left_to_right": False, "any": True, "fixed": number > 1}.get(kind, 0 < number < 1)
        if self.compute == "causal":
            noise, ratio, _ = parse_input_noise(self.input_noise)
            return orders or self._level_drawn or noise == "replace" or 0 < ratio < 1
        window, share = parse_noise_window(self.noise_window)
        return window != "fixed" or (orders and share < 1)

    @property
    def in_blocks(self) -> bool:
        """Whether a size of blocks is given."""
        return self.block != "window"

    def block_size(self, length: int) -> int:
        """B where a window of so many tokens has several blocks; 0 where it is one."""
        return 0 if self.block == "window" else self.block % length

    @property
    def reads_causally(self) -> bool:
        """Whether evaluation reads the weights in causal passes."""
        read_so = self.read_as == "causal" and self.ar_share > 0
        return self.compute == "causal" or self.ar_share == 1 or read_so

    @property
    def reads_any_order(self) -> bool:
        """Whether the weights are read as they were trained on random orders."""
        return self.order == "any" and (self.compute == "causal") == self.reads_causally

    @property
    def _level_drawn(self) -> bool:
        """Whether a pass has a drawn count or ratio of hidden or altered tokens."""
        if self.compute == "dense":
            return self.estimator == "counted" and not self.noise_window.startswith("fixed")
        return parse_input_noise(self.input_noise)[2]

    @model_validator(mode="after")
    def _cell_exists(self) -> "FactorsConfig":
        if problem := next(self._impossible(), None):
            name, reason = problem
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
        if self.stratified and not self._level_drawn:
            yield (
                "stratified",
                "spreads drawn noise levels: compute=dense, estimator=counted, noise_window not fixed, or "
                "input_noise with a drawn ratio such as mask:0-1",
            )
        if self.stratified and (self.draws != "inf" or self.redraw != "visit" or self.complementary):
            yield (
                "stratified",
                "gives each row of an update its own level: draws=inf, redraw=visit, complementary=false",
            )
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
        if self.in_blocks and not (dense_any and counted):
            yield "block", "hides k tokens of each block: compute=dense, order=any, estimator=counted"
        if self.in_blocks and (
            self.noise_window != "all" or self.complementary or self.attention_mask_dropout
        ):
            yield "block", "needs noise_window=all, complementary=false and attention_mask_dropout=0"
        if self.ar_share and self.compute != "dense":
            yield "ar_share", "adds rows in causal passes to those in dense ones: compute=dense"
        if self.ar_share and self.stratified:
            yield "stratified", "spreads levels over all rows of an update, of which ar_share takes some"
        frozen = self.draws != "inf" and not self.attention_mask_dropout
        unread = not counted or self.complementary or self.noise_window != "all" or self.in_blocks or frozen
        if self.ar_share == 1 and unread:
            yield (
                "ar_share",
                "leaves no dense rows for estimator=bernoulli, complementary, noise_window, block or draws "
                "to act on",
            )
        if self.read_as == "causal" and self.compute != "dense":
            yield "read_as", "chooses between two ways of training: compute=dense"
        if self.passes > 1 and not self.drawn:
            yield "passes", "would repeat one and the same pass: nothing is drawn"
        if self.draws != "inf" and self.passes > self.draws:
            yield "passes", f"would repeat draws in a step: there are no more than draws={self.draws}"
        if self.redraw != "visit" and not self.drawn:
            yield "redraw", "says when to draw, and nothing is drawn"


class TrainingConfig(Section):
    """The optimizer and its schedule. Exactly one of `total_epochs`, `total_tokens`, `total_steps` is given.

    A step is one update of the weights on `batch_size` sequences, computed in `accumulation` equal parts.
    Under `schedule: wsd` the main run stays at the peak learning rate and each stop is reached by a branch
    that decays over the last `decay_share` of the steps before it; under `cosine` the horizon is the total.

    `total_share` is the share of that total which a run makes, for an arm that does a part of what others do.

    `weight_decay` is decoupled, in units of the learning rate. Over the first `weight_decay_warmup_steps`
    updates it grows linearly to its value: a model that has memorised nothing yet need not be held back.

    `ema` > 0 is the decay, for each update, of an exponential moving average of the weights, debiased: the
    initial weights have no part in it (lab/training/optimizer.py). Stops then keep and measure the average in
    place of the weights, whose training it does not change; 0 keeps none.

    `parallel` says where a run is computed (docs/distribution.md): on one device, `none`; on all devices of
    all its processes, each with all weights and a part of every micro-batch, `data`; or with the weights in
    `model_parallel` parts and the micro-batch in as many as there are devices for, `model`. It changes the
    order of sums alone, so it is no part of the run's key.

    `rematerialise` computes each block again in the backward pass in place of keeping what it computed: a
    third more FLOPs, and a fraction of the activations (docs/paper_scale.md). The numbers are the same but
    for the rounding of another program, so it is part of the run's key.

    The weights of all stops are kept if together they take at most `kept_megabytes`, and else those of the
    best and the last; so are the main run's checkpoints if they fit in what is left, and else the last two.
    What is kept can be measured again, and another stop be added, without training.

    `start_from` names another arm of the ablation: the run begins with the weights of the best stop of that
    arm's run of the same level and seed, and with a fresh optimizer.

    `patience` > 0 ends a run once so many stops in a row, in the headline reading, are worse on validation
    than the best before them: nothing later is trained or measured. 0 never does. What comes after the
    minimum is part of what an ablation such as crossover asks, so they leave it.

    `perturbation` p multiplies each initial weight by 1 + p z, z standard normal: at 1e-6, some float32
    roundings, two such runs differ by what rounding alone does to a run.
    """

    batch_size: int = Field(default=32, gt=0, lt=2**31)
    accumulation: Annotated[int, Neutral(1)] = Field(default=1, gt=0)
    total_epochs: float | None = Field(default=None, gt=0)
    total_tokens: int | None = Field(default=None, gt=0)
    total_steps: int | None = Field(default=None, gt=0)
    total_share: Annotated[float, Neutral(1.0)] = Field(default=1.0, gt=0, le=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup_steps: int = Field(default=50, ge=0)
    decay_share: float = Field(default=0.2, gt=0, lt=1)
    final_learning_rate_share: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    weight_decay_warmup_steps: Annotated[int, Neutral(0)] = Field(default=0, ge=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, lt=1)
    log_steps: Annotated[int, Unkeyed()] = Field(default=20, gt=0)
    checkpoint_steps: Annotated[int, Unkeyed()] = Field(default=200, gt=0)
    parallel: Annotated[Literal["none", "data", "model"], Unkeyed()] = "none"
    model_parallel: Annotated[int, Unkeyed()] = Field(default=1, gt=0)
    rematerialise: Annotated[bool, Neutral(False)] = False
    kept_megabytes: Annotated[float, Unkeyed()] = Field(default=64.0, ge=0)
    start_from: Annotated[str, Neutral("")] = Field(default="", pattern=rf"^({ARM})?$")
    patience: Annotated[int, Neutral(0)] = Field(default=0, ge=0)
    perturbation: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _parts_of_a_model(self) -> "TrainingConfig":
        if self.model_parallel > 1 and self.parallel != "model":
            raise ValueError(
                "`model_parallel` must be 1 unless parallel=model, "
                f"but got model_parallel={self.model_parallel}, parallel={self.parallel}."
            )
        return self

    @model_validator(mode="after")
    def _drawn_weights_are_perturbed(self) -> "TrainingConfig":
        if self.perturbation and self.start_from:
            raise ValueError(
                "`perturbation` must be 0 with start_from, which takes the place of the drawn weights, "
                f"but got perturbation={self.perturbation}."
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


class EvaluationConfig(Section):
    """The yardstick. Stops lie at total / ratio^j tokens for j = 0 .. stops - 1.

    The validation NLL of every stop is measured at `validation_positions` places of each of
    `validation_windows` windows, the test NLL of the best and the last stop at `test_positions` of each of
    `test_windows`: one place in each of as many equal parts of the window, 0 or its length for all. At all
    places `exact_windows` are measured, of the best stop alone. A dense arm takes a pass for each place.
    """

    stops: int = Field(default=8, gt=0)
    stop_ratio: float = Field(default=2.0, gt=1)
    validation_windows: int = Field(default=64, gt=1)
    validation_positions: int = Field(default=4, ge=0)
    test_windows: int = Field(default=128, gt=1)
    test_positions: int = Field(default=16, ge=0)
    exact_windows: int = Field(default=64, gt=1)
    nelbo_draws: int = Field(default=8, gt=1, le=MOST_REPEATS, multiple_of=2)
    choice_items: int = Field(default=64, gt=1)
    choice_options: int = Field(default=4, gt=1, le=MOST_REPEATS)
    choice_context_tokens: int = Field(default=48, gt=0)
    choice_option_tokens: int = Field(default=8, gt=0)
    sample_tokens: int = Field(default=64, ge=0)
    batch_size: int = Field(default=128, gt=0)

    @model_validator(mode="after")
    def _first_stop_exists(self) -> "EvaluationConfig":
        if (self.stops - 1) * log(self.stop_ratio) > log(LARGEST):
            raise ValueError(
                "stop_ratio ** (stops - 1), the last stop over the first, must be at most 2**53, "
                f"but got stop_ratio={self.stop_ratio}, stops={self.stops}."
            )
        return self


Sampler = Annotated[str, Field(pattern=r"^(ancestral|confidence|blocks:[1-9][0-9]{0,8})$")]


class InferenceConfig(Section):
    """Generation and multiple choice at several amounts of compute, measured after training where asked for.

    A prompt is the first part of a held-out window, the rest of it is generated: n tokens, in n, n/2, n/4,
    ... and 1 passes with each sampler (lab/evaluation/denoising.py), at temperature 1. In n passes the first
    sampler, or left to right, writes at each of the other `temperatures` too. `draws` are the numbers of
    Monte Carlo draws with which the `choice_items` are scored.
    """

    prompts: int = Field(default=200, gt=1)
    prompt_share: float = Field(default=0.25, ge=0, lt=1)
    samplers: tuple[Sampler, ...] = ("ancestral", "confidence", "blocks:8")
    # From text that repeats itself to beyond the entropy of what it was trained on.
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (0.5, 0.7, 0.85, 1.0, 1.2)
    draws: tuple[Annotated[int, Field(gt=0, le=MOST_REPEATS)], ...] = (1, 4, 16)
    choice_items: int = Field(default=128, gt=1)

    @field_validator("temperatures")
    @classmethod
    def _each_once(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(temperatures)) < len(temperatures):
            raise ValueError(f"must not repeat one, but got {list(temperatures)}.")
        return temperatures

    def prompt_and_generated(self, length: int) -> tuple[int, int]:
        """Tokens of a prompt, and tokens generated after it: together a window of `length` tokens."""
        prompt = int(self.prompt_share * length)
        return prompt, length - prompt


class MemorisationConfig(Section):
    """What is measured of a run's own training text after it, where asked for.

    `windows` are drawn of its budget, and as many of held-out text beside them. The first `prompt_share` of a
    window is the prompt; extraction asks whether greedy sampling writes the `continuation_share` after it
    exactly as it was, a dense arm by each of `samplers` in n, n/2, ..., 1 passes for its n tokens.
    """

    windows: int = Field(default=64, gt=1)
    prompt_share: float = Field(default=0.5, ge=0, lt=1)
    continuation_share: float = Field(default=0.25, gt=0, le=1)
    samplers: tuple[Sampler, ...] = Field(default=("confidence", "blocks:1"), min_length=1)

    @model_validator(mode="after")
    def _shares_fit(self) -> "MemorisationConfig":
        if self.prompt_share + self.continuation_share > 1:
            raise ValueError(
                "`prompt_share` and `continuation_share` must fit in a window, at most 1 together, but got "
                f"prompt_share={self.prompt_share}, continuation_share={self.continuation_share}."
            )
        return self

    def prompt_and_continuation(self, length: int) -> tuple[int, int]:
        """Tokens of a prompt, and of what follows it, of a window of `length` tokens."""
        return int(self.prompt_share * length), max(1, int(self.continuation_share * length))


class TaskConfig(Section):
    """A benchmark task from files, measured of finished runs where asked for (lab/evaluation/task_files.py).

    `files` are paths or globs of files in one of the published forms. Of each the first `questions` are
    asked, or all with 0. Before each question stand `shots` others with their answers, the first of
    `dev_files`. With `draws` an arm that reads any order scores an answer by so many Monte Carlo draws; all
    others, and all with 0, take the exact chain rule. `name` is for tasks that would else be called alike.
    """

    name: str = ""
    form: Literal["hellaswag", "mmlu", "lambada", "blimp", "choice"] = "choice"
    files: tuple[str, ...] = ()
    dev_files: tuple[str, ...] = ()
    shots: int = Field(default=0, ge=0)
    questions: int = Field(default=0, ge=0)
    draws: int = Field(default=0, ge=0, le=MOST_REPEATS)

    @property
    def settings(self) -> dict[str, Any]:
        """What a task is called in records: all but where its files lie and how its answers are scored."""
        own = {name: getattr(self, name) for name in ("name", "form", "shots", "questions")}
        return {name: value for name, value in own.items() if value}

    @model_validator(mode="after")
    def _shots_have_a_file(self) -> "TaskConfig":
        if bool(self.shots) != bool(self.dev_files):
            raise ValueError(
                "`shots` and `dev_files` must be given together, "
                f"but got shots={self.shots}, dev_files={list(self.dev_files)}."
            )
        return self

    @model_validator(mode="after")
    def _form_allows(self) -> "TaskConfig":
        for name, forms in (("shots", ("lambada", "blimp")), ("draws", ("lambada",))):
            if self.form in forms and (value := getattr(self, name)):
                raise ValueError(f"`{name}` must be 0 for form={self.form}, but got {name}={value}.")
        return self


class TasksConfig(TaskConfig):
    """A task, and `more` of them beside it, each with all of its own settings."""

    more: tuple[TaskConfig, ...] = ()

    @property
    def tasks(self) -> tuple[TaskConfig, ...]:
        """All of them; none where there are no files."""
        return (self, *self.more) if self.files else ()

    def find(self, settings: Values) -> TaskConfig:
        """The task of this configuration whose record's settings these are."""
        called = {key: value for key, value in settings.items() if key in TaskConfig.model_fields}
        (found,) = (task for task in self.tasks if task.settings == called)
        return found

    @model_validator(mode="after")
    def _each_has_files_and_a_name(self) -> "TasksConfig":
        called = [task.settings for task in (self, *self.more)]
        if self.more and not all(task.files for task in (self, *self.more)):
            raise ValueError("`files` must be given for each task where there are `more`, but one has none.")
        if twice := [one for one in called if called.count(one) > 1]:
            raise ValueError(
                f"`name` must tell tasks apart that are else called alike, but two are {twice[0]}."
            )
        return self


class InfillingConfig(Section):
    """How well an arm fills gaps, measured after training where asked for.

    The gap is `gap_share` of a window, in its middle, at least one token. Of the `options` for it one is the
    true one, the others are the middles of other windows, of which there are `windows`.
    """

    windows: int = Field(default=64, gt=1)
    gap_share: float = Field(default=0.25, gt=0, lt=1)
    options: int = Field(default=4, gt=1)

    @model_validator(mode="after")
    def _options_are_there(self) -> "InfillingConfig":
        if self.windows < self.options:
            raise ValueError(
                "`windows` must be >= `options`, as wrong middles come from other windows, but got "
                f"windows={self.windows}, options={self.options}."
            )
        return self

    def left_and_gap(self, length: int) -> tuple[int, int]:
        """Tokens before the gap, and in it, of a window of `length` tokens."""
        tokens = max(1, int(self.gap_share * length))
        return (length - tokens) // 2, tokens


class CodeConfig(Section):
    """What is measured of the code that an arm writes, after it, where asked for: by running it.

    Asked are so many held-out `problems` of `data.corpus: functions`, 64 unless said; or, with `form`, the
    published ones of `files` in that form (lab/evaluation/code_problems.py), of each the first `problems`, or
    all. Of each so many `samples` are written at a `temperature`, each of at most `new_tokens`; a dense arm
    takes a pass for each token, by each of `samplers`. pass@1 and pass@k, k = `samples`, are over these.
    """

    form: Literal["", "humaneval", "mbpp"] = ""
    files: tuple[str, ...] = ()
    problems: int | None = Field(default=None, gt=1)
    samples: int = Field(default=10, gt=1, le=MOST_REPEATS)
    new_tokens: int = Field(default=64, gt=0)
    temperature: float = Field(default=0.5, ge=0)
    samplers: tuple[Sampler, ...] = Field(default=("confidence", "blocks:1"), min_length=1)

    @property
    def functions(self) -> int:
        """How many held-out functions are asked, where no files are named."""
        return self.problems or 64

    @model_validator(mode="after")
    def _form_has_files(self) -> "CodeConfig":
        if bool(self.form) != bool(self.files):
            raise ValueError(
                "`form` and `files` must be given together, "
                f"but got form={self.form!r}, files={list(self.files)}."
            )
        return self


class RunConfig(Section):
    """All that decides one run's numbers: one arm at one seed, which is a replicate of the experiment.

    The members of a replicate share its text and differ in all that training draws.
    """

    arm: str = Field(default="ar", pattern=rf"^{ARM}$")
    seed: int = Field(default=0, ge=0, lt=2**31)
    member: Annotated[int, Neutral(0)] = Field(default=0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    factors: FactorsConfig = FactorsConfig()
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    inference: InferenceConfig = InferenceConfig()
    memorisation: MemorisationConfig = MemorisationConfig()
    infilling: InfillingConfig = InfillingConfig()
    tasks: TasksConfig = TasksConfig()
    code: CodeConfig = CodeConfig()

    @property
    def replicate(self) -> int:
        """Which part of the training split and which held-out sample the run has."""
        return self.seed if self.data.subset == "replicate" else 0

    @property
    def training_seed(self) -> int:
        """The seed of initial weights, order of the data, draws, dropout and sampled text."""
        # It needs NumPy, which takes longer to import than a configuration to be checked.
        from lab.threefry import member_seed

        return member_seed(self.seed, self.member)

    @model_validator(mode="after")
    def _duration_ends(self) -> "RunConfig":
        data, training = self.data, self.training
        if data.unique_tokens is not None and data.unique_tokens < data.length:
            raise ValueError(
                f"`unique_tokens` must fill one window of data.length={data.length}, "
                f"but got unique_tokens={data.unique_tokens}."
            )
        windows = (data.unique_tokens or data.length) // data.length
        rows = (training.total_tokens or 0) / data.length + (training.total_epochs or 0) * windows
        require_end(training.total_share * (rows / training.batch_size + (training.total_steps or 0)))
        return self

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
    def _generated_text_is_judged(self) -> "RunConfig":
        prompt, generated = self.inference.prompt_and_generated(self.data.length)
        if prompt and generated < NGRAM:
            raise ValueError(
                f"`inference.prompt_share` must leave at least {NGRAM} tokens of data.length="
                f"{self.data.length} to generate, but got prompt_share={self.inference.prompt_share}, which "
                f"leaves {generated}."
            )
        return self

    @property
    def block_size(self) -> int:
        """Tokens of a block, where a window has several; else 0, and a window is all one block."""
        return self.factors.block_size(self.data.length)

    @property
    def read_block_size(self) -> int:
        """The same of the passes in which evaluation reads the weights."""
        return 0 if self.factors.reads_causally else self.block_size

    @property
    def sees_both_sides(self) -> bool:
        """Whether its arm has learnt to predict a token from those on both sides of it."""
        return self.factors.reads_any_order and not self.read_block_size

    @model_validator(mode="after")
    def _blocks_fill_the_window(self) -> "RunConfig":
        if self.factors.block != "window" and self.data.length % self.factors.block:
            raise ValueError(
                f"`block` must divide data.length={self.data.length}, but got block={self.factors.block}."
            )
        return self

    @model_validator(mode="after")
    def _some_count_is_low(self) -> "RunConfig":
        counted = self.data.windows == "fixed" or self.factors.order != "any"
        if counted and self.factors.noise_window == "low" and self.data.length < 3:
            raise ValueError(
                "`length` must be at least 3 for noise_window=low, the lowest third of counts 1 .. length, "
                f"but got length={self.data.length}."
            )
        return self

    @model_validator(mode="after")
    def _rows_are_whole(self) -> "RunConfig":
        rows = self.training.batch_size // self.training.accumulation
        if rows % parse_ar_share(self.factors.ar_share).denominator:
            raise ValueError(
                f"`ar_share` must be n / {rows} with n of 0..{rows}, whole rows of batch_size / accumulation "
                f"= {rows}, but got ar_share={self.factors.ar_share}."
            )
        return self

    @model_validator(mode="after")
    def _parts_are_even(self) -> "RunConfig":
        parts = self.training.model_parallel
        architecture = self.model.architecture(vocab_size=1, length=1)
        hidden = "ffn_width" if architecture.feed_forward == "swiglu" else "experts"
        for name in ("heads", "kv_heads", "width", hidden):
            if (size := getattr(architecture, name)) % parts:
                raise ValueError(
                    f"`model_parallel` must divide heads, kv_heads, width and {hidden}, but got "
                    f"model_parallel={parts}, {name}={size}."
                )
        return self

    @model_validator(mode="after")
    def _experts_see_no_future(self) -> "RunConfig":
        mixture, factors = self.model.feed_forward, self.factors
        if mixture == "expert_choice" and (factors.compute != "dense" or factors.ar_share):
            raise ValueError(
                "`feed_forward` must be swiglu or token_choice unless compute=dense and ar_share=0, as under "
                "expert_choice a slot depends on later ones, but got feed_forward=expert_choice, "
                f"compute={factors.compute}, ar_share={factors.ar_share}."
            )
        if mixture != "swiglu" and self.block_size:
            raise ValueError(
                "`feed_forward` must be swiglu where factors.block is below data.length, as a token's place "
                "with an expert would depend on later blocks, "
                f"but got feed_forward={mixture}, block={factors.block}."
            )
        return self

    @model_validator(mode="after")
    def _slots_know_what_they_predict(self) -> "RunConfig":
        compute, order = self.factors.compute, self.factors.order
        if not self.model.target_embedding and compute == "causal" and order != "left_to_right":
            raise ValueError(
                "`target_embedding` must be true where slots predict other positions than their next or "
                f"own one, but got compute={compute}, order={order}."
            )
        return self

    def to_yaml(self) -> str:
        """The whole configuration as YAML that `load_config` reads back to an equal object."""
        return yaml.dump(self.model_dump(mode="json", exclude_none=True), Dumper=_Dumper, sort_keys=False)

    def keyed_values(self) -> dict[str, Any]:
        """What a run's weights depend on, beside its data: dotted key -> value, in the order of declaration.

        What is not set, or has a neutral value, is left out; so is what only says how a run is logged, kept,
        laid out and measured, and what its arm is called.
        """
        keyed: dict[str, Any] = {}
        for name in ("data", "model", "factors", "training"):
            section = getattr(self, name)
            for key, value in section.model_dump(mode="json").items():
                marks = type(section).model_fields[key].metadata
                if value is not None and Unkeyed() not in marks and Neutral(value) not in marks:
                    keyed[f"{name}.{key}"] = value
        return {**keyed, "seed": self.seed, **({"member": self.member} if self.member else {})}


class StopConfig(Section):
    """Which weights a measurement reads.

    `run` is the folder of a run, relative to the measurement's own; `version` the digest of its version.
    """

    run: str
    version: str
    reading: Literal["annealed", "along_run"]
    step: int = Field(gt=0)
    tokens_seen: int = Field(gt=0)
    epoch: float = Field(gt=0)


class MeasurementConfig(Section):
    """A measurement of finished runs: what `python -m lab measure` reads.

    `measurement` names the set of tasks; of `stops` the first is the subject's best, those of the same run
    are the subject's too, and the others are of those that it is measured with. `config` is the subject's
    configuration as it is now: data may have moved, and the sections of what is measured may ask for more
    than when it was trained.
    """

    measurement: str
    stops: tuple[StopConfig, ...] = Field(min_length=1)
    config: RunConfig

    def to_yaml(self) -> str:
        """The whole as YAML that `load_measurement` reads back to an equal object."""
        return yaml.dump(self.model_dump(mode="json", exclude_none=True), Dumper=_Dumper, sort_keys=False)


# YAML 1.2's numbers and words: `1e3` is a number, `yes` and `12:30` are texts, and no number starts with 0.
_WHOLE = r"[-+]?(0|[1-9][0-9_]*)"
_SCALARS = {
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (_WHOLE, list("-+0123456789")),
    "float": (
        rf"({_WHOLE}(\.[0-9_]*)?|[-+]?\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader of YAML 1.2's scalars that refuses a key given twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads back: it quotes texts that this YAML, or an older one, takes for more."""


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
for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_UniqueKeyLoader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^({_pattern})$"), _first)


def _scalar(text: str, assignment: str) -> Any:
    """A value from the command line."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except (ValueError, yaml.YAMLError):
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


def find_file(key: str, given: str, folder: Path, suffix: str, owner: str = "") -> tuple[str, Path]:
    """The file that a user means by the name of one in a folder, or by the path of one of their own.

    Args:
        key: what is asked for, `preset` say, for the message.
        given: a name, in which dashes and underscores are the same, or a path that ends in `suffix`.
        folder: where the lab's own lie.
        suffix: `.yaml` or `.py`.
        owner: where it was given, if not on the command line, for the message: ` of mine.yaml`.

    Returns:
        Its name, with dashes, and where it is.

    Raises:
        ValueError: if there is none, or its name is not of letters, digits and dashes or is that of another
            in the folder: results lie by name.
    """
    shipped = {_dashed(path): path for path in folder.glob(f"[!_]*{suffix}")}
    path, expected = Path(given), f"`{key}`{owner} must be one of {sorted(shipped)} or a {suffix} file"
    if path.suffix != suffix:
        if (name := given.replace("_", "-")) not in shipped:
            raise ValueError(f"{expected}, but got {key}={given!r}.")
        return name, shipped[name]
    name = _dashed(path)
    if not path.is_file():
        raise ValueError(f"{expected}, but there is no file {given}.")
    if not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", name):
        raise ValueError(f"{expected} named in letters, digits and dashes, but got {key}={given!r}.")
    if name in shipped and not path.samefile(shipped[name]):
        raise ValueError(f"{expected} of another name than these, but got {key}={given!r}.")
    return name, path


def _dashed(path: Path) -> str:
    return path.stem.replace("_", "-")


def preset_names() -> list[str]:
    """The presets that `configs/` holds."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def preset_name(preset: str) -> str:
    """What results are filed under: a preset's name, or that of its file.

    Raises:
        ValueError: if there is no such preset.
    """
    return find_file("preset", preset, PRESETS_DIR, ".yaml")[0]


def preset_layers(preset: str) -> dict[str, Values]:
    """The values that a preset gives itself, by its name, after those of its `base`, that one's, and so on.

    Args:
        preset: the name of a file in `configs/`, or the path of one; so is its `base`, relative to it.

    Raises:
        ValueError: if there is no such preset or base, or a base leads back to a preset that is built on it.
    """
    return {
        name: {key: value for key, value in values.items() if key != ARMS_KEY}
        for name, values in _read_layers(preset).items()
    }


def strong_layers(preset: str) -> dict[str, Any]:
    """What a preset found to be best for single arms: arm -> a layer over the preset's own values.

    A preset lists them under `arms`; those of its `base` hold where it names none itself.

    Raises:
        ValueError: as for `preset_layers`, and where `arms` is no mapping of arms to layers.
    """
    found: dict[str, Any] = {}
    for name, values in _read_layers(preset).items():
        arms = values.get(ARMS_KEY, {})
        if not isinstance(arms, Mapping) or not all(isinstance(layer, Mapping) for layer in arms.values()):
            raise ValueError(f"`arms` of preset {name} must map arms to values, but got arms={arms!r}.")
        found |= arms
    return found


def _read_layers(preset: str) -> dict[str, Values]:
    layers: dict[str, Values] = {}
    key, owner = "preset", ""
    while True:
        name, path = find_file(key, preset, PRESETS_DIR, ".yaml", owner)
        if name in layers:
            raise ValueError(
                f"`base`{owner} must have another name than {' and '.join(layers)}, but got base={preset!r}."
            )
        values = read_yaml(path)
        base = str(values.pop("base")) if "base" in values else None
        layers = {name: values, **layers}
        if base is None:
            return layers
        key, owner = "base", f" of {path}"
        preset = str(path.parent / base) if base.endswith(".yaml") else base


def read_preset(preset: str) -> dict[str, Any]:
    """The values of a preset, laid over those of its `base`.

    Raises:
        ValueError: as for `preset_layers`.
    """
    return lay(*preset_layers(preset).values())


def merge(base: Values, override: Values) -> dict[str, Any]:
    """`base` with the values of `override` laid over it, section by section."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def files_layer(paths: Sequence[str]) -> dict[str, Any]:
    """The layer that takes a user's files for the corpus; empty without any."""
    return {"data": {"corpus": "text", "paths": list(paths)}} if paths else {}


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


def lay(*layers: Values) -> dict[str, Any]:
    """Mappings laid over one another, the last on top.

    A layer that gives one of the three durations takes away those below it.
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
    return values


def make_config(*layers: Values) -> RunConfig:
    """Lay mappings over one another (`lay`) and check the whole.

    Raises:
        ValueError: naming each key that is unknown or holds a value it may not, and what was expected.
    """
    values = lay(*layers)
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
            # A number is a place in a tuple.
            section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
        name = ".".join(map(str, problem["loc"][:-1])) or "the top level"
        return f"{where}: no such key; {name} has {sorted(section.model_fields)}."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("value_error", "missing"):
        return f"{where}: {message}"
    return f"{where}: {message}, but got {problem['input']!r}."


def load_config(path: Path) -> RunConfig:
    """Read a resolved configuration, such as a logdir's `config.yaml`."""
    return make_config(read_yaml(path))


def load_measurement(path: Path) -> MeasurementConfig:
    """Read the configuration of a measurement.

    Raises:
        ValueError: if it is none.
    """
    try:
        return MeasurementConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ValueError(f"{path}: not a measurement:\n  " + "\n  ".join(lines)) from None
