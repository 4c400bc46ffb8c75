"""What a run asks of a mesh of devices, by closed forms alone: memory, FLOPs and time."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

from lab.config import RunConfig, Values, make_config
from lab.data.tokenizers import known_vocab_size
from lab.evaluation.flops import TRAIN_PASSES, training_forward_flops_per_token
from lab.models.architecture import Architecture
from lab.models.footprint import FLOAT32, Parameters, block_matrices, parameters, training_memory
from lab.training.devices import Device
from lab.training.timeline import Timeline, make_timeline

USABLE = 0.9  # of a device's memory: the rest goes to kernels, their working space, and gaps
HALF = 2  # bytes of a bfloat16


class DeviceMemory(NamedTuple):
    """Bytes on one device.

    Attributes:
        weights: float32.
        copies: of the weights in half precision, which matrix products read.
        gradients: float32; twice with several passes a step, whose gradients are added up.
        optimizer: two moments; one more float32 a parameter with accumulation, and one with an average.
        activations: `lab.models.footprint.activation_bytes` of each token.
    """

    weights: int
    copies: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(self)


@dataclass(frozen=True)
class Capacity:
    """A run on a mesh.

    Attributes:
        config: with `training.parallel` and `training.model_parallel` as the mesh has them.
        vocab_size: of its tokenizer.
        devices: number of them, data x model.
        device: each of them.
    """

    config: RunConfig
    vocab_size: int
    devices: int
    device: Device

    @property
    def data(self) -> int:
        """Parts of a micro-batch."""
        return self.devices // self.config.training.model_parallel

    @property
    def rows(self) -> int:
        """Sequences of a micro-batch on one device."""
        training = self.config.training
        return training.batch_size // training.accumulation // self.data

    @property
    def parameters(self) -> Parameters:
        """Of the model."""
        return parameters(self._architecture)

    def memory(self, rematerialise: bool) -> DeviceMemory:
        """Of one device, with blocks computed again in the backward pass or without."""
        config, architecture = self.config, self._architecture
        training, half = config.training, config.model.dtype == "mixed_bfloat16"
        fused = self.device.fused_attention and half and not config.model.attention_dropout
        step = training_memory(
            architecture,
            self.rows,
            HALF if half else FLOAT32,
            fused,
            rematerialise,
            training.model_parallel,
            config.model.attention_dropout > 0,
            config.model.mlp_dropout > 0,
            (1 - config.factors.ar_share) * (config.block_size > 0),
        )
        copied = self.parameters.total
        if rematerialise:  # blocks are cast one by one
            copied -= (architecture.layers - 1) * block_matrices(architecture).total
        return DeviceMemory(
            weights=step.weights,
            copies=HALF * copied // training.model_parallel if half else 0,
            gradients=step.gradients * (1 + (config.factors.passes > 1)),
            optimizer=step.optimizer + step.weights * ((training.accumulation > 1) + (training.ema > 0)),
            activations=step.activations,
        )

    @property
    def fits(self) -> bool:
        """Whether a device holds its part, as the configuration says."""
        return self.memory(self.config.training.rematerialise).total <= USABLE * self.device.memory

    def timeline(self) -> Timeline:
        """The run's steps.

        Raises:
            ValueError: if its duration is given in epochs of a corpus of unknown size.
        """
        data, training = self.config.data, self.config.training
        if data.unique_tokens is None and training.total_epochs:
            raise ValueError("`data.unique_tokens` must be given for a run of total_epochs, but it is not.")
        return make_timeline(self.config, max(1, (data.unique_tokens or 0) // data.length))

    @property
    def flops_per_token(self) -> float:
        """Of training, all passes of a step, nothing being computed again."""
        forward = training_forward_flops_per_token(self.config, self.vocab_size)
        return self.config.factors.passes * TRAIN_PASSES * forward

    def seconds(self, utilisation: float) -> float:
        """Of all steps, those of the stops' branches too.

        What is computed again counts as work: a third more, if the configuration says so.

        Args:
            utilisation: of the devices' peak FLOP/s, in (0, 1].
        """
        timeline = self.timeline()
        work = self.flops_per_token * timeline.tokens_seen(timeline.work)
        again = 4 / 3 if self.config.training.rematerialise else 1
        return work * again / (self.devices * self.device.flops * utilisation)

    @property
    def _architecture(self) -> Architecture:
        return self.config.model.architecture(self.vocab_size, self.config.data.length)


def plan_capacity(
    values: Values,
    devices: int,
    device: Device,
    model_parallel: int | None = None,
    vocab_size: int | None = None,
) -> Capacity:
    """Lay a run out on devices, as `lab.training.distribution.set_layout` will.

    Args:
        values: the run's configuration. Several devices that it does not lay out have all weights each.
        devices: number of them.
        device: each of them.
        model_parallel: parts of the weights, in place of the configuration's.
        vocab_size: of its tokenizer, where its name does not say it.

    Raises:
        ValueError: if a configuration value or the number of devices is wrong, the parts are not equal, or
            the devices cannot hold the run; the message names settings with which they could.
    """
    if devices < 1:
        raise ValueError(f"`devices` must be at least 1, but got devices={devices}.")
    config = make_config(values)
    size = known_vocab_size(config.data.tokenizer) if vocab_size is None else vocab_size
    if size is None:
        raise ValueError(
            "--vocab-size must be given for a tokenizer other than bytes and bpe:N, "
            f"but got tokenizer={config.data.tokenizer!r} alone."
        )
    parts = config.training.model_parallel if model_parallel is None else model_parallel
    if parts < 1 or devices % parts:
        raise ValueError(
            f"`model_parallel` must divide the {devices} devices, but got model_parallel={parts}."
        )
    capacity = _laid_out(values, size, devices, device, model_parallel=parts)
    training = capacity.config.training
    if (rows := training.batch_size // training.accumulation) % capacity.data:
        raise ValueError(
            f"batch_size / accumulation must be a multiple of the {capacity.data} parts of the data axis "
            f"({devices} devices, model_parallel={parts}), but got {rows}."
        )
    if not capacity.fits:
        need = capacity.memory(training.rematerialise).total
        raise ValueError(
            f"each device must hold {need / 1e9:.1f} GB, but {USABLE:.0%} of its memory are "
            f"{USABLE * device.memory / 1e9:.1f} GB; {_what_fits(capacity, values)}."
        )
    return capacity


def require_memory(config: RunConfig, devices: int, device: Device) -> None:
    """Refuse a run of which a device cannot hold its part, with nothing beside it.

    Where the name of the tokenizer does not say the size of its vocabulary, it counts as one token.

    Args:
        config: of the run.
        devices: number of them.
        device: each of them.

    Raises:
        ValueError: with the parameters and the memory that it takes, and settings with which it would fit.
    """
    training, length = config.training, config.data.length
    vocab_size = known_vocab_size(config.data.tokenizer) or 1
    capacity = Capacity(config, vocab_size, max(devices, training.model_parallel), device)
    has = f"more than the {device.memory / 1e9:,.1f} GB that there are"
    memory = capacity.memory(training.rematerialise)
    if memory.total > device.memory:
        raise ValueError(
            f"a model of {capacity.parameters.total:,} parameters that trains on {capacity.rows:,} sequences "
            f"of {length} tokens at once takes {memory.total / 1e9:,.1f} GB, {memory.activations / 1e9:,.1f} "
            f"of them for the sequences, {has}; {_what_fits(capacity, config.model_dump(exclude_none=True))}."
        )
    rows = config.evaluation.batch_size
    scoring = FLOAT32 * rows * length * config.model.width + memory.weights  # one layer's features at least
    if scoring > device.memory:
        raise ValueError(
            f"`evaluation.batch_size` must be of sequences that can be scored at once, but {rows:,} of "
            f"{length} tokens take {scoring / 1e9:,.1f} GB, {has}."
        )


def _laid_out(values: Values, vocab_size: int, devices: int, device: Device, **training: Any) -> Capacity:
    parts = training["model_parallel"]
    parallel = "model" if parts > 1 else "data" if devices > 1 else "none"
    config = make_config(values, {"training": {**training, "parallel": parallel}})
    return Capacity(config, vocab_size, devices, device)


def _what_fits(capacity: Capacity, values: Values) -> str:
    """The change that would make it fit and costs least: smaller micro-batches, blocks again, parts."""
    for settings in _settings(capacity):
        try:
            other = _laid_out(values, capacity.vocab_size, capacity.devices, capacity.device, **settings)
        except ValueError:  # parts that are not equal
            continue
        if other.fits:
            now = capacity.config.training
            changed = [f"{name}={value}" for name, value in settings.items() if value != getattr(now, name)]
            return f"it would fit with training.{', training.'.join(changed).lower()}"
    return f"nothing makes it fit {capacity.devices} of these devices"


def _settings(capacity: Capacity) -> Iterator[dict[str, Any]]:
    training, devices = capacity.config.training, capacity.devices
    for parts in _divisors(devices, training.model_parallel):
        for rematerialise in sorted({training.rematerialise, True}):
            for accumulation in _divisors(training.batch_size, training.accumulation):
                if training.batch_size // accumulation % (devices // parts) == 0:
                    yield {
                        "model_parallel": parts,
                        "rematerialise": rematerialise,
                        "accumulation": accumulation,
                    }


def _divisors(number: int, least: int) -> list[int]:
    """Those from `least` on, ascending."""
    small = [one for one in range(1, isqrt(number) + 1) if number % one == 0]
    return sorted(one for one in {*small, *(number // one for one in small)} if one >= least)


def describe(capacity: Capacity, utilisation: float) -> list[tuple[str, str]]:
    """Rows of a table: what, how much.

    Raises:
        ValueError: if the utilisation is not in (0, 1], or as for `Capacity.timeline`.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"`mfu` must be in (0, 1], but got mfu={utilisation}.")
    training, timeline = capacity.config.training, capacity.timeline()
    tokens = timeline.tokens_seen(timeline.total_steps)
    total, active = capacity.parameters
    hours = capacity.seconds(utilisation) / 3600
    rows = [
        ("parameters", f"{total / 1e9:,.3f} B, {active / 1e9:,.3f} B of them met by a token"),
        ("tokens", f"{tokens / 1e9:,.2f} B in {timeline.total_steps:,} steps of {timeline.tokens_seen(1):,}"),
        ("steps with the stops' decays", f"{timeline.work:,}"),
        ("training FLOPs a token", f"{capacity.flops_per_token:.4g}"),
        ("training FLOPs", f"{capacity.flops_per_token * timeline.tokens_seen(timeline.work):.4g}"),
        (
            "mesh",
            f"{capacity.data} x {training.model_parallel} (data x model), {capacity.rows} sequences a device "
            f"in each of {training.accumulation} micro-batches",
        ),
    ]
    for rematerialise in (False, True):
        memory = capacity.memory(rematerialise)
        chosen = " (as configured)" if rematerialise == training.rematerialise else ""
        parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in memory._asdict().items() if size)
        label = f"GB a device, blocks {'computed again' if rematerialise else 'kept'}{chosen}"
        rows.append((label, f"{memory.total / 1e9:.1f} of {capacity.device.memory / 1e9:.0f}: {parts}"))
    rows.append(
        (
            f"time at {utilisation:.0%} of the peak",
            f"{hours:,.1f} hours, {hours * capacity.devices:,.0f} device hours",
        )
    )
    return rows
