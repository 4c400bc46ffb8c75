"""Result trees of an older lab, with the fields that records have gained since."""

import json
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("old_trees.tar.xz")


def unpack_old_trees(folder: Path) -> None:
    """Write them into a folder, each below the name of its ablation."""
    with tarfile.open(ARCHIVE) as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):  # Python 3.11.2 has no filter in `extractall`
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(member).read())
    for path in [*folder.rglob("plan.json"), *folder.rglob("result.json")]:
        path.write_text(json.dumps(converted(json.loads(path.read_text()))))


def converted(record):
    """A record of schema 3 as one of schema 4: every seed had the same text."""
    if isinstance(record, list):
        return [converted(one) for one in record]
    if not isinstance(record, dict):
        return record
    record = {key: converted(value) for key, value in record.items()}
    if "schema" in record:
        record["schema"] = 4
    if "document_characters" in record:
        record["subset"] = "fixed"
    if "prompt_share" in record:
        record["temperatures"] = [1.0]
    if "hashes" in record:
        record |= {"train_tokens": 10**6, "documents": {}, "seen_tokens": {}, "seen_windows": {}}
    if "settings" in record:
        record["settings"] = {"sample": 0, **record["settings"]}
    return record
