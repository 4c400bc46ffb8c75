"""The typed record of a plan, a run, its stops and what was measured of them: written and read here alone.

A run's `result.json` follows from its `metrics.jsonl` and its kept weights; if it is damaged, the same
command makes it again. What is read here is checked, so that nobody else has to.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lab.ablation import Cell
from lab.config import RunConfig, StopConfig
from lab.files import Row, read_json, write_json
from lab.metrics import NLL
from lab.registration import Registration
from lab.sections import AnySection
from lab.version import Version

SCHEMA = 4
RESULT = "result.json"
PLAN = "plan.json"

# Best first: a stop reached by annealing is what its user would have got by stopping there.
Reading = Literal["annealed", "along_run"]
READINGS: tuple[Reading, ...] = ("annealed", "along_run")
Split = Literal["validation", "test"]
# The best stop, this and the last, or all of the headline reading.
StopChoice = Literal["best", "picked", "every"]
BaselineName = Literal["n-gram", "unigram", "uniform"]


class DamagedError(ValueError):
    """A file is not what the lab writes there: empty, cut, or of another kind."""


class Record(BaseModel):
    """A frozen part of a record; unknown keys and numbers that are none are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_row(self) -> Row:
        """It as plain JSON values; what is empty or not there is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)


AnyRecord = TypeVar("AnyRecord", bound=Record)


class Task(Record):
    """What one measurement is, but for the weights.

    Attributes:
        measurement: its name, as in `lab.evaluation.measurements`.
        split: the held-out text.
        settings: all else that its values depend on.
    """

    measurement: str
    split: Split
    settings: dict[str, Any] = {}


class StopReference(Record):
    """The weights of a stop: the digest of its run's version, and which stop it is."""

    run: str
    reading: Reading
    step: int

    @classmethod
    def to(cls, stop: StopConfig) -> "StopReference":
        """The reference to the weights that a measurement is configured to read."""
        return cls(run=stop.version, reading=stop.reading, step=stop.step)


class Examples(Record):
    """The metric that is averaged, by held-out example, with what errors are clustered by.

    Attributes:
        metric: its key.
        values: of each example, in the metric's unit.
        documents: of each example, the document that it comes from, numbered from 0 in its split.
    """

    metric: str
    values: tuple[float, ...]
    documents: tuple[int, ...]

    @model_validator(mode="after")
    def _one_document_each(self) -> "Examples":
        if len(self.values) != len(self.documents):
            raise ValueError(
                "`values` and `documents` must be equally long, "
                f"but got {len(self.values)} and {len(self.documents)}."
            )
        return self


class Baseline(Record):
    """What a predictor that is not trained gives on the held-out text of a run, from the same unique tokens.

    Attributes:
        name: which.
        settings: the `order` of the n-gram, `max_order`, up to which it was chosen, and the number of
            `tokens` that were counted.
        values: split -> metric -> value.
        examples: split -> NLL by window.
    """

    name: BaselineName
    settings: dict[str, int] = {}
    values: dict[Split, dict[str, float]]
    examples: dict[Split, Examples]


class Text(Record):
    """A sample, and the prompt that it continues."""

    prompt: str
    text: str


class Measured(Record):
    """What one measurement of some weights gave.

    Attributes:
        key: names the weights, the task, the held-out text and the code (`measurements.row_key`).
        task: what was measured.
        stops: of whose weights; the first is the subject, others are what it is measured with.
        values: metric -> value; None where there was nothing to count.
        examples: the values that a mean is taken of.
        texts: samples to be looked at.
        costs: FLOPs that it takes at test time, `flops` as needed and `flops_computed` as made here.
        flops: of measuring it.
    """

    key: str
    task: Task
    stops: tuple[StopReference, ...]
    values: dict[str, float | None]
    examples: Examples | None = None
    texts: tuple[Text, ...] = ()
    costs: dict[str, float] = {}
    flops: float = 0.0


class LogRow(Record):
    """A line of a run's log, and how far the run had come."""

    step: int
    tokens_seen: int
    epoch: float


