"""Consoles that lack characters, columns or a reader: nothing said is lost, and no work ends for it."""

import errno
import io
import os
import subprocess
import sys
from collections import Counter

import pytest
from rich.console import Console
from rich.table import Table

from lab.console import Fitting, _Stream, make_console, plain

SAY = """
import sys
from lab.console import Fitting, make_console, open_streams
open_streams()
from rich.table import Table
table = Table("arm", "gain", title="dlm gained \\u22120.5 \\u2026")
table.add_row("a\\u00fc\\u4e2d\\udcff", "\\u22120.500 \\u00b1 0.1\\u2020")
make_console().print(Fitting(table))
print("end", file=sys.stderr)
"""


def say(code=SAY, **variables):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("variables", "encoding", "words"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "ascii", ["-0.5 ...", r"a\xfc\u4e2d\udcff", "-0.500 +- 0.1*"]),
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252", ["-0.5 …", r"aü\u4e2d\udcff", "-0.500 ± 0.1†"]),
        ({"PYTHONIOENCODING": "utf-8"}, "utf-8", ["−0.5 …", r"aü中\udcff", "−0.500 ± 0.1†"]),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii", ["-0.500 +- 0.1*"]),
        ({"LANG": "C"}, "utf-8", ["−0.500"]),
    ],
)
def test_what_a_console_cannot_print_is_replaced_and_never_lost(variables, encoding, words):
    said = say(**variables)
    assert said.returncode == 0, said.stderr
    text = said.stdout.decode(encoding)
    assert [word for word in words if word not in text] == []
    assert said.stderr == b"end\n"


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("1.6 × 10¹³", "ascii", "1.6 x 10^13"),
        ("10⁻⁵", "ascii", "10^-5"),
        ("a → b–c", "ascii", "a -> b-c"),
        ("−", "cp437", "-"),
        ("− ¹", "latin-1", "- ¹"),
        ("plain", "ascii", "plain"),
        ("−", "utf-8", "−"),
    ],
)
def test_what_stands_for_a_character_reads_alike(text, encoding, shown):
    assert plain(text, encoding) == shown


def test_what_is_no_encoding_is_left_to_its_own_error():
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", errors="lab.plain")


WORK = """
import pathlib, sys
from lab.console import open_streams
open_streams()
for number in range(20_000):
    print("line", number)
print("note", file=sys.stderr, flush=True)
pathlib.Path(sys.argv[1]).write_text("finished", encoding="utf-8")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirect", ["| head -1", "2>&1 | head -1", ">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_work_goes_on_to_its_end_when_nobody_reads(redirect, unbuffered, tmp_path):
    command = f'set -o pipefail; "$0" -c "$1" "$2" {redirect}'
    ended = subprocess.run(
        ["bash", "-c", command, sys.executable, WORK, str(tmp_path / "done")],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert (tmp_path / "done").read_text(encoding="utf-8") == "finished"
    assert "Error" not in ended.stderr
    if "head" in redirect:
        assert ended.stdout == "line 0\n"


def test_a_closed_streams_place_is_taken_by_no_other_file(tmp_path):
    path = tmp_path / "a file"
    code = (
        "import os, sys; from lab.console import open_streams; open_streams();"
        "file = open(sys.argv[1], 'w', encoding='utf-8'); print(file.fileno() > 2, file=file)"
    )
    subprocess.run(["bash", "-c", '"$0" -c "$1" "$2" >&- 2>&- <&-', sys.executable, code, path], check=True)
    assert path.read_text(encoding="utf-8") == "True\n"


class Failing(io.FileIO):
    number = 0

    def write(self, data):
        raise OSError(self.number, os.strerror(self.number))


class Stream(_Stream, Failing):
    pass


def test_a_terminal_that_is_gone_ends_nothing_and_a_full_disk_does(tmp_path):
    with Stream(tmp_path / "a", "wb") as stream:
        for stream.number in (errno.EPIPE, errno.EIO):
            assert stream.write(memoryview(b"1234")) == 4
        stream.number = errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            stream.write(b"1")


@pytest.mark.parametrize(
    ("term", "terminal"), [("xterm-256color", True), ("dumb", False), ("unknown", False), ("", True)]
)
def test_a_terminal_on_which_nothing_can_be_overwritten_gets_lines(term, terminal, monkeypatch):
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    file = io.StringIO()
    file.isatty = lambda: True
    assert make_console(file=file).is_terminal == terminal


def shown(table, width, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width)
    console.print(Fitting(table))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def example():
    table = Table(
        "arm", "level", "Gain\nnats/token", "now", title="A [bold]headline[/bold] of words", caption="c"
    )
    table.add_row("ar", "unique_tokens=20000", "", "seed 0: 15 %")
    table.add_row("dlm_\npasses_2", "unique_tokens=40000", "0.165\n-0.020 to +0.350", "")
    return table


def test_where_there_is_room_a_table_is_a_table():
    lines = shown(example(), 80).splitlines()
    assert any("arm" in line and "now" in line for line in lines)
    assert any("ar " in line and "unique_tokens=20000" in line and "seed 0: 15 %" in line for line in lines)


def test_where_there_is_none_each_cell_stands_behind_its_heading():
    lines = [line.rstrip() for line in shown(example(), 52).splitlines()]
    assert lines == [
        "A headline of words",
        "arm              ar",
        "level            unique_tokens=20000",
        "now              seed 0: 15 %",
        "",
        "arm              dlm_passes_2",
        "level            unique_tokens=40000",
        "Gain nats/token  0.165 -0.020 to +0.350",
        "c",
    ]


@pytest.mark.parametrize("width", [8, 20, 40, 60, 79])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_width_cuts_anything(width, encoding):
    text = shown(example(), width, encoding)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    cells = "A headline of words ar unique_tokens=20000 seed 0: 15 % dlm_passes_2 0.165 -0.020 to +0.350"
    assert Counter(cells.replace(" ", "")) <= Counter(text)
