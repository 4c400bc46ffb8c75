"""The example files parse, and name only options and targets that exist."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from scheduling_bench import wait_for
from typer.main import get_command

import lab.__main__

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TEXTS = sorted([ROOT / "docs" / "cluster.md", *EXAMPLES.iterdir()])


def ablate_options():
    return {name for p in get_command(lab.__main__.app).commands["ablate"].params for name in p.opts}


def unknown(text):
    """Options of `lab ablate`, and targets and variables of `make`, that do not exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M)) | set(
        re.search(r"^ABLATIONS := (.*)$", makefile, re.M)[1].split()
    )
    wrong = set()
    for command in re.findall(r"lab ablate ((?:[^\n`]|\n\s+--)*)", text):
        wrong |= set(re.findall(r"--[a-z-]+", command)) - ablate_options()
    for target, rest in re.findall(r"`make ([a-z-]+)([^`]*)`", text):
        wrong |= {target} - targets
        wrong |= {name for name in re.findall(r"([A-Z_]+)=", rest) if f"$({name})" not in makefile}
    for name in re.findall(r"`([A-Z_]+)=[^`]*`", text):
        if not name.startswith("JAX_") and f"$({name})" not in makefile:
            wrong.add(name)
    return wrong


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_an_example_names_exists(path):
    assert unknown(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("python -m lab ablate x --preset gpu\n  --engin ray", "--engin"),
        ("`make cross`", "cross"),
        ("`make crossover WORKRES=2`", "WORKRES"),
        ("use `SHRED=s3://x`", "SHRED"),
    ],
)
def test_the_check_can_fail(text, wrong):
    assert unknown(text) == {wrong}


def test_the_batch_script_is_a_script():
    subprocess.run(["bash", "-n", EXAMPLES / "slurm.sbatch"], check=True)
    assert "--signal=B:USR1@60" in (EXAMPLES / "slurm.sbatch").read_text(encoding="utf-8")


DRIVER = """#!/bin/bash
echo "$@" >said
trap 'sleep 0.5; exit 75' USR1
touch up
[ "$BEHAVE" = finish ] && exit 3
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(("behave", "code", "requeued"), [("finish", 3, False), ("wait", 75, True)])
def test_the_batch_script_hands_the_notice_on_and_requeues(tmp_path, behave, code, requeued):
    for name, text in (
        (".venv/bin/python", DRIVER),
        ("bin/scontrol", '#!/bin/bash\necho "$@" >requeued\n'),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_ID": "7",
        "BEHAVE": behave,
    }
    command = ["bash", EXAMPLES / "slurm.sbatch", "attribution", "--ranks", "2"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as batch:
        wait_for((tmp_path / "up").exists)
        if behave == "wait":
            batch.send_signal(signal.SIGUSR1)
        assert batch.wait(timeout=60) == code
    assert (
        tmp_path / "said"
    ).read_text() == "-m lab ablate attribution --ranks 2 --preset gpu --engine local\n"
    assert (tmp_path / "requeued").exists() == requeued


def test_the_manifest_is_a_ray_job_whose_workers_have_a_chip():
    job = yaml.safe_load((EXAMPLES / "gke-tpu.yaml").read_text(encoding="utf-8"))
    assert job["kind"] == "RayJob"
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["google.com/tpu"] == "1"
