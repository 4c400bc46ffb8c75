import os

import pytest

from lab.scheduling.executors import slots
from lab.scheduling.executors.slots import (
    Devices,
    environment,
    find_devices,
    make_places,
    memory_of,
    memory_share,
)

TWO_GPUS = (
    "GPU 0: NVIDIA H100 (UUID: GPU-aaaa-1)\n"
    "GPU 1: NVIDIA H100 (UUID: GPU-bbbb-2)\n"
)  # fmt: skip
MIG = (
    "GPU 0: NVIDIA A100 (UUID: GPU-aaaa-1)\n"
    "  MIG 3g.20gb Device 0: (UUID: MIG-c)\n"
    "  MIG 3g.20gb Device 1: (UUID: MIG-d)\n"
    "GPU 1: NVIDIA A100 (UUID: GPU-bbbb-2)\n"
    "GPU 2: NVIDIA A100 (UUID: GPU-eeee-3)\n"
    "  MIG 7g.40gb Device 0: (UUID: MIG-f)\n"
)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine with four cores, no devices, and a user who set nothing."""
    for name in (
        "JAX_PLATFORMS",
        "CUDA_VISIBLE_DEVICES",
        "TPU_VISIBLE_CHIPS",
        "XLA_PYTHON_CLIENT_MEM_FRACTION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(slots, "DEV", tmp_path / "dev")
    monkeypatch.setattr(slots, "available_cpus", lambda: [0, 1, 2, 3])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slots, "_nvidia_smi", slots._nvidia_smi.__wrapped__)  # what it says changes here


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Puts an `nvidia-smi` on the path that says this."""

    def advertise(said, code=0):
        (tmp_path / "said").write_text(said)
        lines = f'while read -r line; do echo "$line"; done <{tmp_path}/said'
        script = f'#!/bin/sh\n[ "$*" = -L ] || exit 9\n{lines}\nexit {code}\n'
        (tmp_path / "nvidia-smi").write_text(script)
        (tmp_path / "nvidia-smi").chmod(0o755)

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(slots, "_usable", lambda kind: True)
    advertise(TWO_GPUS)
    return advertise


