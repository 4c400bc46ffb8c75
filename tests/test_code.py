"""Which modules decide a number, and that an edit of any other changes no hash."""

import shutil
import textwrap

import pytest

from lab import code
from lab.code import BACKENDS, closure, closure_hash
from lab.evaluation.measurements import MODULES
from lab.version import ENGINE

REAL_LAB = code.LAB_DIR


@pytest.fixture
def made_lab(tmp_path, monkeypatch):
    """`made_lab(files)`: from now on these are the lab's modules, in a folder of their own."""
    numbers = iter(range(100))

    def make(files):
        folder = tmp_path / f"lab_{next(numbers)}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.setattr(code, "LAB_DIR", folder)

    return make


FUNCTION = "def f(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def f(x):\n    return 2 * x  # doubles\n", True),
        ('def f(x):\n    """Doubles."""\n    return 2 * x\n', True),
        ('"""What doubles."""\n\n\ndef f(\n    x,\n):\n    return (2 * x)\n', True),
        ("def f(x):\r\n    return 2 * x\r\n", True),
        ("def f(x):\n    return 3 * x\n", False),
        ("def f(y):\n    return 2 * y\n", False),
        ('def f(x):\n    "no docstring" + ""\n    return 2 * x\n', False),
        (FUNCTION + "y = 1\n", False),
    ],
    ids=["comment", "docstring", "layout", "ends of lines", "formula", "name", "text", "statement"],
)
def test_meaning_counts_and_how_it_is_written_does_not(made_lab, text, same):
    made_lab({"a.py": FUNCTION})
    before = closure_hash("lab.a")
    assert len(before) == 16
    made_lab({"a.py": text})
    assert (closure_hash("lab.a") == before) == same


