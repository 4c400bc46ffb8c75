"""The arrows of the design: who may import whom, read from the source without importing it."""

import ast
from pathlib import Path

import pytest

import lab
from lab.ablation import ABLATIONS_DIR
from lab.code import closure
from lab.version import ENGINE

ROOTS = {"lab": Path(lab.__file__).parent, "ablations": ABLATIONS_DIR}
BASE = {
    *(
        "lab",
        "lab.ablation",
        "lab.arms",
        "lab.code",
        "lab.config",
        "lab.console",
        "lab.environment",
        "lab.factors",
    ),
    *("lab.files", "lab.metrics", "lab.registration", "lab.results", "lab.sections"),
    *("lab.threefry", "lab.version"),
    *("lab.models.architecture", "lab.models.sizes"),
}
GROUND = {"data", "models", "objectives", "tracking"}
MAY_IMPORT = {
    **{package: {package} for package in GROUND},
    "evaluation": {"evaluation", *GROUND},
    "training": {"training", "evaluation", *GROUND},
    "scheduling": {"scheduling", "training", "evaluation", *GROUND},
    "reporting": {"reporting", "training", "evaluation", *GROUND},
    "__init__": {"api"},
    "__main__": {"api", "scheduling", "reporting", "training", "evaluation", *GROUND},
    "api": {"scheduling", "reporting", "training"},
    "ablations": {"scheduling", "reporting", "training", "evaluation", *GROUND},
}
BACKENDS = {"jax", "jaxlib", "tensorflow", "torch"}


def sources():
    for name, root in ROOTS.items():
        for path in sorted(root.rglob("*.py")):
            yield ".".join((name, *path.relative_to(root).with_suffix("").parts)), path


def imported(source):
    """The absolute names of the modules that a source file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module):
    """`lab.data.cache` -> `data`; `ablations.crossover` -> `ablations`."""
    first, *rest = module.split(".")
    return rest[0] if first == "lab" and rest else first


def is_base(module):
    return module in BASE or module.rpartition(".")[0] in BASE - {"lab"}


def wrong_arrows(module, source):
    """What a module of the lab or an ablation imports though it may not."""
    ours = [name for name in imported(source) if name.split(".")[0] in ROOTS and not is_base(name)]
    if is_base(module):
        return ours
    return [name for name in ours if part(name) not in MAY_IMPORT.get(part(module), set())]


def wrong_backends(module, source):
    """Backends that a module imports though it is not that backend's own file in lab/training."""
    found = {name.split(".")[0] for name in imported(source)} & BACKENDS
    home = module.startswith("lab.training.")
    return {backend for backend in found if not (home and module.endswith(f"_{backend}"))}


MODULES = dict(sources())


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    assert wrong_arrows(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_backends_are_imported_in_their_own_files_only(module):
    assert wrong_backends(module, MODULES[module].read_text(encoding="utf-8")) == set()


def test_what_trains_knows_nothing_of_how_it_is_measured_kept_and_read():
    """So that nothing of it can make a run new (lab/code.py)."""
    engine = set(closure(ENGINE))
    assert {part(module) for module in engine} == {
        "data",
        "models",
        "objectives",
        "training",
        "factors",
        "threefry",
    }
    assert {"lab.data.windows", "lab.objectives.objective", "lab.training.optimizer"} <= engine
    assert not engine & {"lab.training.run", "lab.training.measured", "lab.training.checkpoint"}
    assert "lab.data.ngram" not in engine


def test_every_module_beside_the_packages_is_a_base_module():
    beside = {module for module in MODULES if module.count(".") == 1 and module.startswith("lab.")}
    assert beside - {"lab.__init__", "lab.__main__", "lab.api"} == {
        name for name in BASE if name.count(".") == 1
    }


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        (
            "lab.data.cache",
            "from lab.tracking.records import read_rows",
            ["lab.tracking.records.read_rows"],
        ),
        ("lab.results", "from lab.evaluation.measurements import x", ["lab.evaluation.measurements.x"]),
        ("lab.results", "from lab.ablation import Cell\nfrom lab.models.sizes import SIZES", []),
        ("lab.version", "def f():\n    import lab.training.engine", ["lab.training.engine"]),
        ("lab.models.block", "def f():\n    import lab.objectives.draws", ["lab.objectives.draws"]),
        ("lab.evaluation.nll", "from lab.training import run", ["lab.training.run"]),
        ("lab.scheduling.plan", "from lab.reporting.report import x", ["lab.reporting.report.x"]),
        ("lab.scheduling.plan", "import ablations.crossover", ["ablations.crossover"]),
        ("lab.__main__", "from ablations import crossover", ["ablations.crossover"]),
        ("lab.scheduling.plan", "from lab.api import report", ["lab.api.report"]),
        ("lab.config", "from lab.data.cache import x", ["lab.data.cache.x"]),
        ("lab.data.cache", "from lab.config import DataConfig\nfrom lab.data.splits import x", []),
        ("lab.objectives.draws", "from lab.models.sizes import SIZES", []),
        (
            "ablations.crossover",
            "from lab.arms import arm_values\nfrom lab.ablation import Ablation",
            [],
        ),
    ],
)
def test_the_arrow_check_can_fail(module, source, wrong):
    assert wrong_arrows(module, source) == wrong


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("lab.training.loop", "import jax.numpy", {"jax"}),
        ("lab.training.train_step_torch", "import torch\nimport jax", {"jax"}),
        ("lab.models.block_jax", "import jax", {"jax"}),
        ("lab.training.train_step_jax", "def f():\n    from jax import lax", set()),
    ],
)
def test_the_backend_check_can_fail(module, source, wrong):
    assert wrong_backends(module, source) == wrong
