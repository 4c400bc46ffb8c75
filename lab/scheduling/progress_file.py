"""How far a run or a measurement has come, as its `progress.json` says while it is at work."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

FILE = "progress.json"


class Progress(BaseModel):
    """What `progress.json` says.

    Attributes:
        share: of the work, 0 to 1.
        phase: what it is at; `done` once its result is written.
        updated: when this was written, unix seconds.
        seconds: that all attempts took so far.
        pace_seconds: that the whole takes at this attempt's pace; None while that is not known.
        epoch: epochs seen, of a run.
        total_epochs: that it will see; 0 of a measurement.
        tokens_per_second: of training.
        train_loss: nats/token; None before the first report.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    share: float
    phase: str = ""
    updated: float = 0.0
    seconds: float = 0.0
    pace_seconds: float | None = None
    epoch: float = 0.0
    total_epochs: float = 0.0
    tokens_per_second: float = 0.0
    train_loss: float | None = None


def read_progress(logdir: Path) -> Progress | None:
    """What a folder says; None if it says nothing, or nothing that can be read."""
    try:
        return Progress.model_validate_json((logdir / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
