"""Run programs that a model wrote, and say which of them do what they should.

A program is judged by what its functions return, never by what it says of itself. It runs in a process
behind walls (lab/evaluation/sandbox_walls.py), from which only values come, as text. With `calls` the
expected values stay in this process, and texts are compared. With a `test`, source in the style of HumanEval
and MBPP, the test runs in another process, where a function of the tested one's name asks the first by
values: the program and the assertions never share memory, so there is no marker to print, no `assert` to
disarm, no `__eq__` to lie with, and no secret to find. What is left to forge are the values, and these are
what is asked for.

The price: only values of Python's own types come back (`lab.evaluation.literals`). A test that needs the
program's own classes (3 of MBPP's 974) fails whatever the program does, as does one that looks whether an
argument was changed.

Where Linux gives no such walls (`Sandbox.require`), nothing is run at all.
"""

import collections
import importlib.util
import itertools
import json
import marshal
import math
import os
import select
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lab
from lab.evaluation import sandbox_child as child
from lab.evaluation.literals import literal
from lab.evaluation.sandbox_walls import Limits

Outcome = Literal["passed", "failed", "syntax", "timeout", "killed"]

_GRACE_SECONDS = 30.0  # beyond a program's own, before its keeper counts as lost
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null")


class Call(NamedTuple):
    """What a function must return.

    Attributes:
        function: its name in the program.
        arguments: values of Python's own types.
        expected: such a value; of exactly these types, all through. Floats must be equal.
    """

    function: str
    arguments: tuple[Any, ...]
    expected: Any


class Program(NamedTuple):
    """A program and what it must do: either `calls`, or `test` with `entry_point`.

    Attributes:
        source: of the program, one module.
        calls: in this order, in one process.
        test: source that raises unless the program is right. It runs apart from the program.
        entry_point: the function of the program that the test may call.
        setup: source that runs before the test: what the test needs but for `entry_point`.
    """

    source: str
    calls: tuple[Call, ...] = ()
    test: str = ""
    entry_point: str = ""
    setup: str = ""


class Verdict(NamedTuple):
    """How a program did.

    Attributes:
        outcome: `passed`; `failed`, a wrong value, an exception or an early end; `syntax`, no Python;
            `timeout`, of wall or CPU time; `killed`, by a signal.
        detail: what went wrong, one line of at most 300 characters. The program has a say in it.
    """

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class Sandbox:
    """Where programs run that nobody trusts.

    Args:
        limits: what each program may use.
        workers: programs that run at once, each on a core.
        packages: installed packages that programs and tests may import beside the standard library.

    Raises:
        ValueError: if a limit is not positive, there are no workers, or a package is not there.
    """

    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, limit in (*self.limits._asdict().items(), ("workers", self.workers)):
            whole = name != "seconds"
            if not (0 < limit < math.inf) or (whole and not isinstance(limit, int)):
                kind = "whole number" if whole else "number"
                raise ValueError(f"`{name}` must be a positive {kind}, but got {name}={limit}.")
        _package_folders(self.packages)

    def require(self) -> None:
        """Make sure that there are walls, and that they hold what they should.

        Raises:
            ValueError: with the reason, if this system has no user namespaces or lacks another part.
        """
        with _served(self):
            pass

    def run(self, programs: Sequence[Program]) -> list[Verdict]:
        """Judge programs, each in an empty world of its own.

        Raises:
            ValueError: as `require`, or if a program has not exactly one of `calls` and `test`, or a value is
                not of Python's own types. Nothing was run then.
        """
        for index, program in enumerate(programs):
            _frames(index, program)
        self.require()
        waiting = enumerate(programs)
        verdicts: dict[int, Verdict] = {}
        with ThreadPoolExecutor(self.workers) as threads:
            workers = [threads.submit(_work, self, waiting, verdicts) for _ in range(self.workers)]
            try:
                for worker in workers:
                    worker.result()
            finally:  # after Ctrl-C, too
                collections.deque(waiting, maxlen=0)
        return [verdicts[index] for index in range(len(programs))]


