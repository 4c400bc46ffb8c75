"""Which version of a run a folder holds: its configuration, the code and the data that decide its numbers."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.tracking.records import read_json, write_json

FILE = "version.json"


@dataclass(frozen=True)
class Version:
    """What a run's numbers follow from.

    Attributes:
        config_key: of its configuration.
        code_hash: of the code that decides numbers.
        data_hash: of its corpus, split and tokenized.
    """

    config_key: str
    code_hash: str
    data_hash: str

    def digest(self) -> str:
        """16 hex digits that name the version."""
        text = "\0".join((self.config_key, self.code_hash, self.data_hash))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differs(self, other: "Version") -> list[str]:
        """What changed between two versions, in words."""
        words = {"config_key": "configuration", "code_hash": "code", "data_hash": "data"}
        return [word for name, word in words.items() if getattr(self, name) != getattr(other, name)]


def read_version(logdir: Path) -> Version | None:
    """The version that a run's folder holds, by its `version.json`, else by its result; None if neither says.

    Raises:
        ValueError: if its `version.json` is not what the lab writes.
    """
    path = logdir / FILE
    if not path.is_file():
        return _of_result(logdir / "result.json")
    try:
        return Version(**read_json(path))
    except TypeError as error:
        raise ValueError(f"{path}: not a version of a run ({error}).") from None


def _of_result(path: Path) -> Version | None:
    try:
        result = read_json(path)
        return Version(result["config_key"], result["code_hash"], result["data"]["hash"])
    except (ValueError, LookupError, TypeError):
        return None


def claim_version(logdir: Path, version: Version) -> None:
    """Write a folder's version, or make sure that it is this one.

    Raises:
        ValueError: if the folder holds another one; numbers of two versions never mix.
    """
    found = read_version(logdir)
    if found is not None and found != version:
        changed = " and ".join(found.differs(version))
        raise ValueError(
            f"{logdir} must be gone on with as it began, but other {changed} came: {found} became {version}."
        )
    if not (logdir / FILE).is_file():
        write_json(logdir / FILE, asdict(version))