def test_docstrings_of_classes_and_methods_do_not_count_but_texts_do(made_lab):
    silent = "class A:\n    async def f(self):\n        return 'text'\n"
    told = silent.replace("    async", '    """A."""\n\n    async').replace(
        "return", '"""F."""\n        return'
    )
    hashes = []
    for text in (silent, told, silent.replace("text", "other")):
        made_lab({"a.py": text})
        hashes.append(closure_hash("lab.a"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_name_of_a_module_counts(made_lab):
    made_lab({"a.py": FUNCTION, "b.py": FUNCTION})
    assert closure_hash("lab.a") != closure_hash("lab.b")


CHAIN = {
    "a.py": "from lab.b import f\n",
    "b.py": "import numpy\nimport lab.part.c\n",
    "part/__init__.py": "x = 1\n",
    "part/c.py": "import lab.part.d\n",
    "part/d.py": "from lab import a\n",  # a ring
    "e.py": "y = 2\n",
}


def test_a_closure_is_what_is_imported_and_the_packages_on_the_way(made_lab):
    made_lab(CHAIN)
    assert closure("lab.a") == ["lab.a", "lab.b", "lab.part", "lab.part.c", "lab.part.d"]
    assert closure("lab.e") == ["lab.e"]
    assert closure("lab.e", "lab.part") == ["lab.e", "lab.part"]


@pytest.mark.parametrize("edited", CHAIN)
def test_an_edit_counts_where_it_is_imported(made_lab, edited):
    made_lab(CHAIN)
    before = {module: closure_hash(module) for module in ("lab.a", "lab.e")}
    made_lab({**CHAIN, edited: CHAIN[edited] + "z = 3\n"})
    changed = {module for module, digest in before.items() if closure_hash(module) != digest}
    assert changed == ({"lab.e"} if edited == "e.py" else {"lab.a"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    from lab.b import x\n", True),
        ("class A:\n    if x:\n        import lab.b\n", True),
        ("try:\n    from lab import b\nexcept ImportError:\n    pass\n", True),
        ("if TYPE_CHECKING:\n    from lab.b import x\n", False),
        ("if typing.TYPE_CHECKING:\n    import lab.b\n", False),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import lab.b\n", True),
        ("if not TYPE_CHECKING:\n    import lab.b\n", True),
        ("from lab.config import RunConfig\n", False),
        ("from lab.results import b\n", False),
    ],
)
def test_what_runs_counts(made_lab, text, found):
    """Imports in functions do; those for types, and what configurations and records import, do not."""
    made_lab({"a.py": text, "b.py": "", "config.py": "import lab.b\n", "results.py": "import lab.b\n"})
    assert closure("lab.a") == (["lab.a", "lab.b"] if found else ["lab.a"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_train_step_of_another_backend_does_not_count(monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    engine = closure(ENGINE)
    steps = {module for module in engine if module.startswith("lab.training.train_step")}
    assert steps == {f"lab.training.train_step_{backend}"}
    assert ("lab.training.joint_jax" in engine) == (backend == "jax")
    assert "lab.training.population" not in engine


def test_each_backend_has_a_hash_of_its_own(monkeypatch):
    hashes = set()
    for backend in BACKENDS:
        monkeypatch.setenv("KERAS_BACKEND", backend)
        hashes.add(closure_hash(ENGINE))
    assert len(hashes) == len(BACKENDS)


def test_a_module_that_is_not_there_is_named(made_lab):
    made_lab({"a.py": ""})
    with pytest.raises(ValueError, match=r"must be modules of the lab, but there is no lab\.b, numpy\."):
        closure("lab.a", "lab.b", "numpy")


def test_a_module_that_is_no_python_is_named(made_lab):
    made_lab({"a.py": "import lab.b", "b.py": "x = ("})
    with pytest.raises(SyntaxError) as caught:
        closure_hash("lab.a")
    assert caught.value.filename == str(code.LAB_DIR / "b.py")


def test_a_process_keeps_the_hash_of_the_code_that_it_first_asked_about(made_lab):
    """It runs what it imported, whatever becomes of the file."""
    made_lab({"a.py": "x = 1\n"})
    before = closure_hash("lab.a")
    (code.LAB_DIR / "a.py").write_text("x = 2\n")
    assert closure_hash("lab.a") == before


HASHED = {"engine": ENGINE, **MODULES}


def hashes():
    return {name: closure_hash(module) for name, module in HASHED.items()}


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """`changed(name, text)`: whose hash changes when a text is added to a file of the lab, new or old."""

    def change(name, text="added = 1"):
        copy = tmp_path / "lab"
        shutil.copytree(REAL_LAB, copy, ignore=shutil.ignore_patterns("__pycache__"))
        before = hashes()
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
        monkeypatch.setattr(code, "LAB_DIR", copy)
        after = hashes()
        return {key for key, digest in after.items() if digest != before[key]}

    return change


MEASURED = {*MODULES}
MEMORISED = {"train_nll", "extraction"}
CODE = {"code", "code_infilling", "code_baselines"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evaluation/measure_perplexity.py", set()),  # a new one
        ("evaluation/measurements.py", set()),
        ("evaluation/held_out.py", set()),
        ("evaluation/nelbo.py", {"nelbo", "choice", "task"}),
        ("evaluation/denoising.py", {"real_text", "generation", *MEMORISED, *CODE}),
        ("evaluation/measure_nll.py", {"nll", "nll_exact", "ensemble"}),
        ("evaluation/scorer.py", MEASURED),
        ("reporting/report.py", set()),
        ("scheduling/driver.py", set()),
        ("tracking/tensorboard.py", set()),
        ("tracking/records.py", set()),
        ("results.py", set()),
        ("metrics.py", set()),
        ("sections.py", set()),
        ("ablation.py", set()),
        ("config.py", set()),
        ("environment.py", set()),
        ("training/run.py", set()),
        ("training/measured.py", set()),
        ("training/checkpoint.py", set()),
        ("training/records.py", set()),
        ("training/kept.py", set()),
        ("training/engine.py", {"engine"}),
        ("training/optimizer.py", {"engine"}),
        ("objectives/noise.py", {"engine"}),
        ("data/budget.py", {"engine", *MEMORISED, *CODE}),
        ("models/attention.py", {"engine", *MEASURED}),
        ("threefry.py", {"engine", *MEASURED}),
    ],
)
def test_an_edit_changes_the_hashes_of_what_it_decides(changed, name, expected):
    assert changed(name) == expected


def test_a_comment_changes_none(changed):
    assert changed("training/engine.py", "# a remark") == set()


def test_an_import_of_a_new_file_counts(changed):
    assert changed("evaluation/nelbo.py", "import lab.evaluation.denoising") == {"nelbo", "choice", "task"}
