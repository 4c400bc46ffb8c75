"""What a run's process does for its driver before it computes: keep to its cores, end when the driver ends.

The driver says both through the environment, because both must hold before JAX is imported.
"""

import faulthandler
import os
import signal
import threading
import time

CPUS = "LAB_CPUS"
PARENT = "LAB_PARENT"


def enter() -> None:
    """Obey `LAB_CPUS` (core numbers) and `LAB_PARENT` (a process id); does nothing without them."""
    cpus, parent = os.environ.pop(CPUS, ""), os.environ.pop(PARENT, "")
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    if parent:
        faulthandler.enable()  # a driver that sees no progress asks for the stacks by SIGABRT
        threading.Thread(target=_end_with, args=(int(parent),), name="end-with-driver", daemon=True).start()


def _end_with(parent: int) -> None:
    """Kill this process once its parent is gone: an orphan would train beside its own next attempt."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
