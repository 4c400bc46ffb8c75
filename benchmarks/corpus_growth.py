"""How time and memory of preparing a corpus grow with it: a Markdown table, each row a fresh process.

    python benchmarks/corpus_growth.py                       # 1, 10 and 100 MB
    python benchmarks/corpus_growth.py --megabytes 1000 --kinds whole --tokenizers bytes

The words are drawn from 50,000 at Zipf's frequencies. `whole` is 100 files that stay uncut, `cut` one file in
pieces of 4,000 characters, `short` lines of JSON with 216 bytes of text each, `refused` one file left uncut,
of which no split can be made, so that the time is that of the advice. Not in the MB/s of the last column are
what looks for near duplicates and for overlaps, and the training of BPE, which have columns of their own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

KINDS = ("whole", "cut", "short", "refused")
FILES = 100
PIECE = 4000
SHORT = 216
WORDS = 50_000
# Where the time is told apart: column, module, function.
PARTS = (
    ("near duplicates s", "lab.data.deduplication", "_near_duplicate_labels"),
    ("overlaps s", "lab.data.dataset", "seen_tokens"),
    ("train BPE s", "lab.data.dataset", "train_bpe"),
)
COLUMNS = tuple(column for column, _, _ in PARTS)


def texts(size: int, each: int) -> Iterator[str]:
    """ASCII texts of `each` characters, `size` in all."""
    generator = np.random.default_rng(0)
    letters = generator.integers(97, 123, (WORDS, 10), np.uint8).view("S10").ravel().astype(str)
    words = np.array(
        [word[:length] for word, length in zip(letters, generator.integers(2, 11, WORDS), strict=True)]
    )
    words[::12] = np.char.add(words[::12], "\n")
    shares = np.cumsum(1 / np.arange(2, WORDS + 2))
    text = ""
    while size > 0:
        while len(text) < each:
            drawn = np.searchsorted(shares, generator.random(max(each // 4, 100_000)) * shares[-1])
            text += " ".join(words[drawn].tolist())
        yield text[: min(each, size)]
        text, size = text[each:], size - each


def write_corpus(kind: str, size: int, folder: Path) -> None:
    """Files of `size` bytes of text."""
    if kind == "short":
        with (folder / "short.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts(size, SHORT))
    elif kind == "whole":
        for number, text in enumerate(texts(size, size // FILES)):
            (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    else:
        with (folder / "one.txt").open("w", encoding="utf-8") as file:
            file.writelines(texts(size, 1_000_000))


def prepare_here(kind: str, tokenizer: str, corpus: Path, cache: Path) -> dict[str, float]:
    """Prepare a corpus in this process: documents, seconds and peak memory."""
    from lab.config import DataConfig
    from lab.data.dataset import prepare

    cut = PIECE if kind == "cut" else 0
    config = DataConfig(
        corpus="text", paths=[str(corpus)], length=64, tokenizer=tokenizer, document_characters=cut
    )
    spent = time_parts()
    before, start = peak_megabytes(), time.perf_counter()
    try:
        documents = sum(prepare(config, cache).statistics["documents"].values())
    except ValueError as error:
        if "each split must get a document" not in str(error):
            raise
        documents = 0
    seconds = time.perf_counter() - start
    return {"documents": documents, "seconds": seconds, "before": before, "peak": peak_megabytes(), **spent}


def time_parts() -> dict[str, float]:
    """From now on adds up what PARTS take."""
    from importlib import import_module

    spent = dict.fromkeys(COLUMNS, 0.0)

    def timed(column, function):
        def call(*arguments):
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[column] += time.perf_counter() - start

        return call

    for column, module, name in PARTS:
        setattr(import_module(module), name, timed(column, getattr(import_module(module), name)))
    return spent


def peak_megabytes() -> float:
    """The most memory that this process has had resident, on Linux."""
    # Not `ru_maxrss`, which a process takes over from the one that started it.
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    )
    return int(status["VmHWM"].split()[0]) / 1024


def measure(kind: str, tokenizer: str, megabytes: int, folder: Path) -> list[str]:
    """A row of the table."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        corpus = Path(place, "corpus")
        corpus.mkdir()
        write_corpus(kind, megabytes * 1_000_000, corpus)
        command = [
            sys.executable,
            __file__,
            "--here",
            kind,
            tokenizer,
            str(corpus),
            str(Path(place, "cache")),
        ]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    rest = found["seconds"] - sum(found[column] for column in COLUMNS)
    return [
        kind,
        tokenizer,
        f"{megabytes:,}",
        f"{found['documents']:,}",
        f"{found['seconds']:.1f}",
        f"{megabytes / found['seconds']:.1f}",
        f"{found['peak']:.0f} ({found['before']:.0f})",
        *(f"{found[column]:.1f}" for column in COLUMNS),
        f"{megabytes / rest:.1f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tokenizers", nargs="+", default=["bytes", "bpe:1024"])
    parser.add_argument("--folder", type=Path, help="where there is room for five times the corpus")
    parser.add_argument(
        "--here", nargs=4, metavar=("KIND", "TOKENIZER", "CORPUS", "CACHE"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.here:
        kind, tokenizer, *paths = given.here
        print(json.dumps(prepare_here(kind, tokenizer, *map(Path, paths))))
        return
    titles = [
        "corpus",
        "tokenizer",
        "MB",
        "documents",
        "s",
        "MB/s",
        "peak MB (before)",
        *COLUMNS,
        "rest MB/s",
    ]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for kind in given.kinds:
        for tokenizer in given.tokenizers:
            for megabytes in given.megabytes:
                print(f"| {' | '.join(measure(kind, tokenizer, megabytes, given.folder))} |", flush=True)


if __name__ == "__main__":
    main()
