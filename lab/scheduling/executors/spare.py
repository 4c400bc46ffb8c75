"""A process that was started before its attempt, and waits with everything imported: the driver's side."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from lab.scheduling.executors.executor import Attempt
from lab.scheduling.executors.process import arguments, rank_log


class Spare:
    """A process in stand-by. It serves one attempt, so a crash there harms no other.

    Args:
        command: what starts it.
        environment: its pins; it serves only attempts that would have the same.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # until its attempt says which log
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def take(self, attempt: Attempt, environment: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
        """Hand it an attempt; None, and it ends, if it cannot serve."""
        stdin = self._process.stdin
        if environment != self._environment or self._process.poll() is not None or stdin is None:
            self.end()
            return None
        log = rank_log(attempt.logdir, 0)
        log.touch()
        order = json.dumps({"arguments": arguments(attempt.absolute()), "log": str(log.absolute())})
        try:
            stdin.write(f"{order}\n".encode())
            stdin.close()
        except BrokenPipeError:
            self.end()
            return None
        return self._process

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