@pytest.fixture
def chips(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setattr(slots, "_usable", lambda kind: True)

    def advertise(count, folder="dev", name="accel"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (tmp_path / folder / f"{name}{i}").touch()

    return advertise


def cpus(places):
    return [[list(slot.cpus) for slot in place] for place in places]


@pytest.mark.parametrize(
    ("workers", "ranks", "dealt"),
    [
        (0, 1, [[[0]], [[1]], [[2]], [[3]]]),
        (1, 1, [[[0, 1, 2, 3]]]),
        (2, 1, [[[0, 2]], [[1, 3]]]),
        (3, 1, [[[0, 3]], [[1]], [[2]]]),
        (5, 1, [[[0]], [[1]], [[2]], [[3]], [[0]]]),
        (0, 2, [[[0], [1]], [[2], [3]]]),
        (1, 2, [[[0, 2], [1, 3]]]),
        (0, 8, [[[0], [1], [2], [3], [0], [1], [2], [3]]]),
    ],
)
def test_cores_are_dealt_out_evenly(workers, ranks, dealt):
    assert cpus(make_places(workers, ranks)) == dealt


def test_a_run_asked_onto_the_cpu_sees_no_gpu(gpus, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (place,) = make_places(1)
    assert place[0].kind == "cpu"
    assert environment(place[0], {})["CUDA_VISIBLE_DEVICES"] == ""


def test_every_gpu_is_a_place_pinned_by_uuid(gpus):
    places = make_places()
    pins = [environment(slot, {})["CUDA_VISIBLE_DEVICES"] for (slot,) in places]
    assert pins == ["GPU-aaaa-1", "GPU-bbbb-2"]
    assert cpus(places) == [[[0, 2]], [[1, 3]]]
    assert environment(places[0][0], {})["LAB_SLOT"] == "cuda GPU-aaaa-1, cores 0,2"
    assert "XLA_CLIENT_MEM_FRACTION" not in environment(places[0][0], {})
    assert len(make_places(1)) == 1
    assert len(make_places(7)) == 2


def test_runs_that_share_a_gpu_have_equal_parts_of_its_memory(gpus):
    places = make_places(per_device=3)
    pinned = [environment(slot, {}) for (slot,) in places]
    assert [pins["CUDA_VISIBLE_DEVICES"] for pins in pinned] == ["GPU-aaaa-1"] * 3 + ["GPU-bbbb-2"] * 3
    assert {pins["XLA_CLIENT_MEM_FRACTION"] for pins in pinned} == {"0.300"}
    assert {pins["TF_FORCE_GPU_ALLOW_GROWTH"] for pins in pinned} == {"true"}


def test_a_memory_share_of_the_users_own_stays(gpus, monkeypatch):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.2")
    ((slot,), *_) = make_places(per_device=2)
    assert environment(slot, {})["XLA_CLIENT_MEM_FRACTION"] == "0.2"
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
    assert "XLA_CLIENT_MEM_FRACTION" not in memory_share(2)  # JAX refuses both names at once


@pytest.mark.parametrize(
    ("said", "code", "found"),
    [
        (MIG, 0, ("MIG-c", "MIG-d", "GPU-bbbb-2", "MIG-f")),
        ("GPU 0: old\nGPU 1: old\n", 0, ("0", "1")),
        ("", 9, ("0",)),
    ],
)
def test_devices_are_read_from_nvidia_smi_else_counted(gpus, said, code, found, tmp_path):
    gpus(said, code)
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidiactl"):
        (tmp_path / "dev" / name).touch()
    assert find_devices() == Devices("cuda", found)


@pytest.mark.parametrize(("users", "found"), [("1", ("1",)), ("GPU-z, 3", ("GPU-z", "3"))])
def test_the_users_choice_of_gpus_is_honoured(gpus, monkeypatch, users, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", users)
    assert find_devices().names == found


def test_several_processes_of_a_run_have_a_gpu_each(gpus):
    (place,) = make_places(ranks=2)
    assert [slot.devices for slot in place] == [("GPU-aaaa-1",), ("GPU-bbbb-2",)]


def test_a_process_can_have_several_gpus(gpus):
    gpus("".join(f"GPU {i}: H100 (UUID: GPU-{i})\n" for i in range(5)))
    pins = [
        [environment(slot, {})["CUDA_VISIBLE_DEVICES"] for slot in place] for place in make_places(devices=2)
    ]
    assert pins == [["GPU-0,GPU-1"], ["GPU-2,GPU-3"]]
    (place,) = make_places(ranks=2, devices=2)
    assert [slot.name for slot in place] == ["cuda GPU-0,GPU-1, cores 0,2", "cuda GPU-2,GPU-3, cores 1,3"]


@pytest.mark.parametrize(("devices", "bounds"), [(2, "1,2,1"), (4, "2,2,1")])
def test_a_process_can_have_several_chips(chips, devices, bounds):
    chips(4)
    pinned = [environment(slot, {}) for (slot,) in make_places(devices=devices)]
    together = [",".join(pins["TPU_VISIBLE_CHIPS"] for pins in pinned), len(pinned)]
    assert together == ["0,1,2,3", 4 // devices]
    assert {pins["TPU_CHIPS_PER_PROCESS_BOUNDS"] for pins in pinned} == {bounds}


@pytest.mark.parametrize(("folder", "name"), [("dev", "accel"), ("dev/vfio", "")])
def test_every_chip_is_a_place_of_its_own(chips, folder, name):
    chips(4, folder, name)
    pinned = [environment(slot, {}) for (slot,) in make_places()]
    assert [pins["TPU_VISIBLE_CHIPS"] for pins in pinned] == ["0", "1", "2", "3"]
    assert {pins["TPU_CHIPS_PER_PROCESS_BOUNDS"] for pins in pinned} == {"1,1,1"}
    assert {pins["TPU_PROCESS_BOUNDS"] for pins in pinned} == {"1,1,1"}


def test_what_jax_could_not_use_is_not_counted(gpus, chips, monkeypatch):
    chips(4)
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(slots, "_usable", lambda kind: False)
    assert find_devices() == Devices("cpu")
    monkeypatch.setattr(slots, "_usable", lambda kind: kind == "tpu")
    assert find_devices().kind == "tpu"
    monkeypatch.undo()
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert slots._usable("cuda")
    assert not slots._usable("tpu")


def test_a_cuda_plugin_of_jax_is_found_without_importing_it(monkeypatch, tmp_path):
    import importlib.util
    from types import SimpleNamespace

    monkeypatch.setenv("KERAS_BACKEND", "jax")
    found = {"jax_plugins": SimpleNamespace(submodule_search_locations=[str(tmp_path)]), "libtpu": None}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    assert not slots._usable("cuda")
    assert not slots._usable("tpu")
    (tmp_path / "xla_cuda12").mkdir()
    assert slots._usable("cuda")


def test_secrets_stay_with_the_driver_and_pins_overrule_the_user(gpus, monkeypatch):
    monkeypatch.setenv("STORAGE", "postgresql://me:sesame@host/name")
    monkeypatch.setenv("PGPASSWORD", "sesame")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    seen = environment(make_places()[1][0], {"OMP_NUM_THREADS": "9", "OTHER": "x"})
    assert "sesame" not in str(seen)
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"], seen["OTHER"]) == ("1", "7", "x")
    assert (seen["TF_NUM_INTRAOP_THREADS"], seen["LAB_CPUS"]) == ("2", "1,3")
    assert seen["LAB_PARENT"] == str(os.getpid())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": -1}, r"`workers` must be >= 0 \(0: as many as there is room for\), but got workers=-1"),
        ({"ranks": 0}, "`ranks` must be >= 1, but got ranks=0"),
        ({"per_device": 0}, "`per_device` must be >= 1, but got per_device=0"),
        ({"per_device": 2}, "`per_device` must be 1 on cpu, but got per_device=2"),
        ({"devices": 0}, "`devices` must be >= 1, but got devices=0"),
        ({"devices": 2}, "`devices` must be 1 on cpu, but got devices=2"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_places(**arguments)


def test_more_than_the_gpus_there_are_is_refused(gpus):
    with pytest.raises(
        ValueError, match=r"`ranks` x `devices` must be at most 2, .* cuda devices here, but got ranks=3 and"
    ):
        make_places(ranks=3)
    for more in ({"ranks": 2}, {"devices": 2}):
        with pytest.raises(ValueError, match="`per_device` must be 1 for runs on several devices"):
            make_places(per_device=2, **more)


def test_what_a_tpu_cannot_do_is_refused(chips):
    with pytest.raises(
        ValueError, match="JAX_PLATFORMS=tpu must name what this machine has, but no tpu device"
    ):
        make_places()
    chips(4)
    with pytest.raises(ValueError, match=r"`ranks` must be 1 on tpu: .*; but got ranks=2"):
        make_places(ranks=2)
    with pytest.raises(ValueError, match="`per_device` must be 1 on tpu, but got per_device=2"):
        make_places(per_device=2)
    with pytest.raises(
        ValueError, match=r"`devices` must be one of \[1, 2, 4, 8\] on tpu, but got devices=3"
    ):
        make_places(devices=3)


@pytest.mark.parametrize("kind", ["cuda", "tpu"])
def test_devices_that_the_backend_cannot_use_are_named_with_what_installs_it(kind, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", kind)
    monkeypatch.setattr(slots, "_names", lambda kind: ("0",))
    monkeypatch.setattr(slots, "_usable", lambda kind: False)
    with pytest.raises(ValueError, match=rf"JAX_PLATFORMS={kind} needs .*: make setup EXTRAS={kind}$"):
        find_devices()


@pytest.mark.parametrize("counts", [(10**9,), (101, 100), (0, 10**9), (1, 1, 10**9)])
def test_more_processes_than_anyone_means_are_refused_at_once(counts):
    with pytest.raises(ValueError, match=r"must be at most 10,000 processes at once, but got"):
        make_places(*counts)


def test_the_memory_of_a_gpu_is_the_largest_that_is_told(gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(slots, "_nvidia_smi", lambda *options: "81559\n[N/A]\n40960\n")
    assert memory_of("cuda") == 81559 * 2**20
    for said in (None, "", "[N/A]"):
        monkeypatch.setattr(slots, "_nvidia_smi", lambda *options, said=said: said)
        assert memory_of("cuda") is None
    assert memory_of("tpu") is None
    assert memory_of("cpu") > 2**28
