"""benchmarks/gpu.sh runs where there is no time to mend it: what it names must be there."""

import re
import subprocess
from pathlib import Path

from lab.ablation import cells, load_ablation

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def test_it_is_sound_and_names_tests_that_exist():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    block = re.search(r"^NUMERICS=\(.*?^\)", SCRIPT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    told = subprocess.run(
        ["bash", "-c", f'{block[0]}; printf "%s\\n" "${{NUMERICS[@]}}"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    named = [line.split("::") for line in told.stdout.split("\n") if line]
    assert len(named) > 20
    for file, *test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(f"def {name.partition('[')[0]}(" in text for name in test)


def test_its_ablation_has_valid_cells():
    ablation = load_ablation(str(ROOT / "benchmarks" / "gpu_crossover.py"))
    made = cells(ablation, "gpu")
    assert len(made) == 45
    assert {cell.config.model.dtype for cell in made} == {"mixed_bfloat16"}
    assert cells(ablation, "smoke")
