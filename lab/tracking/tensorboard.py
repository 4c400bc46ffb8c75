"""A run's TensorBoard events, written without TensorFlow.

`tensorboard.summary` and `EventFileWriter` open files through TensorFlow wherever it is installed, which
costs seconds; the record format and the protocol buffers beneath them need none of it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2, types_pb2
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from lab.files import naming
from lab.metrics import METRICS

# TensorBoard's steps are whole numbers, so an epoch counts as a hundred of them.
STEPS_PER_EPOCH = 100


class RunBoard:
    """Every scalar of a run against tokens seen and against epochs, and its text samples.

    Two folders of events hold the same tags: `tensorboard/by_tokens` (step = tokens seen) and
    `tensorboard/by_epochs_x100` (step = 100 x epoch). Both are written anew from the rows that the run's
    `metrics.jsonl` holds at its start, so a resumed run neither doubles nor loses a point.

    Args:
        logdir: the run's folder.
        rows: the rows of `metrics.jsonl` so far, oldest first.
    """

    def __init__(self, logdir: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        self._by_tokens = _EventFile(logdir / "tensorboard" / "by_tokens")
        self._by_epochs = _EventFile(logdir / "tensorboard" / "by_epochs_x100")
        for row in rows:
            self.write(row)
        self.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row of `metrics.jsonl`: kind train, measured or sample.

        Raises:
            ValueError: if the row is of another kind.
        """
        kind = row["kind"]
        if kind == "train":
            scalars = {f"train/{tag}": value for tag, value in _tagged(row)}
        elif kind == "measured":
            prefix = f"{row['measured']['task']['split']}/{row['reading']}"
            scalars = {f"{prefix}/{tag}": value for tag, value in _tagged(row["measured"]["values"])}
        elif kind == "sample":
            self.text("sample", row["text"], row["tokens_seen"], row["epoch"])
            return
        else:
            raise ValueError(f"`kind` must be train, measured or sample, but got kind={kind!r}.")
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._add(values, row["tokens_seen"], row["epoch"])

    def text(self, tag: str, text: str, tokens_seen: int, epoch: float) -> None:
        """Write a text sample, to be shown as it is: in Markdown an indented block is plain text."""
        block = "\n".join(f"    {line}" for line in text.splitlines())
        value = summary_pb2.Summary.Value(
            tag=tag,
            metadata=create_summary_metadata(display_name="", description=""),
            tensor=TensorProto(
                dtype=types_pb2.DT_STRING,
                tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
                string_val=[block.encode("utf-8", "replace")],
            ),
        )
        self._add([value], tokens_seen, epoch)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._by_tokens.flush()
        self._by_epochs.flush()

    def close(self) -> None:
        """Flush and close the event files."""
        self._by_tokens.close()
        self._by_epochs.close()

    def __enter__(self) -> "RunBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, values: list[Any], tokens_seen: int, epoch: float) -> None:
        summary = summary_pb2.Summary(value=values)
        self._by_tokens.add(event_pb2.Event(step=int(tokens_seen), summary=summary))
        self._by_epochs.add(event_pb2.Event(step=round(epoch * STEPS_PER_EPOCH), summary=summary))


def _tagged(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every metric of a row that is declared, and its standard errors, under their names in TensorBoard."""
    for metric in METRICS.values():
        tags = {metric.key: metric.tag, **{error: metric.error_tag(error) for error in metric.errors}}
        yield from ((tag, float(values[key])) for key, tag in tags.items() if values.get(key) is not None)


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
        self.add(event_pb2.Event(file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self.add(event_pb2.Event(step=0, session_log=start))

    def add(self, event: Any) -> None:
        event.wall_time = time.time()
        with naming(self._path):
            self._records.write(event.SerializeToString())

    def flush(self) -> None:
        with naming(self._path):
            self._file.flush()

    def close(self) -> None:
        with naming(self._path):
            self._file.close()
