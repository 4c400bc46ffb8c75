import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lab.config import DataConfig
from lab.data import dataset as dataset_module
from lab.data import deduplication, overlaps, parts, records, text_store
from lab.data.cache import is_intact, write_folder
from lab.data.corpora import read_corpus
from lab.data.dataset import Dataset, prepare
from lab.data.pieces import pieces_of
from lab.data.splits import SPLITS
from lab.data.tokenizers import ByteTokenizer, PresetTokenizer


def text_of(seed, words=120):
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(900)}" for _ in range(words)) + "\n"


@pytest.fixture
def corpus(tmp_path):
    """Sixty texts, five of them copied and five nearly copied."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for seed in range(60):
        (folder / f"{seed}.txt").write_text(text_of(seed))
    for seed in range(5):
        (folder / f"copy{seed}.txt").write_text(text_of(seed).rstrip() + "  \r\n")
        (folder / f"near{seed}.txt").write_text(text_of(seed) + f"near {seed}\n")
    return folder


def config_of(folder, **values):
    return DataConfig(corpus="text", paths=[str(folder)], **{"length": 32, **values})


def documents_of(dataset, split):
    array = np.asarray(getattr(dataset, split))
    ends = np.flatnonzero(array == dataset.tokenizer.end_id)
    assert ends[-1] == len(array) - 1
    return [dataset.tokenizer.decode(part) for part in np.split(array, ends + 1)[:-1]]


def folder_of(cache):
    """The one entry of a cache."""
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    return folder


@pytest.fixture
def builds(monkeypatch):
    """A list that grows by one with each tokenization of a split."""
    calls = []
    tokenize = dataset_module.tokenize
    monkeypatch.setattr(dataset_module, "tokenize", lambda *args: calls.append(1) or tokenize(*args))
    return calls


def test_every_document_is_in_one_split_and_duplicates_do_not_straddle(corpus, tmp_path):
    dataset = prepare(config_of(corpus, validation_share=0.3, test_share=0.3), tmp_path / "cache")
    splits = {split: documents_of(dataset, split) for split in ("train", "validation", "test")}
    where = {text.strip(): split for split, texts in splits.items() for text in texts}
    assert sum(map(len, splits.values())) == len(where) == 65
    assert set(where) == {path.read_text().strip() for path in corpus.glob("*.txt")}
    for seed in range(5):
        near = (corpus / f"near{seed}.txt").read_text().strip()
        assert where[text_of(seed).strip()] == where[near]
    assert dataset.statistics["documents"] == {split: len(texts) for split, texts in splits.items()}
    assert dataset.statistics["exact_duplicates_removed"] == 5
    assert dataset.statistics["near_duplicate_groups"] == 5
    assert dataset.statistics["near_duplicate_documents"] == 10


def test_statistics_count_tokens_and_bytes(corpus, tmp_path):
    dataset = prepare(config_of(corpus), tmp_path)
    statistics = dataset.statistics
    for split in ("train", "validation", "test"):
        assert statistics["tokens"][split] == len(getattr(dataset, split))
        assert statistics["tokens"][split] == statistics["bytes"][split] + statistics["documents"][split]
    assert statistics["bytes_per_token"] == pytest.approx(
        sum(statistics["bytes"].values()) / sum(statistics["tokens"].values()), rel=1e-12
    )
    assert statistics["byte_coverage"] == 1.0


def test_an_end_is_no_token_that_the_training_split_holds_too(corpus, tmp_path):
    dataset = prepare(config_of(corpus), tmp_path)
    for split in ("validation", "test"):
        ends = np.asarray(getattr(dataset, split)) == dataset.tokenizer.end_id
        np.testing.assert_array_equal(dataset.seen[split], ends)
    assert dataset.statistics["seen"] == {"validation": 0.0, "test": 0.0}


def test_arrays_are_mapped_and_small(corpus, tmp_path):
    dataset = prepare(config_of(corpus), tmp_path)
    assert isinstance(dataset.train, np.memmap)
    assert dataset.train.dtype == np.uint16
    assert not dataset.train.flags.writeable


def test_wide_vocabularies_get_wide_ids():
    class Wide(ByteTokenizer):
        vocab_size = (1 << 16) + 1

    assert [part.dtype for part in dataset_module.tokenize(Wide(), [["a"], ["b"]])] == [np.int32]


def test_what_is_left_out_is_of_the_way_and_not_of_the_cache(corpus, tmp_path, builds, caplog):
    whole = prepare(config_of(corpus), tmp_path / "cache")
    assert (whole.left_out, caplog.messages) == ("", [])
    (corpus / "table.csv").write_text("x")
    builds.clear()
    other = prepare(config_of(corpus), tmp_path / "cache")
    assert other.left_out.startswith("Of the text 1 file (1 .csv) was not read.")
    assert caplog.messages == [other.left_out]
    assert (other.hashes, builds) == (whole.hashes, [])
    assert prepare(config_of(corpus / "*.txt"), tmp_path / "cache").left_out == ""


def test_files_that_cannot_be_read_are_listed_beside_what_is_wrong_in_others(corpus, tmp_path, monkeypatch):
    opened = Path.open

    def refused(path, *args, **options):
        if path.name in ("3.txt", "4.txt"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refused)
    (corpus / "5.txt").write_bytes(b"\xff")
    with pytest.raises(
        ValueError, match=r"(?s)^3 faults:.*/3\.txt: could.*/4\.txt: could not.*/5\.txt: expected"
    ):
        prepare(config_of(corpus), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_cache_hit_reads_the_same_and_tokenizes_nothing(corpus, tmp_path, builds):
    first = prepare(config_of(corpus), tmp_path / "cache")
    assert len(builds) == 3
    second = prepare(config_of(corpus), tmp_path / "cache")
    assert len(builds) == 3
    assert (second.hashes, second.statistics) == (first.hashes, first.statistics)
    np.testing.assert_array_equal(first.train, second.train)


def test_trained_tokenizer_comes_back_from_the_cache(corpus, tmp_path, builds):
    first = prepare(config_of(corpus, tokenizer="bpe:300"), tmp_path / "cache")
    second = prepare(config_of(corpus, tokenizer="bpe:300"), tmp_path / "cache")
    assert len(builds) == 3
    assert first.tokenizer.state() == second.tokenizer.state()
    assert first.tokenizer.vocab_size == 301
    assert text_of(59) in {
        text for split in ("train", "validation", "test") for text in documents_of(second, split)
    }


def test_bpe_is_trained_on_the_training_split_alone(corpus, tmp_path, monkeypatch):
    seen = []
    train_bpe = dataset_module.train_bpe
    monkeypatch.setattr(
        dataset_module, "train_bpe", lambda name, texts: seen.extend(texts) or train_bpe(name, seen)
    )
    dataset = prepare(config_of(corpus, tokenizer="bpe:300"), tmp_path / "cache")
    assert seen == documents_of(dataset, "train")


def test_names_places_and_times_decide_nothing(corpus, tmp_path):
    first = prepare(config_of(corpus), tmp_path / "cache")
    moved = tmp_path / "moved"
    moved.mkdir()
    for index, path in enumerate(sorted(corpus.iterdir(), reverse=True)):
        shutil.copy(path, moved / f"{index:03}.md")
    second = prepare(config_of(moved), tmp_path / "another cache")
    assert first.hashes == second.hashes
    np.testing.assert_array_equal(first.train, second.train)


def test_the_way_to_a_corpus_decides_nothing(corpus, tmp_path, monkeypatch, builds):
    monkeypatch.chdir(corpus.parent)
    first = prepare(config_of("corpus"), tmp_path / "cache")
    around = f"../{tmp_path.name}/corpus"
    for path in ("./corpus", "corpus/", "corpus/*.txt", around, f"{around}/**/*.txt", str(corpus)):
        assert prepare(config_of(path), tmp_path / "cache").hashes == first.hashes
    assert len(builds) == 3


def test_hashes_follow_what_is_trained_on_and_measured(corpus, tmp_path):
    cache = tmp_path / "cache"
    first = prepare(config_of(corpus), cache)
    assert set(first.hashes) == set(SPLITS)
    assert first.hash == first.hashes["train"]
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in first.hashes.values())
    hashes = [tuple(first.hashes.values())]
    for values in ({"tokenizer": "bpe:300"}, {"validation_share": 0.3, "test_share": 0.3}):
        hashes.append(tuple(prepare(config_of(corpus, **values), cache).hashes.values()))
    assert all(len(set(of_split)) == 3 for of_split in zip(*hashes, strict=True))


@pytest.mark.parametrize("split", SPLITS)
def test_a_byte_of_a_document_changes_the_hash_of_its_split_alone(split, corpus, tmp_path):
    first = prepare(config_of(corpus, test_share=0.3), tmp_path / "cache")
    # Of no group of near duplicates, which its first member would lead to another split.
    path = next(path for path in corpus.glob("[1-9]?.txt") if path.read_text() in documents_of(first, split))
    status, text = path.stat(), path.read_text()
    for place in range(1, 20):  # a text goes where its content leads it: until it stays
        path.write_text(text[:-place] + "#" + text[len(text) - place + 1 :])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same time
        second = prepare(config_of(corpus, test_share=0.3), tmp_path / "cache")
        if path.read_text() in documents_of(second, split):
            break
    assert {name for name in SPLITS if first.hashes[name] != second.hashes[name]} == {split}


def test_settings_and_code_that_change_no_array_change_no_hash(corpus, tmp_path, monkeypatch, builds):
    hashes = [prepare(config_of(corpus), tmp_path / "cache").hashes]
    for values in ({"text_field": "x"}, {"document_characters": 10_000}, {"validation_share": 0.1001}):
        hashes.append(prepare(config_of(corpus, **values), tmp_path / "cache").hashes)
    monkeypatch.setattr(dataset_module, "CODE_HASH", "0" * 16)
    hashes.append(prepare(config_of(corpus), tmp_path / "cache").hashes)
    assert len(builds) == 5 * 3
    assert all(other == hashes[0] for other in hashes)


def test_the_dtype_of_the_ids_and_the_tokenizer_are_content(tmp_path):
    def hash_of(array, tokenizer):
        np.save(tmp_path / "array.npy", array)
        return dataset_module.content_hash([tmp_path / "array.npy"], tokenizer)

    array = np.arange(8, dtype=np.uint16)
    hashes = {
        hash_of(array, ByteTokenizer()),
        hash_of(array.view(np.int32), ByteTokenizer()),
        hash_of(array, PresetTokenizer("here", [1, 2])),
        hash_of(array, PresetTokenizer("here", [1, 3])),
    }
    assert len(hashes) == 4
    assert hash_of(array, PresetTokenizer("there", [1, 2])) in hashes


def test_golden_hashes(corpus, tmp_path):
    # They may change only if the arrays are meant to: every run and measurement is then new.
    assert prepare(config_of(corpus), tmp_path / "cache").hashes == GOLDEN["bytes"]
    assert prepare(config_of(corpus, tokenizer="bpe:300"), tmp_path / "cache").hashes == GOLDEN["bpe:300"]


GOLDEN = {
    "bytes": {"train": "990de23600f07081", "validation": "e5e31873dc6e005a", "test": "c10cd6dd0528bea1"},
    "bpe:300": {"train": "572ab28fc7c97d0d", "validation": "9072058b9d27b1a9", "test": "e55d030f5bdf526e"},
}


def test_a_cache_entry_of_another_format_is_rebuilt(corpus, tmp_path, builds):
    first = prepare(config_of(corpus), tmp_path / "cache")
    folder = folder_of(tmp_path / "cache")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    del files["hashes.json"], files["checksums.json"]
    write_folder(
        folder, lambda place: [(place / name).write_bytes(data) for name, data in files.items()] and None
    )
    assert is_intact(folder)
    assert prepare(config_of(corpus), tmp_path / "cache").hashes == first.hashes
    assert len(builds) == 6


def test_an_array_is_the_file_that_numpy_would_save(corpus, tmp_path):
    dataset = prepare(config_of(corpus), tmp_path / "cache")
    for split in SPLITS:
        np.save(tmp_path / "saved.npy", getattr(dataset, split))
        written = folder_of(tmp_path / "cache") / f"{split}.npy"
        assert written.read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    """Of sixty documents of sixty long words one is in memory, and the sketches of all.

    Looking for overlaps and tokenizing take some bytes of text at once, which are made few here.
    """
    monkeypatch.setattr(overlaps, "LOOKED_AT", 1 << 12)
    monkeypatch.setattr(overlaps, "_CHUNK", 1 << 12)
    monkeypatch.setattr(dataset_module, "_BATCH", 1 << 12)
    peaks = []
    for repeats in (1, 1, 200):  # the first brings what is imported
        corpus = tmp_path / f"{repeats}.jsonl"
        texts = [" ".join(word * repeats for word in text_of(seed, 60).split()) for seed in range(60)]
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        del texts
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        tracemalloc.start()
        prepare(config_of(corpus), tmp_path / "cache")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert corpus.stat().st_size > 2_500_000
    assert peaks[2] < peaks[1] + 750_000


MEMORY = """
import re, sys
from pathlib import Path
from lab.config import DataConfig
from lab.data import deduplication, overlaps
from lab.data.dataset import prepare
overlaps._MOST_BITS = 20  # so that even the small corpus has the largest bitmap
overlaps.LOOKED_AT = 1 << 17
for corpus in sys.argv[2:]:
    prepare(DataConfig(corpus="text", paths=[corpus], length=32), Path(sys.argv[1]))
    # Not `ru_maxrss`, which a process takes over from the one that started it.
    print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def write_lines(path, count, words):
    numbers = random.Random(count)
    with path.open("w") as file:
        for _ in range(count):
            file.write(
                json.dumps({"text": " ".join(hex(numbers.getrandbits(48)) for _ in range(words))}) + "\n"
            )


