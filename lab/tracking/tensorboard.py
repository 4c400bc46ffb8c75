"""Events for TensorBoard, written without TensorFlow.

`tensorboard.summary` and `EventFileWriter` open files through TensorFlow wherever it is installed, which
costs seconds, as does `tensorboard.plugins.hparams.summary`; the record format and the protocol buffers
beneath them need none of it.
"""

import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf.json_format import ParseDict
from tensorboard.compat.proto import event_pb2, summary_pb2, types_pb2
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from lab.config import RunConfig, Unkeyed
from lab.files import naming
from lab.metrics import METRICS
from lab.results import Stop

# TensorBoard's steps are whole numbers, so an epoch counts as a hundred of them.
STEPS_PER_EPOCH = 100
BY_EPOCH = "by_epoch_x100"


class RunBoard:
    """A run's event file, in its folder, so that its name in TensorBoard is short.

    The step of a scalar is the number of tokens seen; below `by_epoch_x100/` each stands once more, with
    step = 100 x epoch. Beside them are text samples, the configuration, and what the table of HParams shows.
    The file is written anew from the rows that the run's `metrics.jsonl` holds at its start, so a resumed run
    neither doubles nor loses a point.

    Args:
        logdir: the run's folder.
        config: the run's configuration.
        rows: the rows of `metrics.jsonl` so far.
    """

    def __init__(self, logdir: Path, config: RunConfig, rows: Iterable[Mapping[str, Any]]) -> None:
        self._logdir, self._config, self._rows = logdir, config, list(rows)
        self._begin()

    def _begin(self) -> None:
        """Write the file anew, its rows in the order of the tokens seen."""
        self._file = _EventFile(self._logdir)
        self._reached: dict[str, int] = {}
        facts = {"hparams": hparams_of(self._config), "start_time_secs": time.time()}
        start = ParseDict(facts, plugin_data_pb2.SessionStartInfo())
        session = _session(hparams_metadata.SESSION_START_INFO_TAG, session_start_info=start)
        self._file.add(0, session, _text("config", _verbatim(self._config.to_yaml())))
        for row in sorted(self._rows, key=lambda row: row["tokens_seen"]):
            self._add(row, _values_of(row))
        self.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row of `metrics.jsonl`: kind train, measured or sample.

        Raises:
            ValueError: if the row is of another kind.
        """
        values = _values_of(row)
        self._rows.append(row)
        if any(row["tokens_seen"] < self._reached.get(tag, 0) for tag in values):  # of a stop that was added
            self._file.close()
            self._begin()  # in order, since TensorBoard forgets the points beyond one that comes late
        else:
            self._add(row, values)

    def _add(self, row: Mapping[str, Any], values: Mapping[str, float | str]) -> None:
        for tag, value in values.items():
            self._reached[tag] = row["tokens_seen"]
            if isinstance(value, str):
                self._file.add(row["tokens_seen"], _text(tag, _verbatim(value)))
            else:
                self._file.add(row["tokens_seen"], _scalar(tag, value))
                self._file.add(round(row["epoch"] * STEPS_PER_EPOCH), _scalar(f"{BY_EPOCH}/{tag}", value))

    def finish(self, best: Stop) -> None:
        """Write what the table of HParams shows of a finished run.

        Args:
            best: the stop that it is compared by; its metrics become `best/<split>/...`.
        """
        for split, values in (("validation", best.validation), ("test", best.test)):
            for key, metric in METRICS.items():
                if key in values:
                    self._file.add(best.tokens_seen, _scalar(f"best/{split}/{metric.tag}", values[key]))
        self._end(api_pb2.STATUS_SUCCESS)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._file.close()

    def __enter__(self) -> "RunBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ValueError):  # it diverged; after anything else another attempt goes on
            self._end(api_pb2.STATUS_FAILURE)
        self.close()

    def _end(self, status: int) -> None:
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._file.add(0, _session(hparams_metadata.SESSION_END_INFO_TAG, session_end_info=end))


def write_report_board(folder: Path, images: Mapping[str, bytes], texts: Mapping[str, str]) -> None:
    """Write one event file with a report's figures and texts; an older one is replaced.

    Args:
        folder: where; its name is that of the run in TensorBoard.
        images: name -> PNG.
        texts: name -> Markdown.

    Raises:
        ValueError: if an image is no PNG, or a text has its name; nothing is written then.
    """
    if both := sorted(images.keys() & texts.keys()):
        raise ValueError(f"`images` and `texts` must have different names, but both have {both}.")
    values = [*map(_image, images, images.values()), *map(_text, texts, texts.values())]
    file = _EventFile(folder)
    file.add(0, *values)
    file.close()


def hparams_of(config: RunConfig) -> dict[str, bool | float | str]:
    """What the table of HParams shows of a run: dotted key -> value; what is not set is left out.

    A neutral value stays: TensorBoard would take a value that only some runs have for one that all have.
    """
    settings = {
        f"{name}.{key}": value
        for name in ("data", "model", "factors", "training")
        for key, value in getattr(config, name).model_dump(mode="json", exclude_none=True).items()
        if Unkeyed() not in type(getattr(config, name)).model_fields[key].metadata
    }
    named = {"arm": config.arm, "data.corpus": config.data.corpus, "model.size": config.model.size}
    # Numbers beside the word `inf` make a column of texts, whose filter drops the numbers.
    return {**named, **settings, "factors.draws": str(config.factors.draws), "seed": config.seed}


def _values_of(row: Mapping[str, Any]) -> dict[str, float | str]:
    """What TensorBoard shows of a row of `metrics.jsonl`: tag -> number, or text.

    Raises:
        ValueError: if its kind is not train, measured or sample.
    """
    kind = row["kind"]
    if kind == "train":
        return {f"train/{tag}": value for tag, value in _tagged(row)}
    if kind == "measured":
        prefix = f"{row['measured']['task']['split']}/{row['reading']}"
        return {f"{prefix}/{tag}": value for tag, value in _tagged(row["measured"]["values"])}
    if kind == "sample":
        return {"sample": row["text"]}
    raise ValueError(f"`kind` must be train, measured or sample, but got kind={kind!r}.")


def _tagged(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every metric of a row that is declared, and its standard errors, under their names in TensorBoard."""
    for metric in METRICS.values():
        tags = {metric.key: metric.tag, **{error: metric.error_tag(error) for error in metric.errors}}
        yield from ((tag, float(values[key])) for key, tag in tags.items() if values.get(key) is not None)


