"""The default corpus: the source of two packages that every install has, checked against a list of it.

It is the same text whatever the Python, the platform and the place of the install: the `.py` files that a
package's wheel brought, tests and stubs among them, in the order of their names, by their bytes. Nothing of a
package is imported. Another version is read just as well; it is another corpus, and that is said.

    python -m lab.data.packages      what `packages.json` must hold for the packages installed here
"""

import base64
import csv
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab.data.shortage import listed

PACKAGES = {"keras": "keras", "keras-hub": "keras_hub"}  # what pip calls it: its folder
LIST = Path(__file__).with_name("packages.json")
NAMED = 3  # differing files, in a message: enough to tell an edit from another build, and still one line


@dataclass(frozen=True)
class Package:
    """An installed package.

    Attributes:
        name: what pip calls it.
        version: of what is installed.
        root: the folder that the names of its files start from.
        recorded: the names of its `.py` files, such as `keras/src/backend/config.py`, in order, each with the
            sha256, in hex, that it had when it was installed; empty where that is not known.
    """

    name: str
    version: str
    root: Path
    recorded: dict[str, str]

    def files(self) -> dict[str, Path]:
        """Where its `.py` files are, by name, those that are gone left out."""
        paths = {file: self.root / file for file in self.recorded}
        return {file: path for file, path in paths.items() if path.is_file()}


def find_packages() -> list[Package]:
    """The packages of the corpus as they are installed, in a fixed order.

    Raises:
        ValueError: if one is not installed, or without a list of its source files.
    """
    return [_find(name, folder) for name, folder in PACKAGES.items()]


def content_hash(digests: Mapping[str, str]) -> str:
    """The sha256 over the names and digests of files, in hex: that of what `sha256sum` prints, by name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def describe_packages(digests: Mapping[str, str]) -> dict[str, Any]:
    """What was read, and how it differs from the list. A difference is said once in a process, too.

    Args:
        digests: of all files of the corpus by name, sha256 in hex.

    Returns:
        `packages`: the versions by name; `packages_note`: one line, empty if all is as listed.
    """
    packages = find_packages()
    differences = [difference for package in packages if (difference := _difference(package, digests))]
    note = ""
    if differences:
        note = (
            f"corpus=packages is not as listed, so it is another corpus: {'; '.join(differences)}. "
            "`pip install --constraint constraints.txt .`, as in `make setup`, installs the listed versions; "
            "`pip install .` reads no constraints file."
        )
    say_once(note)
    return {"packages": {package.name: package.version for package in packages}, "packages_note": note}


def _find(name: str, folder: str) -> Package:
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"corpus=packages needs the source of {listed(list(PACKAGES))}, but {name} is not installed: "
            f"`make setup` or `pip install --constraint constraints.txt {name}` installs it."
        ) from None
    # Not `installed.files`, which leaves out what is gone since Python 3.12.
    rows = sorted(csv.reader((installed.read_text("RECORD") or "").splitlines()))
    recorded = {row[0]: _sha256(row[1]) for row in rows if len(row) == 3 and _is_source(row[0], folder)}
    root = Path(str(installed.locate_file("")))
    if not any((root / file).is_file() for file in recorded):
        raise ValueError(
            f"corpus=packages needs the source files that {name} {installed.version} lists in its RECORD, "
            f"but it has none in {folder}/ (an editable install?): `pip install --force-reinstall --no-deps "
            f"--constraint constraints.txt {name}` installs them."
        )
    return Package(name, installed.version, root, recorded)


def _is_source(file: str, folder: str) -> bool:
    return file.startswith(f"{folder}/") and file.endswith(".py") and "/../" not in file


def _sha256(recorded: str) -> str:
    """A digest of RECORD in hex; one of another kind, or none, as an empty text."""
    kind, _, digest = recorded.partition("=")
    return base64.urlsafe_b64decode(f"{digest}=").hex() if kind == "sha256" else ""


def _difference(package: Package, digests: Mapping[str, str]) -> str:
    """How a package differs from the list, in words; empty if it does not."""
    name, version = package.name, package.version
    expected = json.loads(LIST.read_text(encoding="utf-8"))[name]
    if version != expected["version"]:
        return f"{name} {version} is installed, {expected['version']} is listed"
    present = {file: digests[file] for file in package.recorded if file in digests}
    if content_hash(present) == expected["sha256"]:
        return ""
    changed = [
        f"{file} is {'changed' if file in digests else 'gone'}"
        for file, digest in package.recorded.items()
        if digest and digests.get(file) != digest
    ]
    if not changed:
        return f"{name} {version} is installed, but from another build than the listed {version}"
    return (
        f"{name} {version} is installed, but {_some(changed)} (`pip install --force-reinstall --no-deps "
        f"{name}=={version}` brings the listed files back)"
    )


def _some(changed: Sequence[str]) -> str:
    more = len(changed) - NAMED
    return listed([*changed[:NAMED], *([f"{more:,} more differ"] if more > 0 else [])])


@cache
def say_once(note: str) -> None:
    """Log a note, unless it is empty or this process has logged it before."""
    if note:
        # Not a warning: its file and line would say nothing to whoever reads it.
        logging.getLogger(__name__).warning(note)


def _list_installed() -> dict[str, Any]:
    """What `packages.json` holds, for what is installed."""
    rows = {}
    for package in find_packages():
        texts = {file: path.read_bytes() for file, path in package.files().items()}
        rows[package.name] = {
            "version": package.version,
            "files": len(texts),
            "bytes": sum(map(len, texts.values())),
            "sha256": content_hash({file: hashlib.sha256(text).hexdigest() for file, text in texts.items()}),
        }
    return rows


if __name__ == "__main__":
    print(json.dumps(_list_installed(), indent=2))