def write_files(path, count, words):
    path.mkdir()
    for number in range(count):
        (path / f"{number}.txt").write_text(" ".join(map(hex, range(number * words, (number + 1) * words))))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["long documents", "short documents"])
def test_the_process_needs_no_more_memory_for_a_larger_corpus(kind, tmp_path):
    """Beside what it has needed for a corpus of a hundredth, which brings all that is imported."""
    small, large = tmp_path / "small.jsonl", tmp_path / "large"
    write_lines(small, 300, 200)
    if kind == "long documents":
        write_files(large, 30, 50_000)
    else:
        large = tmp_path / "large.jsonl"
        write_lines(large, 20_000, 12)
    command = [sys.executable, "-c", MEMORY, tmp_path / "cache", small, large]
    before, after = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
    assert after - before < 20  # MB; when all arrays were held at once, 58 and 38


def test_each_text_is_read_and_tokenized_once(corpus, tmp_path, monkeypatch):
    tokenized, sketched = [], []
    encode_batch, word_hashes = ByteTokenizer.encode_batch, deduplication._word_hashes
    monkeypatch.setattr(
        ByteTokenizer,
        "encode_batch",
        lambda self, texts: tokenized.extend(texts) or encode_batch(self, texts),
    )
    monkeypatch.setattr(
        deduplication, "_word_hashes", lambda text: sketched.append(text) or word_hashes(text)
    )
    prepare(config_of(corpus), tmp_path / "cache")
    assert len(tokenized) == len(sketched) == len(set(tokenized)) == len(set(sketched)) == 65


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
@pytest.mark.parametrize("characters", [0, 2000])
def test_the_size_of_parts_decides_nothing(tokenizer, characters, corpus, tmp_path, monkeypatch):
    book_of(corpus, 3000)
    config = config_of(corpus, tokenizer=tokenizer, document_characters=characters)
    whole = prepare(config, tmp_path / "cache").hashes
    for module in (parts, records, text_store):
        monkeypatch.setattr(module, "PART", 100)
    monkeypatch.setattr(dataset_module, "_BATCH", 150)
    assert prepare(config, tmp_path / "another cache").hashes == whole


