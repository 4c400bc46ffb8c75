import platform
import subprocess
import sys

import pytest

from lab import environment
from lab.environment import available_cpus, cpu_model, versions


def test_versions_name_python_and_installed_packages_without_importing_them():
    code = (
        "import sys; from lab.environment import versions; found = versions();"
        "assert found['python'] == '.'.join(map(str, sys.version_info[:3]));"
        "assert found['keras'].startswith('3.');"
        "assert not {'keras', 'jax', 'tensorflow', 'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_versions_leave_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("keras", "no-such-distribution"))
    assert set(versions()) == {"python", "keras"}


def test_the_processor_has_the_name_that_the_system_gives_it(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A Chip @ 2 GHz: fast\nmodel name\t: Another\n")
    assert cpu_model(cpuinfo) == "A Chip @ 2 GHz: fast"


@pytest.mark.parametrize("text", [None, "", "model name\t:\nflags: a\n"])
def test_a_processor_without_a_name_has_its_architecture(tmp_path, text):
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert cpu_model(cpuinfo) == (platform.processor() or platform.machine()) != ""


def test_the_cores_are_those_that_the_process_may_use():
    code = (
        "import os; from lab.environment import available_cpus; own = available_cpus()[:1];"
        "os.sched_setaffinity(0, own); assert available_cpus() == own"
    )
    assert available_cpus() == sorted(set(available_cpus())) != []
    if sys.platform == "linux":
        subprocess.run([sys.executable, "-c", code], check=True)