class TrainRow(LogRow):
    """What training says every `log_steps` updates.

    Attributes:
        train_loss: mean over these updates, nats/token, without the auxiliary loss.
        gradient_norm: of the last of them, before clipping.
        auxiliary_loss: mean of what mixtures of experts add to it; None without them.
        dropped_share: mean share of the tokens for which they had no place; None without them.
    """

    kind: Literal["train"]
    train_loss: float
    gradient_norm: float
    learning_rate: float
    tokens_per_second: float
    auxiliary_loss: float | None = None
    dropped_share: float | None = None


class MeasuredRow(LogRow):
    """One measurement of a stop."""

    kind: Literal["measured"]
    reading: Reading
    start: int
    measured: Measured


class SampleRow(LogRow):
    """A text that the weights of a stop wrote."""

    kind: Literal["sample"]
    reading: Reading
    start: int
    text: str


_RUN_ROW: TypeAdapter[Any] = TypeAdapter(
    Annotated[TrainRow | MeasuredRow | SampleRow, Field(discriminator="kind")]
)


def is_run_row(row: Row) -> bool:
    """Whether a run logs such rows."""
    try:
        _RUN_ROW.validate_python(row)
    except ValidationError:
        return False
    return True


class Stop(Record):
    """A point at which a run is measured.

    Attributes:
        reading: `along_run`, as the main run is there; `annealed`, with the learning rate decayed.
        start: the step of the main run at which its branch begins; the stop itself along the run.
        step: updates that its weights have had.
        tokens_seen: up to there.
        epoch: epochs seen up to there.
        train_flops: FLOPs of these updates.
        measured: all that was measured of it in its run.
    """

    reading: Reading
    start: int
    step: int
    tokens_seen: int
    epoch: float
    train_flops: float
    measured: tuple[Measured, ...]

    def metrics(self, split: Split) -> dict[str, float]:
        """Everything that was measured of it on a split, by metric."""
        rows = (row for row in self.measured if row.task.split == split)
        return {key: value for row in rows for key, value in row.values.items() if value is not None}

    @property
    def validation(self) -> dict[str, float]:
        """What was measured on the validation split."""
        return self.metrics("validation")

    @property
    def test(self) -> dict[str, float]:
        """What was measured on the test split: empty but for the stops that arms are compared at."""
        return self.metrics("test")

    def examples(self, metric: str, split: Split) -> Examples | None:
        """A metric by held-out example; None if it was not measured."""
        measured = (row.examples for row in self.measured if row.task.split == split and row.examples)
        return next((examples for examples in measured if examples.metric == metric), None)


class Process(Record):
    """What a run was computed by and on.

    Attributes:
        backend: of Keras.
        device: its kind.
        devices: number, processes and layout.
        cpu: the processor's name.
        threads: cores that the process could use.
        versions: of Python and packages.
        population: digests of the versions of all runs that one process trained together; empty if it was
            alone.
    """

    backend: str
    device: str
    devices: dict[str, Any] = {}
    cpu: str
    threads: int
    versions: dict[str, str]
    population: tuple[str, ...] = ()


class DataRecord(Record):
    """What a run was trained and measured on.

    Attributes:
        hash: of what it trains on.
        hashes: of each split's content.
        corpus: its name.
        packages: the versions of the packages that it is the source of.
        tokenizer: its name.
        unique_tokens: U, in whole windows.
        windows: of an epoch.
        length: tokens of a window.
        bytes_per_token: over the corpus.
        train_tokens: of the training split, of which `unique_tokens` are a sample.
        documents: held-out split -> documents that windows of this length are drawn of.
        seen_tokens: held-out split -> share of its tokens that the training split holds too, in strings of 32
            bytes (lab/data/overlaps.py).
        seen_windows: held-out split -> share of its windows of which all tokens are; they are left out. None
            is of a corpus that itself says which documents belong together (`Dataset.seen`).
    """

    hash: str
    hashes: dict[str, str]
    corpus: str
    packages: dict[str, str] = {}
    tokenizer: str
    unique_tokens: int
    windows: int
    length: int
    bytes_per_token: float
    train_tokens: int
    documents: dict[str, int]
    seen_tokens: dict[str, float]
    seen_windows: dict[str, float]


class VersionRecord(Record):
    """A run's `Version`."""

    values: dict[str, Any]
    code: str


class Document(Record):
    """A record that is a file of its own, with the schema it has."""

    # A number that is none stays one where it is written, which refuses it; by itself it became null.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        ser_json_inf_nan="constants",
    )

    schema_version: int = Field(default=SCHEMA, alias="schema")