def test_a_file_that_is_touched_while_it_is_read_has_not_changed(corpus, tmp_path, monkeypatch):
    read_corpus = dataset_module.read_corpus

    def touch_then_read(config):
        os.utime(corpus / "0.txt", (1, 1))
        return read_corpus(config)

    monkeypatch.setattr(dataset_module, "read_corpus", touch_then_read)
    assert prepare(config_of(corpus), tmp_path / "cache").hashes == GOLDEN["bytes"]


@pytest.fixture
def no_sources(monkeypatch):
    """A function after which looking at the sources fails."""

    def fail(config):
        raise AssertionError("the sources were looked at")

    return lambda: [
        monkeypatch.setattr(dataset_module, name, fail) for name in ("find_sources", "read_corpus")
    ]


def test_with_its_key_a_corpus_is_taken_without_a_look_at_the_sources(corpus, tmp_path, builds, no_sources):
    first = prepare(config_of(corpus), tmp_path / "cache")
    assert re.fullmatch("[0-9a-f]{16}", first.key)
    assert prepare(config_of(corpus), tmp_path / "cache").key == first.key
    no_sources()
    shutil.rmtree(corpus)
    second = prepare(config_of(corpus), tmp_path / "cache", key=first.key)
    assert (second.hashes, second.statistics, second.key) == (first.hashes, first.statistics, first.key)
    np.testing.assert_array_equal(first.train, second.train)
    assert len(builds) == 3


