"""The inside of the sandbox: processes that keep, run and examine programs, by the standard library alone.

One process waits (`main`). For each program it forks a *keeper*, and the keeper spawns, behind walls of their
own (lab/evaluation/sandbox_walls.py):

- the *candidate*, which runs the program and then answers calls of its functions by values, as text. Nothing
  that it could steal is in its memory: neither what a call should give nor the text of a test. Whatever it
  writes is at most another value.
- for a program with a test, the *examiner*, which runs the test with a function in the candidate's place that
  asks the candidate. The candidate's code never runs in here, and its values come as literals.

The keeper gathers what they write, ends them, and reports. What a call should give is known to the driver
alone, which compares (lab/evaluation/sandbox.py).
"""

import ast
import builtins
import gc
import importlib
import json
import marshal
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any, NoReturn

from lab.evaluation.literals import literal
from lab.evaluation.sandbox_walls import PACKAGES, UNCONFINED, Limits, Walls, enter

# What a candidate's lines begin with: the first of them, and those that answer a call.
LOADED, SYNTAX = "loaded", "syntax "
VALUE, RAISED = "=", "raised "
# What an examiner's line begins with: the candidate's first follows NOT_LOADED, so that it can say no other.
PASSED, FAILED, NOT_LOADED, GONE = "passed", "failed ", "not loaded ", "gone"
MOST_DETAIL = 300  # characters

_FIRST, _SECOND, _THIRD = 3, 4, 5  # the descriptors that a spawned process has
_ENDING_SECONDS = 0.5  # between the end of what a process writes and its own


def main() -> NoReturn:
    """Serve a driver that writes to this process's stdin and reads its stdout.

    It sends (shown, hidden, packages, limits), and gets an empty frame, or the reason why there are no walls.
    """
    control, out = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    shown, hidden, packages, limits = marshal.loads(read_frame(control))
    try:
        walls = enter(shown, hidden, packages, Limits(*limits))
        sys.path[:] = [path for path in sys.path[1:] if Path(path).is_dir()] + [PACKAGES]
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have no threads
        for path in packages:
            if not path.endswith(".libs"):
                importlib.import_module(Path(path).name)
    except (OSError, ImportError) as error:
        path = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        reason = error.strerror if isinstance(error, OSError) else str(error)
        write_frame(out, f"{path}{reason}".encode())
        os._exit(1)
    write_frame(out, b"")
    gc.collect()
    gc.freeze()
    while os.read(control, 1):
        # This process reads no program, so that none finds another's in its memory.
        keeper = os.fork()
        if not keeper:
            code = 1
            try:
                write_frame(out, json.dumps(_keep(walls, control)).encode())
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(keeper, 0)[1]:
            break
    os._exit(0)


def read_frame(file: int) -> bytes:
    """The bytes of one frame: their number, in 4 bytes, goes before them.

    Raises:
        EOFError: if the other side has gone.
    """
    return _read_exactly(file, struct.unpack("<I", _read_exactly(file, 4))[0])


def write_frame(file: int, data: bytes) -> None:
    """Write one frame, whole."""
    write_all(file, struct.pack("<I", len(data)) + data)


