import io

import pytest
from rich.console import Console

from lab.config import DataConfig
from lab.data import progress
from lab.data.dataset import prepare
from lab.data.progress import shown_on, watched


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock finds it a second later."""
    seconds = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))


def shown(terminal, **options):
    """What is shown of three items of a million bytes each."""
    out = io.StringIO()
    with shown_on(Console(file=out, force_terminal=terminal, width=100), **options):
        assert list(watched("abc", "reading", lambda _: 10**6, total=3 * 10**6)) == ["a", "b", "c"]
    return out.getvalue()


def test_a_terminal_shows_a_bar_that_goes_away(clock):
    text = shown(terminal=True)
    for words in ("corpus: reading", "1 of 3 MB", "3 of 3 MB"):
        assert words in text
    assert text.endswith("\x1b[2K")  # the line is cleared


def test_without_a_terminal_there_is_a_line_now_and_then(clock):
    assert shown(terminal=False, plain_seconds=3) == "corpus: reading, 3 of 3 MB\n"


def test_what_is_soon_done_shows_nothing():
    assert shown(terminal=True) == shown(terminal=False) == ""


def test_nothing_is_shown_where_nobody_asked(clock, capsys):
    assert list(watched("ab", "reading", lambda _: 1)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_quiet_console_stays_quiet(clock):
    out = io.StringIO()
    with shown_on(Console(file=out, quiet=True, force_terminal=True)):
        list(watched("ab", "reading", lambda _: 1))
    assert out.getvalue() == ""


def test_preparing_says_every_stage(clock, tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(" ".join(f"w{number}x{word}" for word in range(200)))
    config = DataConfig(corpus="text", paths=[str(tmp_path)], length=32, tokenizer="bpe:300")
    out = io.StringIO()
    with shown_on(Console(file=out, force_terminal=False), plain_seconds=0):
        prepare(config, tmp_path / "cache")
    stages = [line.split(",")[0].removeprefix("corpus: ") for line in out.getvalue().splitlines()]
    assert list(dict.fromkeys(stages)) == [
        "looking at the files",
        "reading",
        "comparing texts",
        "training the tokenizer",
        "tokenizing",
        "looking for overlaps",
    ]
