"""What a run writes to TensorBoard, made up: rows of its log, its best stop, a figure."""

import io

from PIL import Image

from lab.arms import arm_values
from lab.config import RunConfig, make_config
from lab.results import Measured, Stop, Task


def run_config(arm: str, **values) -> RunConfig:
    return make_config({"training": {"total_steps": 100}}, arm_values(arm), values)


def train_row(step: int) -> dict:
    return {
        "kind": "train",
        "step": step,
        "tokens_seen": 2048 * step,
        "epoch": 0.125 * step,
        "train_loss": 5.0 / step,
        "gradient_norm": 1.5,
        "learning_rate": 1e-3,
        "tokens_per_second": 30000.0,
    }


VALUES = {
    **{"nll": 2.5, "nll_standard_error": 0.1, "bits_per_byte": 3.6},
    **{"choice_accuracy": 0.5, "choice_accuracy_standard_error": 0.05},
    **{"option_gap": 0.25, "option_gap_standard_error": 0.02},
    **{"nelbo": 2.75, "nelbo_example_standard_error": 0.03, "nelbo_mask_standard_error": 0.04},
}


def measured_row(step: int, reading: str, split: str = "validation", **values: float | None) -> dict:
    return {
        "kind": "measured",
        "reading": reading,
        "start": step,
        "step": step,
        "tokens_seen": 2048 * step,
        "epoch": 0.125 * step,
        "measured": {
            "key": "k",
            "task": {"measurement": "nll", "split": split},
            "stops": [{"run": "r", "reading": reading, "step": step}],
            "values": VALUES | values,
        },
    }


def stop(validation: dict[str, float], test: dict[str, float]) -> Stop:
    measured = tuple(
        Measured(key=split, task=Task(measurement="nll", split=split), stops=(), values=values)
        for split, values in (("validation", validation), ("test", test))
    )
    place = {"start": 1, "step": 1, "tokens_seen": 2048, "epoch": 0.125, "train_flops": 1.0}
    return Stop(reading="annealed", measured=measured, **place)


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()
