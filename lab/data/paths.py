"""Paths that a user gives: literal where there is such a file or folder, else patterns."""

import errno
import glob
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path


def existing(given: str) -> Path | None:
    """The file or folder that has this name, brackets, stars and all; `~` is the user's folder."""
    for path in (Path(given), Path(os.path.expanduser(given))):  # noqa: PTH111 (Path raises at ~nobody)
        try:
            if given and path.exists():
                return path
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # no file has such a name, and a list of paths may be one
                raise
    return None


def matches(pattern: str) -> list[str]:
    """What a glob matches, in no order; folders that exist by their literal names are taken for them.

    `**` stands for any folders but hidden ones and links, which may form a circle: with two links to the
    folder that they lie in, `glob.glob(recursive=True)` never ends.

    Raises:
        OSError: if a folder that is there cannot be listed, where `**` looks into it.
    """
    expanded = Path(os.path.expanduser(pattern))  # noqa: PTH111
    for path in (Path(pattern), expanded):
        for parent in path.parents:
            if (glob.has_magic(str(parent)) or str(parent).startswith("~")) and parent.is_dir():
                rest = path.relative_to(parent)
                return [*_matches(f"{glob.escape(str(parent))}/{rest}")]
    return [*_matches(str(expanded))] if pattern else []


def _matches(pattern: str) -> set[str]:
    parts = Path(pattern).parts
    if "**" not in parts:
        return set(glob.glob(pattern))  # noqa: PTH207
    place = parts.index("**")
    found = set()
    for top in glob.glob(str(Path(*parts[:place]))) if place else ["."]:  # noqa: PTH207
        for folder, _, files in walk(Path(top), is_visible):
            if behind := parts[place + 1 :]:
                found |= _matches(str(Path(glob.escape(str(folder)), *behind)))
            else:
                found |= {str(folder / name) for name in files if is_visible(name)}
    return found


def walk(root: Path, enters: Callable[[str], bool]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """The folders from a folder on, each with the names of its folders and files, in a fixed order.

    Args:
        root: where to begin.
        enters: whether a folder of this name is looked into; links to folders are not.

    Raises:
        OSError: if a folder that is there cannot be listed: what it holds must not be missing unsaid.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if enters(name))
        yield Path(folder), folders, sorted(files)


def is_visible(name: str) -> bool:
    """Whether a file or folder is none of those that a shell hides."""
    return not name.startswith(".")


def parse_paths(text: str) -> list[str]:
    """Paths and globs with spaces between them, quoted as in a shell; or one path that exists, as it stands.

    Raises:
        ValueError: if a quotation is not closed.
    """
    if existing(text):
        return [text]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"`LAB_DATA` must hold paths and globs, quoted as in a shell, but {error}: {text!r}."
        ) from error
