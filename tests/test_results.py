import json

import pytest
from result_bench import PROCESS, measured, result, stop

from lab.ablation import Cell
from lab.config import make_config
from lab.results import (
    PLAN,
    RESULT,
    Baseline,
    DamagedError,
    Examples,
    MeasurementResult,
    PlanRecord,
    RunResult,
    StopReference,
    TrainRow,
    is_run_row,
    measurement_folder,
    parse_record,
    read_record,
    read_result,
    stops_of,
    write_record,
)
from lab.sections import (
    Against,
    Contrast,
    Curves,
    Differences,
    Factorial,
    Fit,
    Frontier,
    Interaction,
    Quantity,
    Texts,
)
from lab.version import Version

LEVEL = {"data.unique_tokens": None}
SECTIONS = (
    Curves(panels={"a panel": ("ar", "dlm")}, marks=("onset",), title="Curves", note="of two"),
    Differences(contrasts=(Contrast(arm="dlm", reference="ar", level=LEVEL, reference_level=LEVEL),)),
    Against(x="epoch", metrics=("nll",), matched=("data",), at="end"),
    Factorial(at=("end",)),
    Quantity(names=("onset", "best_level"), reference="ar"),
    Frontier(reference="ar"),
    Interaction(arm="ar", reference="dlm", key="data.quality", level="high", reference_level="low"),
    Texts(arms=("dlm",)),
    Fit(y="onset", x=("parameters", "data.unique_tokens"), held_out=LEVEL),
)
BASELINE = Baseline(
    name="n-gram",
    settings={"order": 5},
    values={"test": {"nll": 2.0}},
    examples={"test": Examples(metric="nll", values=(1.5, 2.5), documents=(0, 4))},
)
NAN, INF = float("nan"), float("inf")


def plan(level):
    config = make_config({"training": {"total_steps": 20}})
    return PlanRecord(
        **{name: name for name in ("ablation", "preset", "question", "paper", "metric", "expected")},
        arms=("ar", "dlm"),
        sections=SECTIONS,
        command="make",
        cells=(Cell(arm="ar", level=level, seed=0, logdir="runs/ar/seed=0", config=config),),
    )


def measurement():
    return MeasurementResult(
        measurement="inference",
        wanted="w",
        code="c",
        stops=(StopReference(run="r", reading="annealed", step=10),),
        tokens_seen=640,
        epoch=0.5,
        process=PROCESS,
        wall_seconds=1.0,
        rows=(measured("test", {"judge_nll": 2.0, "parse_rate": None, "lines": None}),),
    )


