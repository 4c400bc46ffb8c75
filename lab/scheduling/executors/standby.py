"""A process that was started before its attempt, and waits with everything imported: its own side."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab.scheduling.executors import child
from lab.scheduling.executors.local import COMMAND


def start_afresh(arguments: Sequence[str]) -> None:
    """Become a new process of the same number, which imports the code as it is now."""
    os.environ[child.PARENT] = str(os.getppid())  # its cores it keeps
    os.execv(sys.executable, [*COMMAND, *arguments])


def get_ready(config: Path | None, cache: Path) -> None:
    """Import what a run needs, and rehearse one if that may be.

    Args:
        config: the configuration to rehearse; None where the device belongs to another process.
        cache: where tokenized corpora are kept.
    """
    import lab.training.measuring  # noqa: F401  # and the run, which it imports
    from lab.config import load_config
    from lab.scheduling.executors.rehearsal import rehearse

    if config is not None:
        with suppress(Exception):  # what is wrong with a run, the run itself says in its own log
            rehearse(load_config(config), cache)


def wait_for_order() -> list[str] | None:
    """What `python -m lab` is to be given, by the one line on standard input; its log is taken as our output.

    Returns:
        None if the driver has gone.
    """
    line = sys.stdin.readline()
    if not line:
        return None
    order = json.loads(line)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    return list(order["arguments"])
