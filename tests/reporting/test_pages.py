"""What every page holds, whatever its sections: over real trees of an older lab, and over odd ones."""

import csv
import io
import json
import re
import shutil
from urllib.parse import unquote

import pytest
from fake_cube import CONTROLS, UNDER, FakeCube
from fake_trees import FakeSweep, FakeTree
from old_trees import unpack_old_trees
from report_pages import Page, assert_needs_no_network_and_no_script, one_picture, read_page
from rich.console import Console

from lab.reporting.report import write_report
from lab.sections import Against, Contrast, Curves, Differences, Factorial, Fit, Quantity, pairs

OLD = ("attribution", "crossover", "inference-compute", "regularization", "super-dense")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
HOSTILE = 'Does <script>alert(1)</script> & "quotes" {{ 7 * 7 }} win?'
SIZES = {20_000: "0.1m", 80_000: "0.3m", 320_000: "0.8m"}


class FakeSizes(FakeTree):
    """Its levels are sizes of the model."""

    def level(self, budget):
        return {"model.size": SIZES[budget]}

    def result(self, arm, budget, seed):
        return super().result(arm, budget, seed).model_copy(update={"parameters": 5 * budget})


def sizes(path):
    sections = (
        Curves(against={"dlm": "ar"}, x=("epoch",), marks=("best", "crossing", "onset")),
        Differences(contrasts=pairs({"dlm": "ar"})),
        Quantity(names=("crossing", "onset", "best_level"), reference="ar"),
        Against(x="parameters"),
        Fit(y="nll", x=("parameters",), held_out={"model.size": "0.8m"}),
    )
    return FakeSizes(path, budgets=tuple(SIZES), sections=sections, ngram=dict.fromkeys(SIZES, 2.3)).write()


def cube(path):
    controls = {arm: UNDER[arm] for arm in CONTROLS}
    return FakeCube(path, sections=(Factorial(), Differences(contrasts=pairs(controls)))).write()


def one_seed(path):
    return FakeSweep(path, seeds=(0,)).write()


def alone(path):
    """The crossover's own sections; the AR alone has more budgets, and one seed is outside all of them."""
    shift = {"ar": 0.0, "dlm": -0.5}
    return FakeTree(path, budgets=(20_000, 80_000), alone=(40_000,), seed_shift=shift).write()


def broken(path):
    """A run failed, one is damaged, one never began; a log and the tuning are damaged; texts are hostile."""
    level, other = {"data.unique_tokens": 20_000}, {"data.unique_tokens": 80_000}
    across = Contrast(arm="ar", reference="ar", level=level, reference_level=other)
    sections = (
        Differences(contrasts=(*pairs({"dlm": "ar"}), across), matched=(), title="Words"),
        Differences(
            contrasts=pairs({"ar": "dlm"}), at=("end",), title="<i>Words</i>", note="<script>no</script>"
        ),
        Against(x="data.unique_tokens", metrics=("choice_accuracy",), at="end"),
    )
    tree = FakeTree(
        path, budgets=(20_000, 80_000), seeds=(0, 1, 2), question=HOSTILE, sections=sections
    ).write()
    tree.fail("dlm", 80_000, 1, "<img src=x onerror=alert(2)>")
    shutil.rmtree(tree.logdir("ar", 20_000, 0))
    (tree.logdir("ar", 80_000, 0) / "result.json").write_text("{")
    (tree.logdir("ar", 20_000, 1) / "metrics.jsonl").write_text('{"kind": "train", "tok\n')
    (path / "tuning.json").write_text('{"schema": 2')
    tree.replan(lambda plan: plan.update(tuning={"trials": 2}))
    return tree


MADE = {"sizes": sizes, "cube": cube, "one seed": one_seed, "alone": alone, "broken": broken}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """`reports(name)`: the report of a tree, written once.

    The pictures of the real trees are all the same one; `test_old_numbers.py` draws them.
    """
    old, written = tmp_path_factory.mktemp("old"), {}
    unpack_old_trees(old)

    def report(name):
        if name in MADE and name not in written:
            written[name] = write_report(MADE[name](tmp_path_factory.mktemp("made") / "tree").path)
        elif name not in written:
            with one_picture():
                written[name] = write_report(old / name / "smoke")
        return written[name]

    return report


@pytest.fixture(params=[*OLD, *MADE])
def report(request, reports):
    return reports(request.param)


