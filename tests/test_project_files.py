"""What stands beside the code says what is true of it: the help of make, the citation, links of pages."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import lab

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]


def make(*arguments):
    said = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return said.stdout


def test_help_names_every_target_and_every_variable():
    makefile, shown = (ROOT / "Makefile").read_text(encoding="utf-8"), make("help")
    phony = re.search(r"\.PHONY: (.*)", makefile)[1].replace("$(ABLATIONS)", "").split()
    assert [name for name in phony if not re.search(rf"^{name} ", shown, re.MULTILINE)] == []
    options = makefile.partition("OPTIONS = ")[2].partition("\n\n")[0]
    used = set(re.findall(r"\$\((?:if \$\()?([A-Z_]+)\)", options)) | {
        "EXTRAS",
        "TREE",
        "PORT",
        "NAME",
        "STORAGE",
    }
    assert used >= {"PRESET", "SEEDS", "SET", "TUNE", "WORKERS", "SHARED"}
    variables = shown.partition("Variables:")[2]
    assert [
        name for name in [*used, "EXTRAS", "TREE", "PORT", "NAME", "STORAGE"] if f"{name}=" not in variables
    ] == []


def test_make_data_hands_on_what_the_user_gives():
    said = make("-n", "data", "PRESET=smoke", "DATA=a.txt b.txt", "SET=data.length=20 seed=1")
    (command,) = (line for line in said.splitlines() if "lab data" in line)  # DATA= goes by the environment
    assert command.endswith("python -m lab data --preset 'smoke' --set 'data.length=20' --set 'seed=1'")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere_and_lines_are_short(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert (ROOT / target).exists(), target
    if page != "README.md":
        assert max(map(len, text.splitlines())) <= 150


def by_locale(source):
    """The lines on which a text file is read or written in the encoding of whoever runs it."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = [str(getattr(value, "value", "")) for value in call.args]
        opens = name == "open" and getattr(getattr(call.func, "value", None), "id", "") not in ("os", "gzip")
        modes = given[isinstance(call.func, ast.Name) :]
        text = opens and not any("b" in mode for mode in modes) and "O_" not in ast.unparse(call)
        named = name in ("read_text", "write_text") and given != ["RECORD"]  # of a distribution: always UTF-8
        if (text or named) and "encoding" not in {keyword.arg for keyword in call.keywords}:
            yield call.lineno


@pytest.mark.parametrize("folder", ["lab", "ablations", "benchmarks"])
def test_every_text_file_is_utf_8_whatever_the_locale(folder):
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).rglob("*.py"))}
    assert {path: lines for path, text in sources.items() if (lines := list(by_locale(text)))} == {}


def test_a_file_of_the_locale_would_be_found():
    found = "p.read_text()\np.write_text(x)\nopen(p)\np.open('w')\nopen(p, 'r')"
    assert list(by_locale(found)) == [1, 2, 3, 4, 5]
    sound = "p.read_text(encoding='utf-8')\nopen(p, 'rb')\np.open('ab')\nos.open(p, flags)"
    assert list(by_locale(sound)) == []


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (lab.__version__, "Apache-2.0")


def test_the_security_page_leads_to_what_is_promised():
    assert "(docs/execution.md)" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