@pytest.mark.parametrize("lack", ["another cache", "damage"])
def test_a_key_that_the_cache_lacks_reads_the_sources(lack, corpus, tmp_path, builds):
    first = prepare(config_of(corpus), tmp_path / "cache")
    if lack == "damage":
        (folder_of(tmp_path / "cache") / "train.npy").write_bytes(b"")
    cache = tmp_path / ("another cache" if lack == "another cache" else "cache")
    assert prepare(config_of(corpus), cache, key=first.key).hashes == first.hashes
    assert prepare(config_of(corpus), tmp_path / "empty", key="f" * 16).key == first.key
    assert len(builds) == 9


def test_a_key_of_a_corpus_with_too_short_a_split_is_refused_too(corpus, tmp_path):
    key = prepare(config_of(corpus), tmp_path / "cache").key
    with pytest.raises(
        ValueError, match=r"each split must hold one window of length=20000 tokens, but valid"
    ):
        prepare(config_of(corpus, length=20000), tmp_path / "cache", key=key)


def test_length_budget_and_windows_share_one_cache(corpus, tmp_path):
    values = {"unique_tokens": 64, "windows": "jittered", "length": 16}
    first = prepare(config_of(corpus), tmp_path / "cache")
    assert prepare(config_of(corpus, **values), tmp_path / "cache").hashes == first.hashes
    assert folder_of(tmp_path / "cache").is_dir()