@pytest.fixture
def html(report):
    return report.page.read_text(encoding="utf-8")


@pytest.fixture
def page(html):
    return Page(html.replace("<small>", " <small>"))


def sections_of(summary):
    return [*summary["sections"], *filter(None, (summary["components"], summary["tuning"]))]


def tables_of(summary):
    """The rows of each table of the page but the last, in its order."""
    found = [rows for section in sections_of(summary) for rows in section["tables"].values()]
    arms = [row for row in summary["arms"] if row["reading"] == summary["headline_reading"]]
    return [*filter(None, found), arms, summary["runs"]]


def test_it_needs_no_network_and_no_script_and_every_link_leads_somewhere(report, html):
    assert_needs_no_network_and_no_script(report)
    places = re.findall(r' id="([^"]*)"', html)
    assert len(set(places)) == len(places)
    assert "" not in places


def test_each_run_that_has_a_folder_links_to_it(report, page):
    folders = {
        row["folder"] for row in report.summary["runs"] if (report.page.parents[1] / row["folder"]).is_dir()
    }
    assert folders
    assert {unquote(link)[3:-1] for link in page.links if link.startswith("../")} == folders


def test_the_contents_lead_to_every_section(report, html):
    (contents,) = re.findall(r"<nav.*?</nav>", html, re.DOTALL)
    listed = re.findall(r'<a href="#([^"]*)">(.*?)</a>', contents)
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', html)
    assert [place for place, _ in listed] == [place for place, _ in headings]
    shown = len(sections_of(report.summary))
    assert listed[:shown] == headings[:shown]
    assert len(headings) == shown + 5


def in_a_cell(value):
    return "" if value is None else json.dumps(value) if isinstance(value, dict | list) else str(value)


def test_every_file_is_linked_and_has_the_rows_of_the_summary(report, page):
    folder = report.page.parent
    files = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    assert files == {link for link in page.links if not link.startswith(("#", "..", "data:"))} | {
        report.page.name
    }
    tables = [table for section in sections_of(report.summary) for table in section["tables"].items()]
    for name, rows in [*tables, ("arms", report.summary["arms"]), ("runs", report.summary["runs"])]:
        text = (folder / f"{name}.csv").read_text(encoding="utf-8")
        found = list(csv.DictReader(io.StringIO(text)))
        assert len(found) == len(rows), name
        for told, row in zip(found, rows, strict=True):
            assert told == {key: in_a_cell(row.get(key)) for key in told}, name
            assert row.keys() <= told.keys()


def test_the_summary_is_what_was_returned_and_what_the_page_says(report, page, html):
    summary = json.loads((report.page.parent / "summary.json").read_text(encoding="utf-8"))
    assert summary == json.loads(json.dumps(report.summary))
    assert summary["schema"] == 3
    assert [summary["headline"]] == [
        section["headline"] for section in sections_of(summary) if section["headline"]
    ][:1]
    (shown,) = re.findall(r'<p class="headline">(.*?)</p>', html)
    assert shown in html
    told = [summary["headline"], *summary["warnings"]]
    told += [
        sentence
        for section in sections_of(summary)
        for sentence in (*section["verdict"], *section["certain"])
    ]
    assert [sentence for sentence in told if sentence not in page.text] == []


def numbers_in(text):
    """Every number of a text, and half of its last digit: `0.25`, `1,600`, `1.6 × 10¹³`."""
    found = re.findall(r"(\d[\d,]*)(\.\d+)?(?: × 10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+))?", text)
    powers = [int(power.translate(SUPERSCRIPTS) or 0) for *_, power in found]
    return [
        (float(whole.replace(",", "") + digits) * 10.0**power, 0.5000001 * 10.0 ** (power - len(digits[1:])))
        for (whole, digits, _), power in zip(found, powers, strict=True)
    ]


def known_numbers(value):
    """The size of every number of a row, those in its texts and keys too."""
    if isinstance(value, dict):
        return [number for pair in value.items() for item in pair for number in known_numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in known_numbers(item)]
    if isinstance(value, str):
        return [number for number, _ in numbers_in(value)]
    return [abs(value)] if isinstance(value, int | float) else []


def is_told(number, half, known):
    """Whether a number is one of those known, as it is or in percent, rounded to its digits or to three."""
    return any(
        abs(scale * value - number) <= half or float(f"{value:.3g}") == number
        for value in known
        for scale in (1, 100)
    )