class RunResult(Document):
    """One finished run: one arm at one seed.

    Attributes:
        config: as it was configured.
        version: what its weights follow from.
        evaluation: digest of what was to be measured of it (`measurements.evaluation_digest`).
        train_flops: of all updates, those of the branches included.
        evaluation_flops: of what was measured in the run.
        wall_seconds: of all its attempts.
        parent: the stop that its weights began from; None if they were drawn.
        stops: in the order of their steps.
        baselines: what counting the same unique tokens gives on the same held-out text.
    """

    config: RunConfig
    version: VersionRecord
    evaluation: str
    process: Process
    data: DataRecord
    parameters: int
    train_flops_per_token: float
    forward_flops_per_token: float
    train_flops: float
    evaluation_flops: float
    wall_seconds: float
    parent: StopReference | None = None
    stops: tuple[Stop, ...] = Field(min_length=1)
    baselines: tuple[Baseline, ...] = ()

    @model_validator(mode="after")
    def _judged(self) -> "RunResult":
        if any(NLL not in stop.validation for stop in self.stops):
            raise ValueError(f"every stop must have {NLL!r} on the validation split.")
        if any(NLL not in stop.test for reading in self.readings for stop in self.picked(reading)):
            raise ValueError(f"the best and the last stop must have {NLL!r} on the test split.")
        return self

    def with_rows(self, rows: Iterable[Measured]) -> "RunResult":
        """It with what was measured of its stops after it.

        Args:
            rows: of which a stop takes the first of each measurement that it has none of.
        """
        rows = list(rows)
        stops = []
        for stop in self.stops:
            own = {
                (row.task.measurement, row.task.split): row
                for row in reversed(rows)
                if row.stops[0] == self.reference(stop)
            }
            had = {(row.task.measurement, row.task.split) for row in stop.measured}
            more = [row for name, row in own.items() if name not in had]
            stops.append(stop.model_copy(update={"measured": (*stop.measured, *more)}))
        return self.model_copy(update={"stops": tuple(stops)})

    @property
    def run(self) -> str:
        """The digest of its version."""
        return Version(self.version.values, self.version.code).digest()

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The readings of its stops, the headline first."""
        return order_readings(stop.reading for stop in self.stops)

    @property
    def headline(self) -> Reading:
        """The reading that arms are compared by: annealed where it was measured."""
        return self.readings[0]

    def along(self, reading: Reading) -> tuple[Stop, ...]:
        """The stops under one reading, in order of tokens seen."""
        return stops_along(self.stops, reading)

    def best(self, reading: Reading | None = None) -> Stop:
        """The stop with the lowest validation NLL, the first of equals; by the headline if none is named."""
        return best_stop(self.along(reading or self.headline))

    def end(self, reading: Reading | None = None) -> Stop:
        """The last stop."""
        return self.along(reading or self.headline)[-1]

    def picked(self, reading: Reading) -> tuple[Stop, Stop]:
        """The stops that arms are compared at on the test split: the best and the last."""
        return self.best(reading), self.end(reading)

    def reference(self, stop: Stop) -> StopReference:
        """A name for the weights of one of its stops."""
        return StopReference(run=self.run, reading=stop.reading, step=stop.step)


class MeasurementResult(Document):
    """What was measured of a finished run after it.

    Attributes:
        measurement: name of the set of tasks.
        wanted: digest of the keys of all rows that were asked for.
        code: digest of the code that measures.
        stops: of whose weights: the subject's, the best first, and after them what it is measured with.
        tokens_seen: up to the subject's best stop.
        epoch: of the subject's best stop.
        rows: in the order in which they were asked for, stop by stop.
    """

    measurement: str
    wanted: str
    code: str
    stops: tuple[StopReference, ...] = Field(min_length=1)
    tokens_seen: int
    epoch: float
    process: Process
    wall_seconds: float
    rows: tuple[Measured, ...]


class Registered(Record):
    """The rule by which a tree's primary contrasts are decided, and whether it came before the results.

    Attributes:
        rule: with its metric and every level by name (`Registration.at_levels`).
        hash: its digest.
        after_results: whether the tree had results already when its first rule came.
        first: the tree's first rule, where this is another, planned when results were there; else None.
    """

    rule: Registration
    hash: str
    after_results: bool = False
    first: Registration | None = None


class PlanRecord(Document):
    """What a result tree is to hold, and how it is to be read.

    Attributes:
        ablation: its name; `question`, `paper`, `metric`, `expected`, `arms`, `ensembles`, `sections` and
            `measurements` are as it declares them.
        strong: arm -> what it runs with because the preset found it to be best; the other arms share values.
        preset: the name of the preset.
        command: what to type for the same plan.
        tuning: how arms are tuned; None if they are not.
        registration: what is to be decided; None if nothing was registered.
        auto: whether seeds are added, look by look, while a primary contrast is undecided.
        left_out: which files of the text were not read, in words.
        cells: every run, in starting order; where seeds are added, those of the look that was reached.
    """

    ablation: str
    preset: str
    question: str
    paper: str
    metric: str
    expected: str
    arms: tuple[str, ...]
    ensembles: dict[str, str] = {}
    strong: dict[str, dict[str, Any]] = {}
    sections: tuple[AnySection, ...]
    measurements: dict[str, str] = {}
    command: str
    tuning: dict[str, Any] | None = None
    registration: Registered | None = None
    auto: bool = False
    left_out: str = ""
    cells: tuple[Cell, ...]


def measurement_folder(logdir: str, measurement: str) -> str:
    """Where a run's measurement after it lies in the tree: `measurements/<name>/<arm>/...`.

    Args:
        logdir: the run's, below the result tree.
        measurement: name of the set of tasks.
    """
    return f"measurements/{measurement}/{logdir.removeprefix('runs/')}"


def order_readings(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """The readings that stops have, the headline first."""
    held = set(readings)
    return tuple(reading for reading in READINGS if reading in held)


def stops_of(result: RunResult, run: Path, folder: Path, choice: StopChoice = "best") -> list[StopConfig]:
    """How a measurement names stops of a finished run, the best first.

    Args:
        result: the run's.
        run: its folder.
        folder: the measurement's.
        choice: which stops.
    """
    chosen = {
        "best": (result.best(),),
        "picked": result.picked(result.headline),
        "every": (result.best(), *result.along(result.headline)),
    }[choice]
    return [
        StopConfig(
            # `..` leads out of what a symbolic link leads to.
            run=Path(os.path.relpath(os.path.realpath(run), os.path.realpath(folder))).as_posix(),
            version=result.run,
            reading=stop.reading,
            step=stop.step,
            tokens_seen=stop.tokens_seen,
            epoch=stop.epoch,
        )
        for stop in {stop.step: stop for stop in chosen}.values()
    ]


def stops_along(stops: Sequence[Stop], reading: Reading) -> tuple[Stop, ...]:
    """The stops under one reading, in order of tokens seen."""
    return tuple(sorted((stop for stop in stops if stop.reading == reading), key=lambda stop: stop.step))


def best_stop(stops: Sequence[Stop]) -> Stop:
    """The stop with the lowest validation NLL, the first of equals."""
    return min(stops, key=lambda stop: stop.validation[NLL])


def parse_record(kind: type[AnyRecord], value: Any, path: Path) -> AnyRecord:
    """A record from its plain values.

    Raises:
        DamagedError: naming the file, and the first key that is not as the lab writes it.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the whole"
        raise DamagedError(f"{path}: not what the lab writes there ({where}: {problem['msg']}).") from None


def read_record(kind: type[AnyRecord], path: Path) -> AnyRecord | None:
    """A record from its file; None if there is none.

    Raises:
        DamagedError: naming the file, if it is empty, cut, of another schema or otherwise not as written.
    """
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except ValueError as error:
        raise DamagedError(str(error)) from None
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise DamagedError(f"{path}: `schema` must be {SCHEMA}, but got {content['schema']}.")
    return parse_record(kind, content, path)


def write_record(path: Path, record: Document) -> None:
    """Write a record atomically."""
    write_json(path, record.model_dump(mode="json", by_alias=True, exclude_none=True))


def read_result(logdir: Path) -> RunResult | None:
    """The result of a run's folder; None if it has none.

    Raises:
        DamagedError: if the file is not what the lab writes.
    """
    return read_record(RunResult, logdir / RESULT)