def _work(sandbox: Sandbox, waiting: Iterator[tuple[int, Program]], verdicts: dict[int, Verdict]) -> None:
    """Judge programs until none waits. Where what serves them is lost, that program has one more try."""
    programs, lost = waiting, set[int]()
    while True:
        with _served(sandbox) as served:
            for index, program in programs:
                try:
                    verdicts[index] = _judge(program, served.ask(_frames(index, program)), sandbox.limits)
                except _LostError:
                    break
            else:
                return
        verdicts[index] = Verdict("killed", "its keeper ended before it, twice")
        programs = waiting if index in lost else itertools.chain([(index, program)], waiting)
        lost.add(index)


def _frames(index: int, program: Program) -> tuple[bytes, bytes]:
    """What is sent of a program: first what its process may know, then its test."""
    if bool(program.calls) == bool(program.test):
        raise ValueError(f"program {index} must have either `calls` or a `test`, but got both or neither.")
    if program.test and not program.entry_point.isidentifier():
        raise ValueError(
            f"`entry_point` must be the name of a function, but program {index} has {program.entry_point!r}."
        )
    calls = []
    for call in program.calls:
        try:
            literal(call.arguments)
            literal(call.expected)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"program {index}, call of {call.function!r}: {error}") from error
        # Each apart, or they would share objects, and one call could change the arguments of another.
        calls.append(marshal.dumps((call.function, call.arguments)))
    test = marshal.dumps((program.setup, program.entry_point, program.test)) if program.test else b""
    return marshal.dumps((program.source, calls)), test


def _judge(program: Program, report: dict[str, Any], limits: Limits) -> Verdict:
    """The verdict on a program, from what its keeper reports."""
    lines, stopped = report["lines"], report["stopped"]
    if stopped == "timeout":
        return Verdict("timeout", f"no verdict after {limits.seconds:g} s")
    if stopped == "overflow":
        return Verdict("failed", f"answered more than {limits.answer_bytes} bytes")
    wrong = _wrong_answer(program, lines) if program.calls else _wrong_test(lines)
    if wrong:
        return wrong
    if stopped or lines == [child.GONE]:
        return _early_end(report, limits)
    return Verdict("failed", report["remains"]) if report["remains"] else Verdict("passed")


def _wrong_answer(program: Program, lines: list[str]) -> Verdict | None:
    """The first line of a candidate that is wrong; None where each that is there is right."""
    if lines and lines[0] != child.LOADED:
        return _not_loaded(lines[0])
    for call, line in zip(program.calls, lines[1:], strict=False):
        if line != child.VALUE + literal(call.expected):
            asked = f"{call.function}{literal(call.arguments)}"
            gave = _without_class(line) if line.startswith(child.RAISED) else line.removeprefix(child.VALUE)
            return Verdict(
                "failed", _clean(f"{asked[:100]} gave {gave[:100]}, not {literal(call.expected)[:60]}")
            )
    return None


def _wrong_test(lines: list[str]) -> Verdict | None:
    """What an examiner found wrong; None where nothing, or it has not said."""
    if not lines or lines[0] in (child.PASSED, child.GONE):
        return None
    if lines[0].startswith(child.NOT_LOADED):
        return _not_loaded(lines[0].removeprefix(child.NOT_LOADED))
    return Verdict("failed", _clean(lines[0].removeprefix(child.FAILED)))


def _not_loaded(line: str) -> Verdict:
    outcome: Outcome = "syntax" if line.startswith(child.SYNTAX) else "failed"
    return Verdict(outcome, _clean(_without_class(line)))


def _early_end(report: dict[str, Any], limits: Limits) -> Verdict:
    code = report["code"]
    # The kernel counts by ticks for its limit, and by the clock for what it reports.
    if code == -signal.SIGKILL and report["cpu_seconds"] > limits.cpu_seconds / 2:
        return Verdict("timeout", f"{limits.cpu_seconds} s of CPU time used up")
    if code is None:
        return Verdict("failed", "it closed its answers")
    if code < 0:
        return Verdict("killed", f"by signal {-code}, before its verdict")
    return Verdict("failed", f"it ended before its verdict, with code {code}")


