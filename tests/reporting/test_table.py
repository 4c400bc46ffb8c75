"""One table, three readers: the page has its parts, the terminal 80 columns, a CSV file its plain rows."""

import csv
import io

import pytest
from rich.console import Console

from lab.metrics import find_metric
from lab.reporting import table, words
from lab.reporting.report import _write_csv
from lab.reporting.table import Column, Table

NLL, ACCURACY = find_metric("nll"), find_metric("choice_accuracy")


def row(arm, level, mean, low=None, high=None, **more):
    gain = {"gain_mean": mean, "gain_interval_low": low, "gain_interval_high": high}
    verdict = {"gain_verdict": "better", "gain_decisive_p": 0.0123, "marked": False}
    measured = {"choice_accuracy": 0.25, "choice_accuracy_standard_deviation": 0.0125, "flops": 1.6e13}
    return {"arm": arm, "level": level, "seeds": 3, **gain, **verdict, **measured, **more}


ROWS = (
    row("ar", "unique_tokens=20000", 0.165, -0.02, 0.35),
    row(
        "dlm_passes_2",
        "unique_tokens=20000",
        -0.5,
        marked=True,
        gain_verdict="worse, by less than the margin",
    ),
    row("", "unique_tokens=None", None, gain_verdict=None, choice_accuracy=None, seeds=12_000),
)
COLUMNS = (
    table.text("Arm", "arm"),
    table.number("Seeds", "seeds"),
    table.estimate("Gain\nnats/token, 95 %", "gain_", words.in_metric(NLL)),
    table.verdict("Verdict", "gain_", lambda row: "†" * row["marked"]),
    table.measured(table.in_heading(ACCURACY, "test"), "choice_accuracy", ACCURACY),
    table.flops("FLOPs", "flops"),
)
TABLE = Table("gains", ROWS, COLUMNS, caption="Gain: [better] is positive.", group="level")


def shown(made, title="A title", width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(made.printed(title))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_page_has_a_heading_and_a_cell_with_a_small_part_for_each_column():
    assert TABLE.headings == [
        ("Arm", "", True),
        ("Seeds", "", False),
        ("Gain", "nats/token, 95 %", False),
        ("Verdict", "", True),
        ("Test choice accuracy", "", False),
        ("FLOPs", "", False),
    ]
    assert [[cell[:2] for cell in cells] for _, cells in TABLE.cells] == [
        [
            ("ar", ""),
            ("3", ""),
            ("+0.165", "−0.020 to +0.350"),
            ("better", "p = 0.012"),
            ("25.0 %", "± 1.2 %"),
            ("1.6 × 10¹³", ""),
        ],
        [
            ("dlm_passes_2", ""),
            ("3", ""),
            ("−0.500", ""),
            ("worse†", "by less than the margin\np = 0.012"),
            ("25.0 %", "± 1.2 %"),
            ("1.6 × 10¹³", ""),
        ],
        [("–", ""), ("12,000", ""), ("–", ""), ("not compared", ""), ("–", "± 1.2 %"), ("1.6 × 10¹³", "")],
    ]


def test_a_metric_below_zero_has_a_minus_and_a_bound_says_so():
    gap = find_metric("option_gap")
    column = table.measured(table.in_heading(gap), "gap", gap)
    assert column.cell({"gap": -0.065, "gap_standard_deviation": 0.01}) == "−0.065\n± 0.010"
    assert column.cell({"gap": None}) == "–"
    assert table.in_heading(find_metric("nelbo"), "test") == "Test NELBO\nnats/token, a bound"
    assert table.in_heading(ACCURACY) == "Choice accuracy"


def test_a_group_is_named_where_it_begins():
    assert [begins for begins, _ in TABLE.cells] == ["20,000 unique tokens", "", "the whole corpus"]
    assert [begins for begins, _ in Table("gains", ROWS, COLUMNS).cells] == ["", "", ""]


def test_a_csv_file_has_the_plain_rows(tmp_path):
    _write_csv(tmp_path / "gains.csv", [*ROWS, {"arm": "ar", "more": "a, b"}])
    with (tmp_path / "gains.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [*ROWS[0], "more"]
    assert float(found[0]["gain_mean"]) == ROWS[0]["gain_mean"]
    assert (found[2]["gain_mean"], found[2]["level"], found[3]["more"]) == ("", "unique_tokens=None", "a, b")


def test_the_terminal_has_the_same_cells_but_those_it_has_no_room_for():
    lines = shown(TABLE)
    text = "\n".join(lines)
    assert lines[0].strip() == "A title"
    for part in (
        "20,000",
        "the whole",
        "dlm_passes_2",
        "−0.020 to +0.350",
        "worse†",
        "by less than",
        "± 1.2 %",
    ):
        assert part in text
    assert "Gain: [better] is positive." in text  # no markup
    assert "× 10" not in text
    assert max(map(len, lines)) <= 80


def names(*arms):
    return [row(arm, "", 0.1, -0.1, 0.3) for arm in arms]


LONG = "any_order_ar_with_a_long_name_passes_4"


@pytest.mark.parametrize("also", [1, 2, 4])
def test_what_is_too_long_is_broken_between_its_pieces_and_never_cut(also):
    more = [
        Column("A heading of several words\nnats/token, 95 %", lambda row: "+0.165\n−0.020 to +0.350")
    ] * also
    columns = [table.text("Arm", "arm"), table.text("Against", "arm"), *more]
    lines = shown(Table("long", names(LONG, "ar"), columns))
    body = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert "…" not in body
    assert ("−0.020 to +0.350" in body) == (also < 4)  # numbers are broken last
    assert "95 %" in body
    first = [line[1:].split(" ")[0] for line in lines]
    begin = next(place for place, word in enumerate(first) if word.startswith("any_"))
    pieces = first[begin : first.index("ar")]
    assert "".join(pieces) == LONG
    assert all(piece.endswith("_") for piece in pieces[:-1])
    assert len(pieces) == {1: 2, 2: 3, 4: 8}[also]


def test_headings_are_broken_first():
    more = [Column("A heading of several words", lambda row: "+0.165")] * 2
    columns = [table.text("Arm", "arm"), table.text("Against", "arm"), *more]
    arm = "any_order_ar_passes_2"
    assert any(
        line.split() == [arm, arm, "+0.165", "+0.165"] for line in shown(Table("long", names(arm), columns))
    )
    assert table._broken("interval of 95 %", 14) == "interval of\n95 %"


def test_where_nothing_else_helps_words_are_broken_too():
    columns = [Column(f"heading{number}", lambda row: "undecidedly", left=True) for number in range(8)]
    lines = shown(Table("wide", names("ar"), [table.text("Arm", "arm"), *columns]))
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(" ar ") for line in lines)  # a short word stays whole
    letters = "".join("".join(lines).split())
    assert "…" not in letters
    assert letters.count("u") == letters.count("y") == 8
    assert shown(Table("narrow", names(LONG), COLUMNS[:3]), width=30)
    assert "…" not in "".join(shown(Table("narrow", names(LONG), COLUMNS[:3]), width=30))


def test_a_table_without_rows_or_columns_is_printed_too():
    assert "A title" in shown(Table("none", [], []))[0]
    assert "Arm" in "".join(shown(Table("none", [], COLUMNS)))


def test_a_hostile_cell_is_no_markup():
    text = "\n".join(shown(Table("marked", names("[red]ar[/red]"), COLUMNS[:1]), "[b]title[/b]"))
    assert "[red]ar[/red]" in text
    assert "[b]title[/b]" in text
