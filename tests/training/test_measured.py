import pytest
from training_bench import tiny_config

from lab.evaluation.measurements import row_key, yardstick
from lab.results import Measured
from lab.training.ending import DivergedError
from lab.training.measured import MEASURED, SAMPLE, MeasuredStops, measured_of, require_finite
from lab.training.timeline import Stop, make_timeline

CONFIG = tiny_config("ar", {"training": {"total_steps": 40}, "evaluation": {"stops": 3}})
TIMELINE = make_timeline(CONFIG, 60)
HASHES = {"train": "a", "validation": "b", "test": "c"}
ALONG = {stop.step: stop for stop in TIMELINE.stops if stop.reading == "along_run"}
ANNEALED = {stop.step: stop for stop in TIMELINE.stops if stop.reading == "annealed"}


def measured_stops(rows=(), run="run", hashes=HASHES):
    return MeasuredStops(CONFIG, run, hashes, TIMELINE, rows)


def measure(stops, stop, split, nll=1.0, **changed):
    """Every measurement of a stop on a split."""
    reference = stops.reference(stop)
    found = [
        Measured(
            key=row_key(task, [reference], HASHES[split]),
            task=task,
            stops=(reference,),
            values={"nll": nll} if task.measurement == "nll" else {"option_gap": 0.5},
        )
        for task in yardstick(CONFIG, split)
    ]
    for one in found:
        stops.add(one)
    return [{"kind": MEASURED, **changed, "measured": one.to_row()} for one in found]


def test_a_stop_lacks_the_validation_first_and_the_test_where_it_is_picked():
    stops, stop = measured_stops(), ALONG[40]
    validation, test = yardstick(CONFIG, "validation"), yardstick(CONFIG, "test")
    assert stops.missing(stop) == validation
    measure(stops, stop, "validation")
    assert stops.missing(stop) == []
    assert stops.validated == [stop]
    for other in set(TIMELINE.stops) - {stop}:
        measure(stops, other, "validation")
    assert stops.missing(ANNEALED[20]) == []
    assert stops.missing(stop) == test[:-1]
    measure(stops, stop, "test")
    assert stops.missing(stop) == []
    assert [row.task for row in stops.rows(stop)] == validation + test


def test_the_best_of_the_headline_alone_is_measured_at_all_places():
    stops = measured_stops()
    nll = {10: 3.0, 20: 2.0, 40: 2.5}
    for stop in TIMELINE.stops:
        measure(stops, stop, "validation", nll[stop.step])
    exact = [
        stop for stop in TIMELINE.stops for task in stops.missing(stop) if task.measurement == "nll_exact"
    ]
    assert exact == [ANNEALED[20]]


@pytest.mark.parametrize(
    ("patience", "nll", "last"),
    [
        (0, (2.0, 3.0, 3.0, 3.0), 40),
        (1, (2.0, 3.0), 10),
        (2, (2.0, 3.0, 3.0), 20),
        (2, (2.0, 3.0, 1.0, 3.0), 40),
        (2, (2.0, 3.0, 2.0, 3.0), 40),  # as good is not worse
        (2, (2.0, 3.0), 40),
    ],
)
def test_a_run_ends_once_stops_in_a_row_are_worse_than_its_best(patience, nll, last):
    config = tiny_config(
        "ar", {"training": {"total_steps": 40, "patience": patience}, "evaluation": {"stops": 4}}
    )
    timeline = make_timeline(config, 60)
    stops = MeasuredStops(config, "run", HASHES, timeline, ())
    headline = sorted(stop for stop in timeline.stops if stop.reading == "annealed")
    for stop, value in zip(headline, nll, strict=False):
        measure(stops, stop, "validation", value)
    assert stops.stops == [stop for stop in timeline.stops if stop.step <= last]
    for stop in stops.stops:
        if stop not in headline[: len(nll)]:
            measure(stops, stop, "validation", 0.5)
    assert {stop.step for stop in stops.picked() if stop.reading == "annealed"} >= {last}
    assert timeline.work_to(stops.stops) <= timeline.work


