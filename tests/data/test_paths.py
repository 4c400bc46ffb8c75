import glob
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.data.paths import existing, matches, parse_paths, walk

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


def test_more_names_than_one_could_hold_are_a_list(folder):
    names = [f"file_{number:03}.txt" for number in range(400)]
    assert parse_paths(" ".join(names)) == names
    assert existing(" ".join(names)) is existing("/".join(names)) is None


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


TREE = [
    "a.md",
    "b/c.md",
    "b/c/d.md",
    "b/c/c/e.txt",
    "[x]/f.md",
    ".hidden/g.md",
    "b/.h.md",
    "b/.i/j.md",
    "e/",
]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in TREE:
        path = tmp_path / "tree" / name.strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
    monkeypatch.chdir(tmp_path / "tree")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "pattern",
    [
        *("**/*.md", "**/c/*.md", "b/**/*.md", "**/**/*.md", "**/c/**/*", "*/**/*.md", ".hidden/**/*.md"),
        *("*.md", "b/c.md", "none/**/*.md", "**/none", "b/./**/d.md", "[[]x]/**/*.md", "**/.h.md"),
    ],
)
def test_without_links_it_matches_what_glob_does(pattern, tree):
    for given in (pattern, f"{tree}/{pattern}"):
        expected = glob.glob(given, recursive=True)  # noqa: PTH207
        assert set(map(Path, matches(given))) == set(map(Path, expected))


def test_what_stands_behind_nothing_is_every_file(tree):
    assert sorted(matches("b/**")) == ["b/c.md", "b/c/c/e.txt", "b/c/d.md"]


@pytest.mark.parametrize("pattern", ["**/*.md", "**", "**/c/**/*.md", "*/**/*.md", "**/**/**/*.md"])
def test_links_to_folders_are_not_entered(pattern, tree):
    """Two that lead back would be entered for ever, in all their orders."""
    before = {path for path in matches(pattern) if Path(path).is_file()}
    for number, to in enumerate([".", ".", "..", "b", str(tree), "link9", "link8/x"]):
        (tree / "b" / f"link{number}").symlink_to(to, target_is_directory=True)
    assert {path for path in matches(pattern) if Path(path).is_file()} == before


def test_links_to_files_are_files(tree):
    (tree / "b" / "link.md").symlink_to("../a.md")
    assert "b/link.md" in matches("**/*.md")


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tree, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "c":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match=r"Permission denied: .*b/c"):
        matches("**/*.md")


def test_a_walk_is_in_a_fixed_order_and_enters_what_it_is_told(tree):
    (tree / "link").symlink_to("b")
    found = [(folder.name, files) for folder, _, files in walk(tree, lambda name: name != "[x]")]
    assert found == [
        ("tree", ["a.md"]),
        (".hidden", ["g.md"]),
        ("b", [".h.md", "c.md"]),
        (".i", ["j.md"]),
        ("c", ["d.md"]),
        ("c", ["e.txt"]),
        ("e", []),
    ]