RECORDS = {
    "a run": result(),
    "a run with a parent": result(parent=StopReference(run="p", reading="along_run", step=5)),
    "a run with baselines": result(baselines=(BASELINE,)),
    "a plan": plan({"data.unique_tokens": None, "training.learning_rate": 1e-3}),
    "a measurement": measurement(),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_comes_back_as_it_was_written(tmp_path, record):
    """With every value that is None because there was nothing to count, or because a level says so."""
    path = tmp_path / "record.json"
    write_record(path, record)
    found = read_record(type(record), path)
    assert found == record
    written = path.read_bytes()
    write_record(path, found)
    assert path.read_bytes() == written
    assert json.loads(written)["schema"] == 4


def test_none_stays_where_it_says_something(tmp_path):
    write_record(tmp_path / PLAN, RECORDS["a plan"])
    (cell,) = json.loads((tmp_path / PLAN).read_text())["cells"]
    assert cell["level"] == {"data.unique_tokens": None, "training.learning_rate": 0.001}
    write_record(tmp_path / RESULT, result())
    written = json.loads((tmp_path / RESULT).read_text())
    assert written["stops"][0]["measured"][0]["values"] == {"nll": 2.0, "parse_rate": None}
    assert "parent" not in written
    assert measured("test", {"nll": 1.0, "parse_rate": None}).to_row() == {
        "key": "test-annealed-10",
        "task": {"measurement": "nll", "split": "test", "settings": {"windows": 2}},
        "stops": [{"run": "run", "reading": "annealed", "step": 10}],
        "values": {"nll": 1.0, "parse_rate": None},
    }


def test_a_file_that_is_not_there_is_no_record(tmp_path):
    assert read_result(tmp_path) is None


def written(record):
    return json.loads(record.model_dump_json(by_alias=True, exclude_none=True))


DAMAGES = {
    "empty": (lambda text: "", "not JSON"),
    "cut": (lambda text: text[: len(text) // 2], "not JSON"),
    "no object": (lambda text: "[]", r"\(the whole: "),
    "another schema": (
        lambda text: text.replace('"schema": 4', '"schema": 1'),
        "`schema` must be 4, but got 1",
    ),
    "a text for a number": (
        lambda text: text.replace('"parameters": 100', '"parameters": "x"'),
        r"\(parameters: ",
    ),
    "a key missing": (
        lambda text: text.replace('"train_flops": 1000000000.0,', ""),
        r"\(train_flops: Field required",
    ),
    "a key too many": (
        lambda text: text.replace('"parameters"', '"more": 1, "parameters"'),
        r"\(more: Extra",
    ),
    "deep inside": (
        lambda text: text.replace('"step": 10', '"step": null', 1),
        r"\(stops\.0\.step: Input should be a valid integer",
    ),
    "NaN": (
        lambda text: text.replace('"train_flops": 1000000000.0', '"train_flops": NaN'),
        r"\(train_flops: .*finite",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_with_the_key(tmp_path, damage, message):
    path = tmp_path / RESULT
    write_record(path, result())
    sound = path.read_text(encoding="utf-8")
    damaged = damage(sound)
    assert damaged != sound
    path.write_text(damaged, encoding="utf-8")
    with pytest.raises(DamagedError, match=rf"{path}: .*{message}"):
        read_result(tmp_path)


def test_a_number_that_is_none_is_refused_where_a_record_is_made_and_where_it_is_written(tmp_path):
    for number in (NAN, INF):
        with pytest.raises(ValueError, match="finite"):
            result(train_flops=number)
        with pytest.raises(ValueError, match="finite"):
            measured("test", {"nll": number})
        with pytest.raises(ValueError, match=r"tuning\.x must be a finite number"):
            write_record(tmp_path / PLAN, plan({}).model_copy(update={"tuning": {"x": number}}))


def test_a_run_without_the_nll_that_decides_is_refused():
    bare = stop(10, 2.0).model_copy(update={"measured": (measured("validation", {"option_gap": 1.0}),)})
    with pytest.raises(ValueError, match="every stop must have 'nll' on the validation split"):
        result(bare)
    none = stop(10, 2.0).model_copy(update={"measured": (measured("validation", {"nll": None}),)})
    with pytest.raises(ValueError, match="every stop must have 'nll' on the validation split"):
        result(none)
    with pytest.raises(ValueError, match="at least 1 item"):
        result(stops=())


@pytest.mark.parametrize("without", ["best", "last"])
def test_the_best_and_the_last_stop_are_tested(without):
    stops = (
        stop(10, 2.0, test=without != "best"),
        stop(15, 2.5, test=False),
        stop(20, 3.0, test=without != "last"),
    )
    with pytest.raises(ValueError, match="the best and the last stop must have 'nll' on the test split"):
        result(*stops)
    assert result(stop(10, 2.0), stop(15, 2.5, test=False), stop(20, 3.0)).end().step == 20


def test_stops_are_found_by_reading_and_judged_on_validation():
    made = result(
        stop(10, 2.5, "along_run"),
        stop(10, 2.25),
        stop(20, 2.0, "along_run"),
        stop(20, 2.25),
        stop(30, 2.75, "along_run"),
        stop(30, 2.5),
    )
    assert made.readings == ("annealed", "along_run")
    assert made.headline == "annealed"
    assert [one.step for one in made.along("along_run")] == [10, 20, 30]
    assert (made.best().step, made.best().reading) == (10, "annealed")  # the first of equals
    assert made.best("along_run").step == 20
    assert made.end().step == 30
    assert made.best().validation == {"nll": 2.25}  # None is no value
    assert made.best().test == {"nll": 3.25}
    assert made.best().examples("nll", "test").values == (2.25, 4.25)
    assert made.best().examples("nll", "validation") is made.best().examples("nelbo", "test") is None
    assert result(stop(10, 2.5, "along_run")).headline == "along_run"


def test_a_run_is_found_from_its_measurement_across_a_symbolic_link(tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    runs = [tmp_path / "run", tmp_path / "link" / "run"]
    for run, folder in zip(runs, (tmp_path / "link" / "measured", tmp_path / "measured"), strict=True):
        run.mkdir()
        folder.mkdir()
        (found,) = stops_of(result(), run, folder)
        assert (folder / found.run).samefile(run)


def test_a_run_is_named_by_the_digest_of_its_version():
    made = result()
    digest = Version(made.version.values, "c0de").digest()
    assert made.run == digest
    assert made.reference(made.best()) == StopReference(run=digest, reading="annealed", step=10)


def test_examples_have_a_document_each():
    with pytest.raises(ValueError, match="must be equally long, but got 2 and 1"):
        Examples(metric="nll", values=(1.0, 2.0), documents=(0,))


def test_measurements_lie_beside_the_runs():
    assert measurement_folder("runs/dlm/seed=0", "inference") == "measurements/inference/dlm/seed=0"


PLACE = {"step": 5, "tokens_seen": 320, "epoch": 0.5}
TRAIN = {"kind": "train", **PLACE, "train_loss": 2.0, "gradient_norm": 1.0, "learning_rate": 0.1}
TRAIN |= {"tokens_per_second": 9.0}
STOP = {"reading": "annealed", "start": 4, **PLACE}
ROWS = {
    "train": TRAIN,
    "measured": {"kind": "measured", **STOP, "measured": measured("test", {"nll": 2.0}).to_row()},
    "sample": {"kind": "sample", **STOP, "text": "ab"},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_of_a_run_is_known_and_one_that_lacks_a_value_is_not(row):
    assert is_run_row(row)
    for key in row:
        assert not is_run_row({name: value for name, value in row.items() if name != key}), key
        assert not is_run_row({**row, key: None}), key
    assert not is_run_row({**row, "more": 1})
    assert not is_run_row({**row, "kind": "stop"})  # of an older lab


def test_parse_record_names_the_place():
    with pytest.raises(DamagedError, match=r"^here: not what the lab writes there \(train_loss: "):
        parse_record(TrainRow, {**TRAIN, "train_loss": "x"}, "here")
    assert isinstance(parse_record(RunResult, written(result()), "here"), RunResult)
