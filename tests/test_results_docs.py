"""Figures in the docs are those of the committed studies: every interval, every number of three decimals."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUDIES = ROOT / "docs" / "studies"
PAGES = ("docs/results.md", "README.md")
NUMBER = r"[−+]?\d+\.\d{3}(?!\d)"
INTERVAL = re.compile(rf"({NUMBER})[^()|0-9]{{0,40}}\(({NUMBER})(?: to |, )({NUMBER})")


def sections():
    """Study -> the text of docs/results.md about it."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    studies, _ = text.split("\n# The lab itself")
    found = {}
    for section in studies.split("\n## ")[1:]:
        linked = re.findall(r"\]\(studies/([\w-]+/\w+)\)", section)
        if linked and (STUDIES / linked[0] / "summary.json").is_file():
            found[linked[0]] = re.sub(r"\n### .*", "", section, flags=re.DOTALL)
    return found


def rows_of(study):
    """The rows of a study's tables, each as {name: number}."""
    summary = json.loads((STUDIES / study / "summary.json").read_text(encoding="utf-8"))
    tables = [summary["arms"]]
    for part in (summary["primary"], summary["components"], summary["tuning"], *summary["sections"]):
        tables += part["tables"].values() if part else []
    rows = [row for table in tables for row in table]
    return [{name: value for name, value in row.items() if isinstance(value, float)} for row in rows]


def rounded(number):
    return f"{abs(number):.3f}"


def unsupported(text, rows):
    """The intervals and numbers of a text that no row has."""
    intervals = {
        (rounded(row[name]), rounded(row[f"{part}interval_low"]), rounded(row[f"{part}interval_high"]))
        for row in rows
        for name in row
        if name.endswith(("mean", "exponent"))
        and f"{(part := name.removesuffix('mean').removesuffix('exponent'))}interval_low" in row
    }
    numbers = {rounded(value) for row in rows for value in row.values()}
    wrong = []
    for found in INTERVAL.finditer(text):
        mean, low, high = (number.lstrip("−+") for number in found.groups())
        if not {(mean, low, high), (mean, high, low)} & intervals:
            wrong.append(found[0])
    return wrong + [one for one in re.findall(NUMBER, text) if one.lstrip("−+") not in numbers]


@pytest.mark.parametrize("study", sections())
def test_every_figure_is_of_the_committed_summary(study):
    assert unsupported(sections()[study], rows_of(study)) == []


@pytest.mark.parametrize("study", sections())
def test_figures_are_there_and_one_that_is_altered_is_found(study):
    text, rows = sections()[study], rows_of(study)
    intervals = list(INTERVAL.finditer(text))
    assert intervals
    for found in intervals:
        altered = f"{found[1][:-2]}{(int(found[1][-2]) + 5) % 10}{found[1][-1]}"
        assert unsupported(found[0].replace(found[1], altered, 1), rows)
    assert unsupported("9.876", rows) == ["9.876"]


def test_the_figures_of_the_readme_are_those_of_the_study_in_their_row():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| [^|]+ \| `([\w-]+)`[^|]* \| ([^|]+) \|$", text, re.MULTILINE)
    figures = {study: row for study, row in found if re.search(NUMBER, row)}
    assert len(figures) >= 4
    for study, row in figures.items():
        assert unsupported(row, rows_of(f"{study}/laptop")) == []


def test_every_committed_study_is_written_about():
    kept = {path.parent.relative_to(STUDIES).as_posix() for path in STUDIES.glob("*/*/summary.json")}
    assert kept == set(sections())


def test_registered_contrasts_are_counted_right():
    summaries = (json.loads(path.read_text(encoding="utf-8")) for path in STUDIES.glob("*/*/summary.json"))
    verdicts = [row["verdict"] for study in summaries for row in study["primary"]["tables"]["primary"]]
    every, undecided = len(verdicts), verdicts.count("undecided")
    results, readme = (" ".join((ROOT / name).read_text(encoding="utf-8").split()) for name in PAGES)
    assert f"Of {every} contrasts that were registered before the runs {undecided} are" in results
    assert f"of {every} contrasts registered before the runs {every - undecided} are" in readme
