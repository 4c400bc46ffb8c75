import pytest
from training_bench import tiny_config

from lab.training.timeline import Stop, make_timeline


def timeline(windows, training=None, arm="ar", **evaluation):
    return make_timeline(tiny_config(arm, {"training": training or {}, "evaluation": evaluation}), windows)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ({"total_steps": 7}, 7),
        ({"total_tokens": 64 * 7}, 7),  # a step is 4 windows of 16 tokens
        ({"total_tokens": 64 * 7 + 31}, 7),
        ({"total_epochs": 2}, 5),  # of 10 windows
        ({"total_epochs": 0.8}, 2),
    ],
)
def test_each_duration_becomes_steps(duration, steps):
    assert timeline(10, duration).total_steps == steps


def test_tokens_and_epochs_follow_from_the_step():
    made = timeline(10, {"total_steps": 25})
    assert made.tokens_seen(25) == 25 * 4 * 16
    assert made.epoch(25) == pytest.approx(25 * 4 / 10)
    assert made.place(25) == {"step": 25, "tokens_seen": 25 * 4 * 16, "epoch": made.epoch(25)}


def test_stops_lie_at_equal_tokens_for_every_arm_and_budget():
    duration = {"total_tokens": 64 * 100}
    found = {
        (arm, windows): [
            (stop.reading, stop.step, made.tokens_seen(stop.step))
            for made in [timeline(windows, duration, arm)]
            for stop in made.stops
        ]
        for arm in ("ar", "dlm", "any_order_ar")
        for windows in (3, 10, 1000)
    }
    assert len({str(stops) for stops in found.values()}) == 1


@pytest.mark.parametrize("duration", [{"total_tokens": 1_600_000}, {"total_epochs": 16.3}])
def test_runs_of_other_batch_sizes_stop_at_the_same_tokens(duration):
    def stops(batch_size):
        made = timeline(1_562, {**duration, "batch_size": batch_size}, stops=8, stop_ratio=1.6)
        return [made.tokens_seen(stop.step) for stop in made.stops if stop.reading == "along_run"]

    assert stops(16) == stops(32) == stops(64)
    wanted = [stops(32)[-1] / 1.6**j for j in range(8)][::-1]
    assert stops(32) == pytest.approx(wanted, abs=64 * 16)  # within half of 128 windows of 16 tokens
    assert stops(48) != stops(32)  # which does not divide 128: as near as its own steps come


def test_stops_are_geometric_and_the_last_is_the_end():
    made = timeline(10, {"total_steps": 100}, stops=4, stop_ratio=2.0)
    for reading in ("along_run", "annealed"):
        steps = sorted(stop.step for stop in made.stops if stop.reading == reading)
        assert steps == [12, 25, 50, 100]


def test_annealed_stops_branch_off_before_them_and_come_in_the_order_of_their_starts():
    made = timeline(10, {"total_steps": 100, "decay_share": 0.3}, stops=2)
    assert made.stops == (
        Stop(35, 50, "annealed"),
        Stop(50, 50, "along_run"),
        Stop(70, 100, "annealed"),
        Stop(100, 100, "along_run"),
    )
    assert made.work == 100 + 15 + 30


def test_a_cosine_has_the_reading_along_the_run_alone():
    made = timeline(10, {"schedule": "cosine", "total_steps": 100}, stops=2)
    assert made.stops == (Stop(50, 50, "along_run"), Stop(100, 100, "along_run"))
    assert made.work == 100


def test_one_more_stop_moves_no_other():
    few, more = (timeline(10, {"total_steps": 100}, stops=number) for number in (3, 4))
    assert set(few.stops) < set(more.stops)
    assert {stop.step for stop in set(more.stops) - set(few.stops)} == {12}


def test_more_stops_than_steps_fold_into_one_each():
    made = timeline(10, {"schedule": "cosine", "total_steps": 3}, stops=9)
    assert [stop.step for stop in made.stops] == [1, 2, 3]


@pytest.mark.parametrize(
    ("duration", "words"),
    [({"total_tokens": 20}, "20 tokens of 10 windows"), ({"total_epochs": 0.1}, "0.1 epochs of 10 windows")],
)
def test_less_than_one_step_is_refused(duration, words):
    message = rf"the duration must be at least one step of 64 tokens, but got {words}\."
    with pytest.raises(ValueError, match=message):
        timeline(10, duration)
