"""Which version of a run a folder holds: what its weights follow from, value by value."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.files import read_json, write_json

if TYPE_CHECKING:
    from lab.config import RunConfig

FILE = "version.json"
ENGINE = "lab.training.engine"  # the module whose imports are the code of a run


@dataclass(frozen=True)
class Version:
    """What a run's weights follow from.

    Attributes:
        values: dotted key -> value: the configuration's (`RunConfig.keyed_values`), `data`, the hash of what
            it trains on, the `backend`, and `start`, the `result_digest` of the run that it begins from.
        code: hash of the code that trains.
    """

    values: Mapping[str, Any]
    code: str

    @classmethod
    def of(cls, config: "RunConfig", data_hash: str, backend: str, code: str, start: str = "") -> "Version":
        """The version of a run; `start` is empty if its weights are drawn."""
        values = {**config.keyed_values(), "data": data_hash, "backend": backend}
        return cls({**values, "start": start} if start else values, code)

    def digest(self) -> str:
        """16 hex digits that name the version."""
        return digest([dict(self.values), self.code])

    def differs(self, other: "Version") -> list[str]:
        """What changed from this version to another, in words: each key with its values, and the code."""
        keys = dict.fromkeys([*other.values, *self.values])
        changed = [
            f"{key} ({self.values.get(key, 'none')} became {other.values.get(key, 'none')})"
            for key in keys
            if self.values.get(key) != other.values.get(key)
        ]
        return changed + ["code"] * (self.code != other.code)


def digest(value: Any) -> str:
    """16 hex digits over a JSON value; the order of its keys counts for nothing."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def result_digest(run: str, evaluation: str) -> str:
    """16 hex digits that name a run's result: its weights and what is measured of them, hence its best stop.

    Args:
        run: the digest of its version.
        evaluation: the digest of what is measured of it.
    """
    return digest([run, evaluation])


def read_version(logdir: Path) -> Version | None:
    """The version that a run's folder holds; None if it does not say.

    Where `version.json` is missing or damaged, the result and the checkpoints say it too.
    """
    states = sorted(logdir.glob("checkpoints/step-*/state.json"), reverse=True)
    paths = (logdir / FILE, logdir / "result.json", *states)
    return next(filter(None, map(_read, paths)), None)


def _read(path: Path) -> Version | None:
    """The version that a file is, or has under `version`."""
    try:
        record = read_json(path)
        record = record if path.name == FILE else record["version"]
        sound = isinstance(record["values"], dict) and isinstance(record["code"], str)
        return Version(record["values"], record["code"]) if sound else None
    except (ValueError, LookupError, TypeError):
        return None


def claim_version(logdir: Path, version: Version) -> None:
    """Write a folder's version, or make sure that it is this one.

    Raises:
        ValueError: if the folder holds another one, or what is there does not say which it is of; numbers of
            two versions never mix.
    """
    path, held = logdir / FILE, read_version(logdir)
    if held is None and any((logdir / name).exists() for name in ("metrics.jsonl", "checkpoints")):
        raise ValueError(
            f"{path} must say of which run the folder is, but it is missing or damaged, and nothing else "
            "says it. Give another folder, or move that one away."
        )
    if held is not None and held != version:
        changed = " and ".join(held.differs(version))
        raise ValueError(
            f"{logdir} must be gone on with as it began, but this changed: {changed}. "
            "Give another folder, or move that one away."
        )
    if _read(path) is None:
        write_json(path, asdict(version))