def test_none_is_picked_before_all_are_validated():
    stops = measured_stops()
    nll = {10: 3.0, 20: 2.0, 40: 2.5}
    for stop in TIMELINE.stops:
        assert stops.picked() == set()
        measure(stops, stop, "validation", nll[stop.step])
    assert stops.picked() == {ALONG[20], ALONG[40], ANNEALED[20], ANNEALED[40]}
    assert stops.best_and_last() == stops.picked()


def test_the_best_and_the_last_so_far_are_known_before_all_are_validated():
    stops = measured_stops()
    assert stops.best_and_last() == set()
    for stop, nll in ((ALONG[10], 2.0), (ANNEALED[10], 2.0), (ANNEALED[20], 3.0)):
        measure(stops, stop, "validation", nll)
    assert stops.best_and_last() == {ALONG[10], ANNEALED[10], ANNEALED[20]}
    assert stops.picked() == set()


def test_of_equals_the_first_is_the_best():
    stops = measured_stops()
    for stop in TIMELINE.stops:
        measure(stops, stop, "validation", 2.0)
    assert stops.picked() == {ALONG[10], ALONG[40], ANNEALED[10], ANNEALED[40]}


def test_rows_of_a_log_count_and_those_of_other_weights_or_texts_do_not():
    writer = measured_stops()
    rows = [
        row for stop in TIMELINE.stops for row in measure(writer, stop, "validation", reading=stop.reading)
    ]
    assert len(measured_stops(rows).validated) == 6
    assert measured_stops(rows, run="another").validated == []
    assert measured_stops(rows, hashes={**HASHES, "validation": "other"}).validated == []
    assert len(measured_stops(rows, hashes={**HASHES, "test": "other"}).validated) == 6
    assert len(measured_stops(rows[1:]).validated) == 5


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "train"},
        {"kind": MEASURED},
        {"kind": MEASURED, "measured": 3},
        {"kind": MEASURED, "measured": {}},
    ],
)
def test_a_row_that_is_no_measurement_is_none(row):
    assert measured_of(row) is None
    assert measured_stops([row]).validated == []


def test_a_stop_of_the_headline_lacks_its_sample_until_it_has_one():
    row = {"kind": SAMPLE, "reading": "annealed", "step": 20, "text": "..."}
    stops = measured_stops([row])
    assert {stop for stop in TIMELINE.stops if stops.lacks_sample(stop)} == {ANNEALED[10], ANNEALED[40]}
    stops.add_sample(ANNEALED[10])
    assert {stop for stop in TIMELINE.stops if stops.lacks_sample(stop)} == {ANNEALED[40]}


def test_the_share_that_is_done_counts_the_main_run_and_its_branches():
    stops, work = measured_stops(), 40 + sum(stop.step - stop.start for stop in TIMELINE.stops)
    assert stops.share_done(0, 0) == 0
    assert stops.share_done(8, 8) == 8 / work
    assert stops.share_done(8, 9) == 9 / work  # in a branch that began at 8
    measure(stops, ANNEALED[10], "validation")
    assert stops.share_done(8, 8) == 10 / work
    assert stops.share_done(0, 0) == 10 / work  # in another attempt, which goes on from an older checkpoint
    for stop in TIMELINE.stops:
        measure(stops, stop, "validation")
    assert stops.share_done(0, 0) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_refused(value):
    task = yardstick(CONFIG, "test")[0]
    require_finite(Measured.model_construct(task=task, values={"nll": 1.0, "parse_rate": None}))
    with pytest.raises(DivergedError, match=rf"on the test split must be finite, but got .*'nll': {value}"):
        require_finite(Measured.model_construct(task=task, values={"nll": value, "option_gap": 0.5}))


def test_a_stop_is_named_with_its_run():
    reference = measured_stops(run="a run").reference(Stop(8, 10, "annealed"))
    assert (reference.run, reference.reading, reference.step) == ("a run", "annealed", 10)