def _without_class(line: str) -> str:
    """What a line says of an exception, without the class that a test may catch."""
    return line.partition(" ")[2].partition(" ")[2] or line


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[: child.MOST_DETAIL])


class _LostError(Exception):
    """The process that keeps programs has ended, or does not answer."""


class _Served:
    """The driver's end of a process that serves programs (lab/evaluation/sandbox_child.py)."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._limits = sandbox.limits
        root = str(Path(lab.__file__).parent.parent)
        start = f"import sys; sys.path.insert(0, {root!r}); from {child.__name__} import main; main()"
        # Without the environment, and what is installed. Sets of strings have one order, whenever it runs.
        self._process = subprocess.Popen(
            # At the end, for whoever looks at the list of processes: whom it serves.
            [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", start, f"for={os.getpid()}"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._control, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()

    def enter(self, packages: Sequence[str]) -> str:
        """Have it go behind its walls; empty, or why it cannot."""
        settings: Any = (*_library_folders(), list(packages), tuple(self._limits))
        try:
            child.write_frame(self._control, marshal.dumps(settings))
            return self._frame().decode()
        except _LostError:
            return "the process that was to enter them ended"

    def ask(self, frames: tuple[bytes, bytes]) -> dict[str, Any]:
        """The report on a program.

        Raises:
            _LostError: if there is none.
        """
        try:
            child.write_all(self._control, b"+")
            for frame in frames:
                child.write_frame(self._control, frame)
        except BrokenPipeError as error:
            raise _LostError from error
        return json.loads(self._frame())

    def close(self) -> None:
        """End it and all that it keeps."""
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _frame(self) -> bytes:
        if not select.select([self._out], [], [], self._limits.seconds + _GRACE_SECONDS)[0]:
            raise _LostError
        try:
            return child.read_frame(self._out)
        except EOFError as error:
            raise _LostError from error


@contextmanager
def _served(sandbox: Sandbox) -> Iterator[_Served]:
    """A process that serves programs, behind walls that were tried.

    Raises:
        ValueError: with the reason why there are none.
    """
    if sys.platform != "linux":
        raise ValueError(
            f"programs of a model run on Linux alone, which has the walls, but this is {sys.platform}."
        )
    served = _Served(sandbox)
    try:
        refused = served.enter(_package_folders(sandbox.packages))
        if not refused:
            probe = Program("def f(x):\n    return x + 1", (Call("f", (1,), 2),))
            try:
                verdict = _judge(probe, served.ask(_frames(0, probe)), sandbox.limits)
            except _LostError:
                verdict = Verdict("killed", "its keeper ended before it")
            if verdict.outcome not in ("passed", "timeout"):  # a busy machine has walls, too
                refused = f"a program that is right {verdict.outcome}: {verdict.detail}"
        if refused:
            raise ValueError(
                "a model's programs run behind user, mount, PID and network namespaces or not at all, and "
                f"here they cannot: {refused}. Nothing was run. Ubuntu 24.04 and later allow them by "
                "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`; many containers never do."
            )
        yield served
    finally:
        served.close()


def _library_folders() -> tuple[list[str], list[str]]:
    """What programs may read, Python's library and the system's; and what of it not, installed packages."""
    library = os.path.realpath(Path(sysconfig.get_path("stdlib")).parent)
    shown = [path for path in dict.fromkeys((library, *_SYSTEM)) if Path(path).exists()]
    hidden = {os.path.realpath(each) for path in shown for each in Path(path).glob("python*/*-packages")}
    return shown, sorted(hidden)


def _package_folders(packages: Sequence[str]) -> list[str]:
    """The folders of packages, and those of the libraries that come with them.

    Raises:
        ValueError: if one is not installed, or is no folder.
    """
    folders = []
    for name in packages:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"`packages` must name installed packages, but got {name!r}.")
        there = Path(spec.submodule_search_locations[0])
        folder = Path(os.path.realpath(there.parent)) / there.name  # behind walls no link leads on
        folders += [path for path in (str(folder), f"{folder}.libs") if Path(path).is_dir()]
    return folders
