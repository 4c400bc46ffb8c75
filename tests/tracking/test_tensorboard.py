import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from board_rows import measured_row, png, run_config, stop, train_row
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from lab.tracking.records import MetricsLog
from lab.tracking.tensorboard import RunBoard, hparams_of, write_report_board

CONFIG = run_config("dlm")


def events_of(folder: Path) -> list:
    (file,) = folder.glob("*tfevents*")
    return list(EventFileLoader(str(file)).Load())


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events_of(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


def texts_of(folder: Path) -> dict[str, str]:
    values = [value for event in events_of(folder) for value in event.summary.value]
    return {
        value.tag: value.tensor.string_val[0].decode()
        for value in values
        if value.metadata.plugin_data.plugin_name == "text"
    }


def test_a_stale_handle_is_an_error_with_the_path(tmp_path, stale):
    message = rf"Stale file handle: '{tmp_path}/.*tfevents"
    with RunBoard(tmp_path, CONFIG, []) as board, stale("tfevents"), pytest.raises(OSError, match=message):
        board.write(train_row(8))


def test_every_scalar_stands_against_tokens_and_against_epochs(tmp_path):
    with RunBoard(tmp_path, CONFIG, []) as board:
        for step in (8, 16):
            board.write(train_row(step))
        board.write(measured_row(16, "annealed"))
    scalars = scalars_of(tmp_path)
    losses = pytest.approx(0.625), pytest.approx(0.3125)
    assert scalars["train/train_loss_nats_per_token"] == [*zip((16384, 32768), losses, strict=True)]
    assert scalars["by_epoch_x100/train/train_loss_nats_per_token"] == [*zip((100, 200), losses, strict=True)]
    assert scalars["by_epoch_x100/validation/annealed/nelbo_bound_nats_per_token"] == [(200, 2.75)]
    by_epoch = {tag.removeprefix("by_epoch_x100/") for tag in scalars if tag.startswith("by_epoch_x100/")}
    assert by_epoch == {tag for tag in scalars if not tag.startswith("by_epoch_x100/")}


def test_tags_are_those_of_the_declared_metrics(tmp_path):
    """What a run is plotted under stays: these are the names that it always had, but for the loss's."""
    rows = [train_row(1), measured_row(1, "annealed"), measured_row(1, "along_run", "test", unknown=1.0)]
    with RunBoard(tmp_path, CONFIG, rows):
        pass
    measured = {
        *("nll_nats_per_token", "nll_standard_error_nats_per_token", "bits_per_byte"),
        *("choice_accuracy", "choice_accuracy_standard_error"),
        *("option_gap_nats_per_token", "option_gap_standard_error_nats_per_token"),
        *("nelbo_bound_nats_per_token", "nelbo_example_standard_error_nats_per_token"),
        "nelbo_mask_standard_error_nats_per_token",
    }
    train = {"train_loss_nats_per_token", "gradient_norm", "learning_rate", "tokens_per_second"}
    assert {tag for tag in scalars_of(tmp_path) if not tag.startswith("by_epoch_x100/")} == {
        *(f"train/{name}" for name in train),
        *(f"validation/annealed/{name}" for name in measured),
        *(f"test/along_run/{name}" for name in measured),
    }


def test_a_metric_that_an_arm_lacks_is_absent_rather_than_zero(tmp_path):
    row = measured_row(8, "along_run", nelbo=None)
    del row["measured"]["values"]["bits_per_byte"]
    with RunBoard(tmp_path, CONFIG, [row, train_row(8) | {"train_loss": None}]) as board:
        board.finish(stop({"nll": 2.5}, {"nll": 2.25}))
    tags = set(scalars_of(tmp_path))
    assert {"validation/along_run/nll_nats_per_token", "best/test/nll_nats_per_token"} < tags
    assert not [tag for tag in tags if tag.endswith(("nelbo_bound_nats_per_token", "bits_per_byte"))]
    assert "train/train_loss_nats_per_token" not in tags


def test_a_resumed_run_neither_doubles_nor_loses_a_point(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    board = RunBoard(tmp_path, CONFIG, log.rows)
    for step in (1, 2, 3, 4):
        log.append(train_row(step))
        board.write(log.rows[-1])
    board.flush()
    board._file._file.write(b"\x10torn")  # killed in the midst of a record
    board.close()

    with RunBoard(tmp_path, CONFIG, log.rows[:2]) as resumed:  # the log is behind the events
        for step in (3, 4, 5):
            resumed.write(train_row(step))
    for tag, unit in (("", 2048.0), ("by_epoch_x100/", 12.5)):
        points = scalars_of(tmp_path)[f"{tag}train/train_loss_nats_per_token"]
        assert [step for step, _ in points] == [round(unit * step) for step in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("logged", [0, 2, 4])
def test_the_points_of_a_stop_that_was_added_stand_in_their_place(tmp_path, logged):
    rows = [measured_row(step, "annealed") for step in (4, 8, 2, 6)]
    with RunBoard(tmp_path, CONFIG, rows[:logged]) as board:
        for row in rows[logged:]:
            board.write(row)
    points = scalars_of(tmp_path)["validation/annealed/nll_nats_per_token"]
    assert [step for step, _ in points] == [2048 * step for step in (2, 4, 6, 8)]


def test_a_watching_tensorboard_forgets_the_points_it_had(tmp_path):
    with RunBoard(tmp_path, CONFIG, [train_row(step) for step in (1, 2, 3, 4)]):
        pass
    watcher = EventAccumulator(str(tmp_path))
    watcher.Reload()
    with RunBoard(tmp_path, CONFIG, [train_row(step) for step in (1, 2)]):
        pass
    watcher.Reload()
    steps = [point.step for point in watcher.Tensors("train/train_loss_nats_per_token")]
    assert steps == [2048, 4096]


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_samples_keep_their_letters_and_cannot_speak_markdown(tmp_path):
    sample = {"kind": "sample", "step": 8, "tokens_seen": 64, "epoch": 1.0, "text": "# a\n<b>&\ud800\n\n*c*"}
    with RunBoard(tmp_path, CONFIG, [sample]):
        pass
    text = texts_of(tmp_path)["sample"]
    assert text == "    # a\n    <b>&?\n    \n    *c*"

    from tensorboard import plugin_util

    shown = plugin_util.markdown_to_safe_html(text)
    assert "<code>" in shown
    assert "&lt;b&gt;&amp;" in shown
    assert "<h1>" not in shown


def test_the_configuration_is_a_text(tmp_path):
    with RunBoard(tmp_path, CONFIG, []):
        pass
    assert textwrap.dedent(texts_of(tmp_path)["config"]) + "\n" == CONFIG.to_yaml()


def test_hyperparameters_are_those_that_decide_the_weights_and_the_same_of_every_arm():
    ar, dlm = hparams_of(run_config("ar")), hparams_of(run_config("dlm", seed=3))
    assert ar.keys() == dlm.keys() >= {"arm", "seed", *CONFIG.keyed_values()}
    assert not {"training.log_steps", "training.total_epochs", "data.paths"} & ar.keys()
    differing = {key: value for key, value in dlm.items() if value != ar[key]}
    assert differing == {"arm": "dlm", "factors.order": "any", "factors.compute": "dense", "seed": 3}
    assert (dlm["factors.draws"], dlm["factors.input_noise"], dlm["model.mlp_dropout"]) == (
        "inf",
        "none",
        0.0,
    )
    assert hparams_of(run_config("dlm_frozen"))["factors.draws"] == "1"


def sessions_of(folder):
    """Of the last of each kind that the file holds."""
    contents = {
        value.tag: value.metadata.plugin_data.content
        for event in events_of(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME
    }
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    end = contents.get(metadata.SESSION_END_INFO_TAG)
    return start, end and metadata.parse_session_end_info_plugin_data(end)


def test_a_finished_run_is_a_session_with_the_metrics_of_its_best_stop(tmp_path):
    with RunBoard(tmp_path, CONFIG, [train_row(1)]) as board:
        assert sessions_of(tmp_path)[1] is None
        board.finish(stop({"nll": 2.5, "nelbo": 2.75, "nll_standard_error": 0.1}, {"nll": 2.25}))
    start, end = sessions_of(tmp_path)
    assert start.hparams["arm"].string_value == "dlm"
    assert start.hparams["training.learning_rate"].number_value == CONFIG.training.learning_rate
    assert start.hparams["model.tie_embeddings"].bool_value is True
    assert set(start.hparams) == set(hparams_of(CONFIG))
    assert end.status == api_pb2.STATUS_SUCCESS
    assert {tag: points for tag, points in scalars_of(tmp_path).items() if tag.startswith("best/")} == {
        "best/validation/nll_nats_per_token": [(2048, 2.5)],
        "best/validation/nelbo_bound_nats_per_token": [(2048, 2.75)],
        "best/test/nll_nats_per_token": [(2048, 2.25)],
    }


@pytest.mark.parametrize(("error", "status"), [(ValueError, api_pb2.STATUS_FAILURE), (OSError, None)])
def test_a_run_that_diverges_has_failed_and_one_that_is_tried_again_has_not(tmp_path, error, status):
    with pytest.raises(error), RunBoard(tmp_path, CONFIG, []):
        raise error
    _, end = sessions_of(tmp_path)
    assert status == (end and end.status)


def test_a_report_is_one_file_of_figures_and_texts(tmp_path):
    for verdict in ("*old*", "**new**"):
        write_report_board(tmp_path, {"curves": png(3, 2)}, {"verdict": verdict})
    (image,) = (v for e in events_of(tmp_path) for v in e.summary.value if v.tag == "curves")
    assert image.metadata.plugin_data.plugin_name == "images"
    assert list(image.tensor.string_val) == [b"3", b"2", png(3, 2)]
    assert texts_of(tmp_path) == {"verdict": "**new**"}


def test_a_report_takes_pngs_and_names_each_once(tmp_path):
    with pytest.raises(ValueError, match=r"the image 'curves' must be a PNG, but got bytes .* b'<svg>'"):
        write_report_board(tmp_path, {"curves": b"<svg>"}, {})
    with pytest.raises(ValueError, match=r"`images` and `texts` must have different names.* \['curves'\]"):
        write_report_board(tmp_path, {"curves": png(1, 1)}, {"curves": ""})
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_refused(tmp_path):
    message = r"`kind` must be .* kind='other'"
    with RunBoard(tmp_path, CONFIG, []) as board, pytest.raises(ValueError, match=message):
        board.write({"kind": "other"})


def test_tensorflow_and_keras_are_never_imported(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys
        from importlib.util import find_spec
        from pathlib import Path
        from lab.config import make_config
        from lab.tracking.tensorboard import RunBoard, write_report_board
        assert find_spec("tensorflow")
        config = make_config({{"training": {{"total_steps": 1}}}})
        with RunBoard(Path("run"), config, [{train_row(1)!r}, {measured_row(1, "annealed")!r}]):
            pass
        write_report_board(Path("report"), {{"curves": {png(1, 1)!r}}}, {{"verdict": "none"}})
        assert not {{"tensorflow", "keras", "jax", "torch"}} & set(sys.modules)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
