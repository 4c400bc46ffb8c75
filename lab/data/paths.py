"""Paths that a user gives: literal where there is such a file or folder, else patterns."""

import glob
import os
import shlex
from pathlib import Path


def existing(given: str) -> Path | None:
    """The file or folder that has this name, brackets, stars and all; `~` is the user's folder."""
    for path in (Path(given), Path(os.path.expanduser(given))):  # noqa: PTH111 (Path raises at ~nobody)
        if given and path.exists():
            return path
    return None


def matches(pattern: str) -> list[str]:
    """What a glob matches, in no order; folders that exist by their literal names are taken for them."""
    expanded = Path(os.path.expanduser(pattern))  # noqa: PTH111
    for path in (Path(pattern), expanded):
        for parent in path.parents:
            if (glob.has_magic(str(parent)) or str(parent).startswith("~")) and parent.is_dir():
                rest = path.relative_to(parent)
                return glob.glob(f"{glob.escape(str(parent))}/{rest}", recursive=True)  # noqa: PTH207
    return glob.glob(str(expanded), recursive=True) if pattern else []  # noqa: PTH207


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
