import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from lab.tracking.records import MetricsLog
from lab.tracking.tensorboard import RunBoard


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


def events_of(folder: Path) -> list:
    files = list(folder.iterdir())
    assert len(files) == 1
    return list(EventFileLoader(str(files[0])).Load())


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events_of(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


def texts_of(folder: Path) -> list[str]:
    values = [value for event in events_of(folder) for value in event.summary.value]
    return [
        value.tensor.string_val[0].decode()
        for value in values
        if value.metadata.plugin_data.plugin_name == "text"
    ]


def test_a_stale_handle_is_an_error_with_the_path(tmp_path, stale):
    message = rf"Stale file handle: '{tmp_path}/.*tfevents"
    with RunBoard(tmp_path, []) as board, stale("by_epochs"), pytest.raises(OSError, match=message):
        board.write(train_row(8))


def test_every_scalar_stands_against_tokens_and_against_epochs(tmp_path):
    with RunBoard(tmp_path, []) as board:
        for step in (8, 16):
            board.write(train_row(step))
        board.write(measured_row(16, "annealed"))
    by_tokens = scalars_of(tmp_path / "tensorboard" / "by_tokens")
    by_epochs = scalars_of(tmp_path / "tensorboard" / "by_epochs_x100")
    assert by_tokens["train/train_loss_nats_per_token"] == [
        (16384, pytest.approx(0.625)),
        (32768, pytest.approx(0.3125)),
    ]
    assert by_epochs["train/train_loss_nats_per_token"] == [
        (100, pytest.approx(0.625)),
        (200, pytest.approx(0.3125)),
    ]
    assert by_epochs["validation/annealed/nelbo_bound_nats_per_token"] == [(200, 2.75)]
    assert set(by_tokens) == set(by_epochs)
    assert {"train/gradient_norm", "train/learning_rate", "train/tokens_per_second"} < set(by_tokens)
    assert {"validation/annealed/choice_accuracy", "validation/annealed/bits_per_byte"} < set(by_tokens)


def test_tags_are_those_of_the_declared_metrics(tmp_path):
    """What a run is plotted under stays: these are the names that it always had, but for the loss's."""
    rows = [train_row(1), measured_row(1, "annealed"), measured_row(1, "along_run", "test", unknown=1.0)]
    with RunBoard(tmp_path, rows):
        pass
    measured = {
        *("nll_nats_per_token", "nll_standard_error_nats_per_token", "bits_per_byte"),
        *("choice_accuracy", "choice_accuracy_standard_error"),
        *("option_gap_nats_per_token", "option_gap_standard_error_nats_per_token"),
        *("nelbo_bound_nats_per_token", "nelbo_example_standard_error_nats_per_token"),
        "nelbo_mask_standard_error_nats_per_token",
    }
    train = {"train_loss_nats_per_token", "gradient_norm", "learning_rate", "tokens_per_second"}
    assert set(scalars_of(tmp_path / "tensorboard" / "by_tokens")) == {
        *(f"train/{name}" for name in train),
        *(f"validation/annealed/{name}" for name in measured),
        *(f"test/along_run/{name}" for name in measured),
    }


def test_a_metric_that_an_arm_lacks_is_absent_rather_than_zero(tmp_path):
    row = measured_row(8, "along_run", nelbo=None)
    del row["measured"]["values"]["bits_per_byte"]
    with RunBoard(tmp_path, [row, train_row(8) | {"train_loss": None}]):
        pass
    tags = set(scalars_of(tmp_path / "tensorboard" / "by_tokens"))
    assert "validation/along_run/nll_nats_per_token" in tags
    absent = {"nelbo_bound_nats_per_token", "bits_per_byte"}
    assert (
        not {*(f"validation/along_run/{name}" for name in absent), "train/train_loss_nats_per_token"} & tags
    )


def test_a_resumed_run_neither_doubles_nor_loses_a_point(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    board = RunBoard(tmp_path, log.rows)
    for step in (1, 2, 3, 4):
        log.append(train_row(step))
        board.write(log.rows[-1])
    board.flush()
    board._by_tokens._file.write(b"\x10torn")  # killed in the midst of a record
    board.close()

    with RunBoard(tmp_path, log.rows[:2]) as resumed:  # the log is behind the events
        for step in (3, 4, 5):
            resumed.write(train_row(step))
    for folder, unit in (("by_tokens", 2048.0), ("by_epochs_x100", 12.5)):
        points = scalars_of(tmp_path / "tensorboard" / folder)["train/train_loss_nats_per_token"]
        assert [step for step, _ in points] == [round(unit * step) for step in (1, 2, 3, 4, 5)]


def test_a_watching_tensorboard_forgets_the_points_it_had(tmp_path):
    folder = tmp_path / "tensorboard" / "by_tokens"
    with RunBoard(tmp_path, [train_row(step) for step in (1, 2, 3, 4)]):
        pass
    watcher = EventAccumulator(str(folder))
    watcher.Reload()
    with RunBoard(tmp_path, [train_row(step) for step in (1, 2)]):
        pass
    watcher.Reload()
    steps = [point.step for point in watcher.Tensors("train/train_loss_nats_per_token")]
    assert steps == [2048, 4096]


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_samples_keep_their_letters_and_cannot_speak_markdown(tmp_path):
    sample = {"kind": "sample", "step": 8, "tokens_seen": 64, "epoch": 1.0, "text": "# a\n<b>&\ud800\n\n*c*"}
    with RunBoard(tmp_path, [sample]):
        pass
    (text,) = texts_of(tmp_path / "tensorboard" / "by_epochs_x100")
    assert text == "    # a\n    <b>&?\n    \n    *c*"
    assert texts_of(tmp_path / "tensorboard" / "by_tokens") == [text]

    from tensorboard import plugin_util

    shown = plugin_util.markdown_to_safe_html(text)
    assert "<code>" in shown
    assert "&lt;b&gt;&amp;" in shown
    assert "<h1>" not in shown


def test_an_unknown_kind_is_refused(tmp_path):
    with RunBoard(tmp_path, []) as board, pytest.raises(ValueError, match=r"`kind` must be .* kind='other'"):
        board.write({"kind": "other"})


def test_tensorflow_and_keras_are_never_imported(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys
        from importlib.util import find_spec
        from pathlib import Path
        from lab.tracking.tensorboard import RunBoard
        assert find_spec("tensorflow")
        with RunBoard(Path({str(tmp_path)!r}), [{train_row(1)!r}, {measured_row(1, "annealed")!r}]) as board:
            board.text("sample", "hello", 2048, 0.125)
        assert not {{"tensorflow", "keras", "jax", "torch"}} & set(sys.modules)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)