def _scalar(tag: str, value: float) -> Any:
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def _text(tag: str, markdown: str) -> Any:
    metadata = text_metadata.create_summary_metadata(display_name="", description="")
    return _strings(tag, metadata, [markdown.encode("utf-8", "replace")])


def _verbatim(text: str) -> str:
    """A text as Markdown that shows it as it is: an indented block."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _image(tag: str, png: bytes) -> Any:
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR":
        raise ValueError(f"the image {tag!r} must be a PNG, but got bytes that begin with {png[:16]!r}.")
    width, height = struct.unpack(">II", png[16:24])
    metadata = image_metadata.create_summary_metadata(display_name="", description="")
    return _strings(tag, metadata, [str(width).encode(), str(height).encode(), png])


def _strings(tag: str, metadata: Any, values: list[bytes]) -> Any:
    tensor = TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(values))]),
        string_val=values,
    )
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _session(tag: str, **information: Any) -> Any:
    metadata = hparams_metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**information))
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=hparams_metadata.NULL_TENSOR)


class _EventFile:
    """The one event file of a folder; any older one is removed.

    The name carries the time because a TensorBoard that already watches the folder reads on only into names
    that sort later; the START record tells it to forget the points it had.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._path = folder / f"events.out.tfevents.{time.time_ns():020d}"
        self._file = self._path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(event_pb2.Event(file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(step=0, session_log=start))

    def add(self, step: int, *values: Any) -> None:
        """Write values of one step."""
        self._write(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values)))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        with naming(self._path):
            self._records.write(event.SerializeToString())

    def flush(self) -> None:
        with naming(self._path):
            self._file.flush()

    def close(self) -> None:
        with naming(self._path):
            self._file.close()
