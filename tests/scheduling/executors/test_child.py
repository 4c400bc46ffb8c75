import os
import subprocess
import sys
from pathlib import Path

import pytest
from scheduling_bench import alive, wait_for

# Starts a child that would sleep for long, and says its id.
PARENT = """
import os, subprocess, sys, time
code = (
    "from lab.scheduling.executors import child; child.enter(); print('in', flush=True);"
    "import time; time.sleep(600)"
)
environment = {**os.environ, "LAB_PARENT": sys.argv[1] or str(os.getpid())}
process = subprocess.Popen(
    [sys.executable, "-c", code], env=environment, start_new_session=True, stdout=subprocess.PIPE
)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_child_ends_when_its_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, ""], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive(child))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes")
def test_a_child_keeps_to_its_cores_and_hands_nothing_on():
    cpu = max(os.sched_getaffinity(0))
    code = (
        "import os; from lab.scheduling.executors import child; child.enter();"
        "print(sorted(os.sched_getaffinity(0)), 'LAB_CPUS' in os.environ, 'LAB_PARENT' in os.environ)"
    )
    environment = {**os.environ, "LAB_CPUS": str(cpu), "LAB_PARENT": str(os.getpid())}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == f"[{cpu}] False False"


def test_without_a_driver_nothing_changes():
    code = (
        "import threading; from lab.scheduling.executors import child; child.enter();"
        "print(threading.active_count())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "1"
