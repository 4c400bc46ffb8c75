"""How long jobs still take, beside times that were counted by hand and runs that were played through."""

import itertools
import math
from dataclasses import replace

import pytest
from ablation_bench import TINY

from lab.arms import arm_values
from lab.config import make_config
from lab.scheduling.progress_file import Progress
from lab.scheduling.time_left import Timed, duration_words, run_work, seconds_left


def done(kind, seconds=100.0, work=1.0):
    return Timed(kind, work).after(seconds)


def running(kind, share=0.5, left=None, seconds=None, work=1.0):
    return Timed(kind, work, share=share, seconds=seconds, left=left)


@pytest.mark.parametrize(
    ("jobs", "at_once", "pace", "left"),
    [
        ([done("a"), running("a", left=7.0, seconds=9.0)], 1, None, 50.0),  # as long as its like
        ([done("a"), running("b", left=20.0, seconds=40.0)], 1, None, 20.0),  # as its own pace says
        ([done("a"), running("b", work=3.0)], 1, None, 150.0),  # as its work says
        ([running("a", left=30.0, seconds=60.0), Timed("b", work=2.0)], 1, None, 150.0),
        ([done("a"), Timed("a"), Timed("a"), Timed("a")], 2, None, 150.0),
        ([done("a"), Timed("a"), Timed("b", work=5.0)], 2, None, 500.0),  # the longest is not cut in parts
        ([Timed("a", work=4.0), Timed("b", work=2.0)], 1, 10.0, 60.0),  # before anything runs
        ([done("a", 40.0), Timed("a")], 1, 10.0, 40.0),  # what was seen counts more than what was expected
        ([Timed("a")], 1, None, None),
        ([Timed("a", ended=True), Timed("a")], 1, None, None),  # a failed one took no time that counts
        ([done("a")], 2, None, 0.0),
        ([], 1, None, 0.0),
        ([], 0, 1.0, 0.0),
    ],
)
def test_time_left_rests_on_done_jobs_then_on_the_job_itself_then_on_the_others(jobs, at_once, pace, left):
    assert seconds_left(jobs, at_once, pace) == left


def test_it_is_never_negative_or_no_number():
    shares, paces = (-1.0, 0.0, 0.5, 1.0, 7.0), (None, -5.0, 0.0, 5.0)
    for share, pace, seconds, at_once in itertools.product(shares, paces, (-9.0, 0.0, 10.0), (0, 1, 9)):
        said = Progress(share=share, seconds=seconds, pace_seconds=pace)
        found = seconds_left([Timed("a", closing=0.5).under_way(said), done("b", 0.0)], at_once, 2.0)
        assert found is not None
        assert found >= 0
        assert math.isfinite(found)


def test_what_comes_after_the_last_step_counts():
    job = Timed("a", work=3.0, closing=0.5)  # 100 s of steps, then 50 s of measuring
    assert seconds_left([job], 1, 50.0) == 150.0
    half, over = (
        job.under_way(Progress(share=share, seconds=60.0, pace_seconds=100.0)) for share in (0.5, 1.0)
    )
    assert (half.left, half.seconds) == (100.0, 160.0)
    assert (over.left, over.seconds) == (50.0, 110.0)
    like = replace(job.under_way(Progress(share=0.5)), kind="b")
    assert seconds_left([like, Timed("b", 3.0).after(150.0)], 1) == 100.0


def test_the_work_of_a_run_grows_as_its_passes_and_its_tokens_do():
    def work(arm, passes=1, **training):
        layer = {"training": training, "factors": {"passes": passes}}
        return run_work(make_config(TINY, arm_values(arm), layer))[0]

    measured = 3 * work("dlm") - work("dlm", passes=3)  # twice what does not grow with the passes
    assert work("dlm", passes=2) == pytest.approx(2 * work("dlm") - measured / 2)
    assert 0 < work("ar") < work("dlm")  # a causal pass sees fewer pairs
    small, middle, large = (work("dlm", total_tokens=tokens) for tokens in (2**20, 2**21, 2**22))
    assert large - middle == pytest.approx(2 * (middle - small), rel=0.05)


@pytest.mark.parametrize("data", [{"tokenizer": "a preset"}, {"unique_tokens": None}])
def test_what_is_not_known_before_the_corpus_is_read_is_guessed(data):
    assert min(run_work(make_config(TINY, {"data": data}))) > 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89.0, "89 s"), (90.0, "2 min"), (3600.0, "60 min"), (7200.0, "2.0 h"), (9e4, "25.0 h")],
)
def test_a_time_is_said_as_people_say_it(seconds, words):
    assert duration_words(seconds) == words
