import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.data.paths import existing, matches, parse_paths

ROOT = Path(__file__).parents[2]
# Of one folder each, which holds a.txt.
NAMES = ["notes [2024]", "it's", 'say "x"', "back\\slash", "star*", "cost$HOME $(x", "new\nline", "~nobody"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_exists_is_literal_alone_and_at_the_head_of_a_glob(name, folder):
    for other in (name, "notes 2", "star2"):
        (folder / other / "sub").mkdir(parents=True)
        (folder / other / "a.txt").write_text("x")
        (folder / other / "sub" / "b.txt").write_text("x")
    assert existing(name) == Path(name)
    assert matches(f"{name}/*.txt") == [f"{name}/a.txt"]
    assert sorted(matches(f"{name}/**/?.txt")) == [f"{name}/a.txt", f"{name}/sub/b.txt"]
    assert matches(f"{folder}/{name}/a.*") == [f"{folder}/{name}/a.txt"]


def test_a_pattern_that_does_not_exist_is_one(folder):
    for name in ("a1", "a2", "a3"):
        (folder / name).mkdir()
        (folder / name / "x[1].txt").write_text("x")
    assert existing("a[12]") is None
    assert sorted(matches("a[12]/*.txt")) == ["a1/x[1].txt", "a2/x[1].txt"]
    assert matches("b*") == []


@pytest.mark.parametrize("given", ["", "absent", "~nobody/absent"])
def test_what_does_not_exist(given, folder):
    assert existing(given) is None
    assert matches(given) == []


def test_a_tilde_is_the_users_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "a.txt").write_text("x")
    assert existing("~/a.txt") == folder / "a.txt"
    assert matches("~/*.txt") == [str(folder / "a.txt")]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", []),
        ("a.txt 'notes/*.md'", ["a.txt", "notes/*.md"]),
        ('"my notes"/*.md my\\ other.txt', ["my notes/*.md", "my other.txt"]),
        ("here it's", ["here it's"]),  # which exists
    ],
)
def test_paths_of_a_variable_are_quoted_as_in_a_shell(text, paths, folder):
    (folder / "here it's").touch()
    assert parse_paths(text) == paths


def test_a_quotation_that_is_not_closed():
    message = '`LAB_DATA` must hold paths and globs, quoted as in a shell, but No closing quotation: "it\'s"'
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_paths("it's")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_hands_every_name_on_as_it_stands(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    # A stand-in for the interpreter, in a virtual environment that counts as installed.
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$LAB_DATA" "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    results = "my 'results'"
    for name in [*NAMES, "two paths", "a,b"]:
        command = ["make", "-s", "crossover", f"VENV={tmp_path}", f"DATA={name}", f"RESULTS={results}"]
        said = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
        data, *options, _ = said.stdout.split("\0")
        assert data == name
        assert options == ["-m", "lab", "ablate", "crossover", "--preset", "laptop", "--results", results]