@pytest.mark.parametrize(
    "name", ["train.npy", "test.npy", "tokenizer.json", "hashes.json", "statistics.json", "checksums.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_corrupt_cache_is_rebuilt(name, damage, corpus, tmp_path, builds):
    first = prepare(config_of(corpus), tmp_path / "cache")
    good = np.array(first.train)
    path = folder_of(tmp_path / "cache") / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-1] if damage == "cut" else data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    second = prepare(config_of(corpus), tmp_path / "cache")
    assert len(builds) == 6
    assert path.read_bytes() == data
    np.testing.assert_array_equal(second.train, good)


def test_cache_that_does_not_keep_what_is_written_is_an_error(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "is_intact", lambda folder: False)
    with pytest.raises(OSError, match="what was written there reads back otherwise"):
        prepare(config_of(corpus), tmp_path / "cache")


def test_files_that_change_while_they_are_read(corpus, tmp_path, monkeypatch):
    read_corpus = dataset_module.read_corpus

    def change_then_read(config):
        (corpus / "0.txt").write_text("other")
        return read_corpus(config)

    monkeypatch.setattr(dataset_module, "read_corpus", change_then_read)
    with pytest.raises(ValueError, match="must stay as they are while they are read"):
        prepare(config_of(corpus), tmp_path / "cache")


PREPARE = """
import sys, time
from pathlib import Path
from lab.config import DataConfig
from lab.data import dataset
build = dataset._build
def slow_build(*args):
    with open(sys.argv[3], "a") as log:
        log.write("built\\n")
    time.sleep(0.5)
    return build(*args)
dataset._build = slow_build
config = DataConfig(corpus="text", paths=[sys.argv[1]], length=32)
print(dataset.prepare(config, Path(sys.argv[2])).hash)
"""


def test_processes_that_prepare_at_once_build_once(corpus, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", PREPARE, str(corpus), str(tmp_path / "cache"), str(log)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    hashes = {process.communicate(timeout=600)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"
    assert len(hashes) == 1
    assert is_intact(folder_of(tmp_path / "cache"))


def book_of(folder, words, seed=0, line_words=12):
    """A file of text in lines, and its text."""
    folder.mkdir(exist_ok=True)
    numbers = random.Random(seed)
    lines = (
        " ".join(f"w{numbers.randrange(900)}" for _ in range(line_words)) for _ in range(words // line_words)
    )
    text = "\n".join(lines) + "\n"
    (folder / "book.txt").write_text(text)
    return text


def test_one_text_is_cut_into_documents_that_joined_are_the_text(tmp_path):
    text = book_of(tmp_path / "corpus", 6000)
    dataset = prepare(config_of(tmp_path / "corpus", document_characters=500), tmp_path / "cache")
    pieces = [piece for split in SPLITS for piece in documents_of(dataset, split)]
    pieces.sort(key=text.index)
    assert "".join(pieces) == text
    assert all(piece.endswith("\n") and 500 <= len(piece) < 1000 for piece in pieces[:-1])
    statistics = dataset.statistics
    counts = ("files", "documents_read", "documents_cut", "document_characters")
    assert [statistics[name] for name in counts] == [1, 1, 1, 500]
    assert sum(statistics["documents"].values()) == len(pieces)
    assert sum(statistics["bytes"].values()) == len(text)


def test_pieces_of_every_kind_of_corpus_obey_the_rules_of_duplicates(tmp_path):
    text = book_of(tmp_path / "corpus", 6000)
    (tmp_path / "corpus" / "copy.jsonl").write_text(
        "".join(json.dumps({"text": copy}) + "\n" for copy in (text, text + text_of(0)))
    )
    dataset = prepare(config_of(tmp_path / "corpus", document_characters=500), tmp_path / "cache")
    statistics = dataset.statistics
    distinct = sum(statistics["documents"].values())
    assert [statistics[name] for name in ("files", "documents_read", "documents_cut")] == [2, 3, 3]
    # The copies' pieces but those at the end of the longer one are exact duplicates.
    assert statistics["exact_duplicates_removed"] == pytest.approx(2 * distinct, abs=3)
    where = {}
    for split in SPLITS:
        for piece in documents_of(dataset, split):
            where.setdefault(piece, set()).add(split)
    assert {len(splits) for splits in where.values()} == {1}


def test_the_standard_library_is_cut_too():
    config = DataConfig(corpus="stdlib")
    documents = {document.name: "".join(document.parts()) for document in read_corpus(config)}
    pieces = [piece for document in read_corpus(config) for piece in pieces_of(document, 20_000)]
    assert len(pieces) > len(documents)
    for name in ("argparse.py", "pydoc_data/topics.py"):
        whole = "".join(piece.text for piece in pieces if piece.name.split("#")[0] == name)
        assert whole == documents[name]


def suggested(folder, tmp_path, **values):
    """The message about a corpus that is too small, and the number it suggests."""
    config = config_of(folder, **values)
    with pytest.raises(ValueError, match="each split must") as caught:
        prepare(config, tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message  # a driver shows the last line of a failed run
    found = re.search(r"--set data\.document_characters=(\d+), SET= for make", message)
    return message, int(found[1]) if found else None, config


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (400, {}),
        (6000, {}),
        (60_000, {}),
        (6000, {"document_characters": 10_000}),
        (6000, {"length": 600}),
        (20_000, {"tokenizer": "bpe:300"}),
        (6000, {"validation_share": 0.02, "test_share": 0.02}),
    ],
    ids=str,
)
def test_one_text_is_too_few_documents_and_the_suggestion_works(words, values, tmp_path):
    text = book_of(tmp_path / "corpus", words)
    message, characters, config = suggested(tmp_path / "corpus", tmp_path, **values)
    assert f"got none: the corpus has 1 document in 1 file ({len(text):,} characters), of which" in message
    assert characters >= config.length
    dataset = prepare(
        config.model_copy(update={"document_characters": characters}), tmp_path / "another cache"
    )
    assert min(dataset.statistics["tokens"].values()) >= config.length
    if len(text) > 100 * config.length and len(values) < 2:
        assert 35 <= sum(dataset.statistics["documents"].values()) <= 100


def test_near_duplicates_that_leave_a_split_empty_are_counted(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(text_of(0, words=400) + f"copy {number}\n")
    (tmp_path / "same.txt").write_text(text_of(0, words=400) + "copy 0\n")
    message, characters, _ = suggested(tmp_path, tmp_path)
    assert re.search(
        r"but \w+ and \w+ got none: the corpus has 10 documents in 10 files \([\d,]+ char", message
    )
    assert ", of which 9 distinct in 1 group of near duplicates. Give more documents, or let" in message
    assert characters is not None


def test_too_little_text_for_any_pieces(tmp_path):
    (tmp_path / "only.txt").write_text("x = 1\n")
    message, characters, _ = suggested(tmp_path, tmp_path)
    assert characters is None
    assert message.endswith("distinct. Give more text: there is too little for pieces of it to help.")


@pytest.mark.parametrize(
    "kind", ["equal lines", "one text of equal lines", "one character", "templated records"]
)
@pytest.mark.parametrize("values", [{}, {"document_characters": 600}], ids=str)
def test_a_corpus_that_repeats_itself_is_told_so(kind, values, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = ["the same line again\n"] * 3000
    if kind == "one character":
        lines = ["a"] * 60_000
    elif kind == "templated records":
        lines = [f"{text_of(0, words=80).strip()} {number}\n" for number in range(300)]
    if kind in ("equal lines", "templated records"):
        (folder / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    else:
        (folder / "a.txt").write_text("".join(lines))
    message, characters, _ = suggested(folder, tmp_path, **values)
    assert characters is None
    assert re.search(r"Give text that repeats itself less: its [\d,]+ pieces are all duplicates", message)


def test_split_shorter_than_a_window(corpus, tmp_path):
    config = config_of(corpus, length=20000)
    with pytest.raises(
        ValueError,
        match=r"each split must hold one window of length=20000 tokens, but validation has [\d,]+ tokens and "
        r"test has [\d,]+ tokens: the corpus has 70 documents in 70 files .*\. Give more text: .* "
        r"A lower data\.length helps too",
    ):
        prepare(config, tmp_path / "cache")


def test_documents_that_leave_a_split_shorter_than_a_window_are_cut_by_the_suggestion(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(text_of(number, words=5))
    book_of(tmp_path, 6000)
    message, characters, config = suggested(tmp_path, tmp_path, length=200)
    assert "each split must hold one window of length=200 tokens, but" in message
    prepare(config.model_copy(update={"document_characters": characters}), tmp_path / "another cache")


def test_copies_of_text_without_spaces_are_in_one_split(tmp_path):
    """Documents of 400 characters of Chinese, each beside one in which a character is another."""
    folder, numbers = tmp_path / "corpus", random.Random(0)
    folder.mkdir()
    texts = []
    for number in range(60):
        text = [chr(numbers.randrange(0x4E00, 0x4E00 + 3000)) for _ in range(400)]
        text[20::20] = "，" * 19
        texts.append("".join(text))
        text[numbers.randrange(20)] = "新"
        (folder / f"{number}.txt").write_text(texts[-1])
        (folder / f"{number} copy.txt").write_text("".join(text))
    (folder / "short.txt").write_text("短文")
    dataset = prepare(config_of(folder), tmp_path / "cache")
    where = {document[25:]: [] for document in texts}
    for split in SPLITS:
        for document in documents_of(dataset, split):
            where.get(document[25:], []).append(split)
    assert all(len(splits) == 2 and len(set(splits)) == 1 for splits in where.values())
    assert dataset.statistics["near_duplicate_groups"] == 60
    assert dataset.statistics["too_short_to_compare"] == 1


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
@pytest.mark.parametrize("fill", [" ", " \n", "a", "漢"])
def test_time_grows_with_a_text_of_one_run_and_not_by_its_square(tokenizer, fill, tmp_path, monkeypatch):
    """What a tokenizer is trained on is cut, as its time is by the square of the longest run."""
    given = []
    train = dataset_module.train_bpe
    monkeypatch.setattr(
        dataset_module,
        "train_bpe",
        lambda name, texts: train(name, (given.append(text) or text for text in texts)),
    )
    folder = tmp_path / "corpus"
    folder.mkdir()
    for seed in range(60):
        (folder / f"{seed}.txt").write_text(text_of(seed) + (f"{fill * 20_000}." if seed == 7 else ""))
    dataset = prepare(config_of(folder, tokenizer=tokenizer), tmp_path / "cache")
    assert dataset.statistics["byte_coverage"] == 1
    assert max(map(len, given), default=0) <= (tokenizer != "bytes") * 5000


def test_preset_tokenizer_end_to_end(corpus, tmp_path, builds):
    import keras_hub
    from test_tokenizers import byte_alphabet, save_preset

    vocabulary = {token: index for index, token in enumerate(["<|endoftext|>", *byte_alphabet(), "w1"])}
    layer = keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=["w 1"])
    preset = tmp_path / "preset"
    preset.mkdir()
    config = config_of(corpus, tokenizer=save_preset(layer, "keras_hub>GPT2Backbone", preset))
    dataset = prepare(config, tmp_path / "cache")
    assert dataset.statistics["byte_coverage"] == 1.0
    assert dataset.statistics["bytes_per_token"] > 1.0
    assert isinstance(dataset, Dataset)
    again = prepare(config, tmp_path / "cache")
    assert len(builds) == 3
    assert again.tokenizer.vocab_size == dataset.tokenizer.vocab_size == 259
    assert documents_of(again, "test") == documents_of(dataset, "test")
