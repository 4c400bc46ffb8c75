"""Every test that docs/reliability.md names exists."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def named(text):
    """(file, test or nothing) of each test in backquotes; `::name` alone is of the file before it."""
    found, file = [], ""
    for quoted in re.findall(r"`([^`]+)`", text):
        path, _, name = quoted.partition("::")
        if re.fullmatch(r"[\w/]*test_\w+\.py", path):
            file = path
        elif path or not name:
            continue
        found.append((file, name.partition("[")[0]))
    return found


def missing(file, name):
    paths = [TESTS / file] if "/" in file else list(TESTS.rglob(file))
    return not any(path.is_file() and f"def {name or 'test_'}" in path.read_text() for path in paths)


def test_each_of_the_38_cases_names_tests_that_exist():
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 39))
    for row in rows:
        assert named(row), row
    assert [place for place in named("\n".join(rows)) if missing(*place)] == []


@pytest.mark.parametrize(
    "text", ["`test_gone.py`", "`test_cli.py::test_gone`", "`test_cli.py` and `::test_gone`"]
)
def test_the_check_can_fail(text):
    assert missing(*named(text)[-1])