def test_every_number_of_a_table_is_in_its_row_of_the_summary(report, page):
    *tables, provenance = page.tables
    expected = tables_of(report.summary)
    assert len(tables) == len(expected)
    checked = 0
    for (heading, *body), rows in zip(tables, expected, strict=True):
        body = [cells for cells in body if len(cells) == len(heading)]  # no line that begins a group
        assert len(body) == len(rows)
        for cells, row in zip(body, rows, strict=True):
            known = known_numbers(row)
            for cell in cells:
                found = numbers_in(re.sub(r"\d+ (h|min|s)\b|p < 0.001", "", cell))
                assert [number for number in found if not is_told(*number, known)] == [], (heading, cell, row)
                checked += len(found)
    assert checked > 40
    assert len(provenance) == len(report.summary["provenance"])


def test_the_terminal_shows_it_whole_in_80_columns(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.printed)
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "".join(report.summary["headline"].split()) in "".join(text.split())
    main = next(section for section in sections_of(report.summary) if section["headline"])
    width = report.printed.columns[0].width
    first = letters("".join(line[1 : width + 1] for line in text.splitlines()))
    for row in next(iter(main["tables"].values())):
        assert letters(row.get("arm", "")) in first


def letters(text):
    """An arm as the page calls it, or as the plan does: `any-order AR`, `any_order_ar`."""
    return re.sub(r"[^a-z0-9.]", "", text.lower())


def test_every_figure_has_a_caption_and_a_text_for_those_who_do_not_see_it(html):
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    assert figures
    for figure in figures:
        ((title, caption),) = re.findall(r"<figcaption><strong>(.*?)\.</strong>(.*?)<a ", figure, re.DOTALL)
        images = re.findall(r'<img src="data:[^"]*" alt="([^"]*)">', figure)
        assert images
        assert all(text.startswith(title) for text in images)
        assert caption.strip().endswith(".")
        assert len(set(images)) == len(images)


def test_what_is_found_and_how_certain_it_is_takes_four_sentences_at_most(report):
    for section in sections_of(report.summary):
        for told in (section["verdict"], section["certain"]):
            sentences = [part for said in told for part in re.split(r"(?<=[.!?]) (?=[A-Z†])", said)]
            assert len(sentences) <= 4, sentences
            assert all(said.endswith(".") and not said[0].islower() for said in told)


@pytest.mark.parametrize("name", ["sizes", "broken"])
def test_the_same_tree_gives_the_same_bytes(name, reports):
    def files():
        return {path.name: path.read_bytes() for path in folder.iterdir() if "events." not in path.name}

    folder = reports(name).page.parent
    before = files()
    assert len(before) > 10
    for stale in ("dropped.csv", "dropped.svg", "dropped-1.png"):
        (folder / stale).touch()
    write_report(folder.parent)
    assert files() == before
    assert len(list(folder.glob("events.*"))) == 1


def test_a_broken_tree_says_what_is_missing_and_a_hostile_text_stays_text(reports):
    report = reports("broken")
    html, page = report.page.read_text(encoding="utf-8"), read_page(report)
    assert not {"script", "i"} & page.tags
    assert "<img src=x" not in html
    for text in (HOSTILE, "<i>Words</i>", "<script>no</script>", "failed: <img src=x onerror=alert(2)>"):
        assert text in page.text
    assert "RuntimeError: last line" in page.text
    left_out, tuning, log = report.summary["warnings"]
    assert left_out == (
        "Of 12 planned runs, 1 failed and 2 are missing. Only seeds that both arms finished are compared. "
        "Left out: seed 0 of ar at 20,000 unique tokens, seed 0 of ar at 80,000 unique tokens and seed 1 of "
        "dlm at 80,000 unique tokens."
    )
    assert re.fullmatch(r"Tuning is not shown\. .*tuning\.json: not JSON .* makes it again\.", tuning)
    assert "In the log of ar unique_tokens=20000 seed=1 1 line is damaged" in log
    assert report.summary["run_counts"] == {"done": 9, "failed": 1, "missing": 2}
    assert "tuning" not in {path.stem for path in report.page.parent.iterdir()}
    reasons = [row["reason"] for row in report.summary["runs"] if row["status"] == "missing"]
    assert "" in reasons
    assert any("result.json: not JSON" in reason for reason in reasons)
    assert "result.json: not JSON" in page.text