def _read_exactly(file: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(file, min(size - len(data), 2**20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def write_all(file: int, data: bytes) -> None:
    """Write bytes, all of them."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _keep(walls: Walls, control: int) -> dict[str, Any]:
    """Run one program, and report on it.

    Returns:
        lines: what the examiner, or else the candidate, has written; bytes that are not ASCII escaped.
        stopped: why no more was read: empty where all is there, `ended`, `timeout` or `overflow`.
        remains: what the candidate left running, or that it did not wait for its end, in words.
        code: that the candidate ended with, or the examiner where its verdict is missing; -n by signal n,
            None where the keeper ended it.
        cpu_seconds: that it used.
    """
    limits = walls.limits
    source, calls = marshal.loads(read_frame(control))
    calls_in, calls_out = os.pipe()
    answers_in, answers_out = os.pipe()
    deadline = time.monotonic() + limits.seconds
    processes = [walls.spawn(lambda: _answer(source, calls), (calls_in, answers_out))]
    os.close(calls_in)
    os.close(answers_out)
    # Not before the candidate has a memory of its own.
    test = read_frame(control)
    if test:
        verdict_in, verdict_out = os.pipe()
        examine = (answers_in, calls_out, verdict_out)
        processes.append(walls.spawn(lambda: _examine(marshal.loads(test), limits.answer_bytes), examine))
        os.close(verdict_out)
    lines, stopped = _gather(
        verdict_in if test else answers_in, 1 if test else 1 + len(calls), deadline, limits
    )
    report = {"lines": lines, "stopped": stopped, "remains": "" if stopped else walls.remains()}
    suspect = processes[-1] if stopped else processes[0]
    by_itself = stopped == "ended" or lines == [GONE]
    ends = {pid: _end(pid, wait=by_itself and pid == suspect) for pid in processes}
    if any(end["code"] == UNCONFINED for end in ends.values()):
        raise RuntimeError("there were no walls this time")
    if not stopped and ends[processes[0]]["code"] is not None:
        report["remains"] = "it ended before its verdict"
    return report | ends[suspect]


def _gather(file: int, wanted: int, deadline: float, limits: Limits) -> tuple[list[str], str]:
    """So many lines of text, or fewer and why."""
    data, lines = bytearray(), 0
    while lines < wanted:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([file], [], [], left)[0]:
            return _lines(data), "timeout"
        chunk = os.read(file, 2**16)
        if not chunk:
            return _lines(data), "ended"
        data += chunk
        lines += chunk.count(b"\n")
        if len(data) > limits.answer_bytes:
            return _lines(data[: limits.answer_bytes]), "overflow"
    return _lines(data)[:wanted], ""


def _lines(data: bytearray) -> list[str]:
    """The lines that are whole."""
    return data.decode("ascii", "backslashreplace").split("\n")[:-1]


def _end(pid: int, wait: bool) -> dict[str, Any]:
    """End a process and all in its namespace; where `wait`, say how it ended by itself."""
    until = time.monotonic() + _ENDING_SECONDS
    found, status, used = os.wait4(pid, os.WNOHANG)
    while wait and not found and time.monotonic() < until:
        time.sleep(0.002)
        found, status, used = os.wait4(pid, os.WNOHANG)
    if not found:
        os.kill(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
    code: int | None = os.waitstatus_to_exitcode(status)
    if not found and code == -signal.SIGKILL:
        code = None
    return {"code": code, "cpu_seconds": used.ru_utime + used.ru_stime}


def _answer(source: str, calls: list[bytes]) -> None:
    """The candidate: load a program, answer the calls, then those that come.

    All that it knows may be changed by the program, and nothing outside believes it more than that.
    """

    def write(line: str) -> None:
        write_all(_SECOND, line.encode("ascii", "backslashreplace") + b"\n")

    gc.enable()
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    try:
        code = compile(source, "<candidate>", "exec", dont_inherit=True)
    except BaseException as error:  # SyntaxError, but a null byte gives ValueError, a deep one MemoryError
        return write(SYNTAX + _described(error))
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        return write(RAISED + _described(error))
    write(LOADED)
    for call in calls:
        write(_called(module, (*marshal.loads(call), {}), exact=True))
    while True:
        write(_called(module, pickle.loads(read_frame(_FIRST)), exact=False))


def _called(module: types.ModuleType, call: tuple[str, tuple[Any, ...], dict[str, Any]], exact: bool) -> str:
    name, arguments, named = call
    try:
        return VALUE + literal(getattr(module, name)(*arguments, **named), exact)
    except BaseException as error:
        return RAISED + _described(error)


def _described(error: BaseException) -> str:
    """`builtin its class is of, its class: its message`, in ASCII and one line."""
    try:
        known = next(each.__name__ for each in type(error).__mro__ if each.__module__ == "builtins")
        text = f"{type(error).__name__}: {str(error)[:MOST_DETAIL]}"
    except BaseException:
        known, text = "RuntimeError", "an exception that cannot be described"
    return f"{known} {ascii(text)[1:-1]}"


class _Gone(BaseException):
    """The candidate has ended; no `except Exception` of a test catches it."""


class _Flood(BaseException):
    """The candidate has written too much."""


def _examine(sources: tuple[str, str, str], most_bytes: int) -> None:
    """The examiner: run a test that asks the candidate, and write one line, the verdict."""
    setup, entry_point, test = sources
    answers = _Answers(most_bytes)

    def asked(*arguments: Any, **named: Any) -> Any:
        try:
            write_frame(_SECOND, pickle.dumps((entry_point, arguments, named)))
        except BrokenPipeError:
            raise _Gone from None
        line = answers.line()
        if line.startswith(VALUE):
            return ast.literal_eval(line[len(VALUE) :])
        raise _raised_again(line)

    names: dict[str, Any] = {"__name__": "test"}
    try:
        line = answers.line()
        if line != LOADED:
            verdict = NOT_LOADED + line
        else:
            exec(compile(setup, "<setup>", "exec", dont_inherit=True), names)
            names[entry_point] = asked
            exec(compile(test, "<test>", "exec", dont_inherit=True), names)
            verdict = PASSED
    except _Gone:
        verdict = GONE
    except _Flood:
        verdict = f"{FAILED}answered more than {most_bytes} bytes"
    except BaseException as error:
        places = [
            each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == "<test>"
        ]
        where = test.splitlines()[places[-1] - 1].strip() if places and places[-1] else ""
        verdict = f"{FAILED}{_described(error).partition(' ')[2]} at {where[:MOST_DETAIL]!a}"
    write_all(_THIRD, verdict.encode() + b"\n")


def _raised_again(line: str) -> Exception:
    """The exception that a candidate's line tells of, of its class where that is one of Python's own."""
    known, _, text = line.removeprefix(RAISED).partition(" ")
    name, _, message = text.partition(": ")
    kind = getattr(builtins, known, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message if name == known else text)
        except TypeError:  # it takes more than a message
            pass
    return RuntimeError(text)


class _Answers:
    """The lines that a candidate writes."""

    def __init__(self, most_bytes: int) -> None:
        self._data, self._left = bytearray(), most_bytes

    def line(self) -> str:
        """The next.

        Raises:
            _Gone: if there is none.
            _Flood: if all that it wrote is too much.
        """
        while (end := self._data.find(b"\n")) < 0:
            chunk = os.read(_FIRST, 2**16)
            self._left -= len(chunk)
            if not chunk:
                raise _Gone
            if self._left < 0:
                raise _Flood
            self._data += chunk
        line = self._data[:end].decode("ascii", "backslashreplace")
        del self._data[: end + 1]
        return line
