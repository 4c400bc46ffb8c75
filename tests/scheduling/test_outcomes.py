import errno

import pytest

from lab.scheduling.executors.executor import Ended
from lab.scheduling.outcomes import (
    EXIT_CODES,
    TRIES,
    Outcome,
    exit_code_of,
    outcome_of,
    parse_tries,
    reason_of,
)
from lab.training.ending import DivergedError, PreemptedError


@pytest.mark.parametrize(
    ("ended", "outcome", "reason"),
    [
        (Ended(2), Outcome.USER_ERROR, "user error: no room"),
        (Ended(3), Outcome.DIVERGED, "diverged: no room"),
        (Ended(4), Outcome.DEVICE_MEMORY, "out of device memory: no room"),
        (Ended(5), Outcome.HOST_MEMORY, "out of host memory: no room"),
        (Ended(75), Outcome.PREEMPTED, "preempted: no room"),
        (Ended(1), Outcome.ERROR, "exit code 1: no room"),
        (Ended(77), Outcome.ERROR, "exit code 77: no room"),
        (Ended(0), Outcome.NO_RESULT, "no result: ended without a result.json of its configuration"),
        (Ended(-9), Outcome.LOST, "lost: killed by SIGKILL"),
        (Ended(-6, "stalled"), Outcome.STALLED, "stalled: no progress; the log has its stacks"),
        (Ended(-9, "host_oom"), Outcome.HOST_MEMORY, "out of host memory: the system killed it"),
        (Ended(-9, "node_lost"), Outcome.LOST, "lost: its machine is gone"),
        (Ended(1, "node_lost"), Outcome.LOST, "lost: its machine is gone"),
    ],
)
def test_an_end_has_one_class_and_one_line(ended, outcome, reason):
    assert outcome_of(ended) == outcome
    assert reason_of(ended, "starting\nerror: no room\n") == reason
    assert outcome in TRIES


def test_a_silent_end_says_so():
    assert reason_of(Ended(1), "") == "exit code 1: no output"


def raised(error, cause=None):
    try:
        try:
            if cause:
                raise cause
        finally:
            raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "on_cpu", "outcome"),
    [
        (ValueError("`width` must be even"), True, Outcome.USER_ERROR),
        (DivergedError("loss nan"), True, Outcome.DIVERGED),
        (PreemptedError("asked to end"), True, Outcome.PREEMPTED),
        (MemoryError(), False, Outcome.HOST_MEMORY),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), False, Outcome.DEVICE_MEMORY),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), True, Outcome.HOST_MEMORY),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), False, Outcome.DEVICE_MEMORY),
        (RuntimeError("no such luck"), True, Outcome.ERROR),
        (PermissionError(errno.EACCES, "Permission denied", "x"), True, Outcome.USER_ERROR),
        (OSError(errno.EROFS, "Read-only file system", "x"), True, Outcome.USER_ERROR),
        (OSError(errno.ENOSPC, "No space left on device"), True, Outcome.USER_ERROR),
        (OSError(errno.ESTALE, "Stale file handle", "x"), True, Outcome.ERROR),
        (OSError("no errno"), True, Outcome.ERROR),
        (KeyboardInterrupt(), True, Outcome.ERROR),
        (SystemExit(0), True, Outcome.ERROR),
    ],
)
def test_a_run_tells_by_its_exit_code_why_it_ended(error, on_cpu, outcome):
    assert exit_code_of(error, on_cpu) == EXIT_CODES[outcome]


def test_an_error_that_hides_the_first_one_is_seen_through():
    hidden = RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    masked = raised(TypeError("'NoneType' object is not callable"), hidden)
    assert exit_code_of(masked, on_cpu=False) == EXIT_CODES[Outcome.DEVICE_MEMORY]


def test_an_error_on_the_way_to_the_checkpoint_is_no_preemption():
    failed = raised(OSError("No space left on device"), PreemptedError("asked to end"))
    assert exit_code_of(failed, on_cpu=True) == EXIT_CODES[Outcome.ERROR]


def test_tries_are_the_usual_ones_but_for_those_chosen():
    assert parse_tries([]) == TRIES
    assert parse_tries(["lost=5", "out-of-host-memory=1"]) == {
        **TRIES,
        Outcome.LOST: 5,
        Outcome.HOST_MEMORY: 1,
    }


@pytest.mark.parametrize("text", ["lost", "lost=0", "lost=-1", "lost=x", "done=2", "bad luck=2"])
def test_what_is_no_number_of_tries_is_refused(text):
    with pytest.raises(ValueError, match=f"but got '{text}'"):
        parse_tries([text])
