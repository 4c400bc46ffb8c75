import os
import platform
import subprocess
import sys

import pytest

from lab import environment
from lab.environment import available_cpus, cpu_model, require_backend, versions


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


@pytest.mark.parametrize("backend", ["foo", "Jax", "JAX", " jax", "numpy", "openvino"])
def test_a_backend_that_the_lab_cannot_train_with_is_refused(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(ValueError, match=r"of \['jax', 'tensorflow', 'torch'\], but got KERAS_BACKEND='.*'"):
        require_backend()


@pytest.mark.parametrize(
    ("backend", "installs"), [("torch", "make setup EXTRAS=torch"), ("tensorflow", "make setup")]
)
def test_a_backend_that_is_missing_is_named_with_what_installs_it(backend, installs, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == backend else object())
    with pytest.raises(ValueError, match=rf"KERAS_BACKEND={backend} needs {backend}, .*: {installs}$"):
        require_backend()


@pytest.mark.parametrize("platforms", ["foo", "CPU", "cpu, cuda", "cpu,", "rocm", "cuda;cpu"])
def test_platforms_that_jax_does_not_know_are_refused(platforms, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    with pytest.raises(ValueError, match=rf"must be of \['cpu', .*but got JAX_PLATFORMS='{platforms}'"):
        require_backend()
    for known in ("", "cpu", "cuda,cpu", "gpu", "tpu"):
        monkeypatch.setenv("JAX_PLATFORMS", known)
        require_backend()


def test_an_empty_backend_is_as_none_whatever_keras_json_says(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    code = "import os, lab; print(os.environ['KERAS_BACKEND'])"
    variables = {"KERAS_BACKEND": "", "KERAS_HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, check=True
    )
    assert said.stdout == b"jax\n"
