import subprocess
import sys

import pytest

from lab.training import memory


def test_the_settings_are_taken_and_do_no_harm():
    code = (
        "from lab.training.memory import keep_freed_memory\n"
        "taken = [keep_freed_memory(), keep_freed_memory()]\n"
        "import numpy as np\n"
        "total = sum(float(np.ones(300_000).sum()) for _ in range(50))\n"
        "print(taken, total)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() in (["[True,", "True]", "15000000.0"], ["[False,", "False]", "15000000.0"])


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_c_library_without_the_settings_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert memory.keep_freed_memory() is False


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.delattr(memory.ctypes, "CDLL")
    assert memory.keep_freed_memory() is False
