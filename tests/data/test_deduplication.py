import hashlib
import random
import re
import zlib

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from lab.data import deduplication, text_store
from lab.data.deduplication import content_digest
from lab.data.text_store import Texts, TextStore


def words(seed, count=400):
    generator = random.Random(seed)
    return [f"w{generator.randrange(5000)}" for _ in range(count)]


def text_of(text_words):
    return " ".join(text_words) + "\n"


def deduplicated(texts, folder):
    """The unique texts, and each text as it was kept, in their order."""
    with TextStore(folder) as store:
        unique = deduplication.deduplicate(iter(texts), store)
        return unique, [store.read(item.number) for item in unique]


def sketch_of(text):
    """By datasketch, of a set of shingles that are hashed one after the other."""
    hashes = [zlib.crc32(word.encode()) for word in text.split()]
    size = min(5, len(hashes))
    shingles = set()
    for start in range(len(hashes) - size + 1):
        shingle = 0
        for word in hashes[start : start + size]:
            shingle = (shingle * 0x01000193 + word) % 2**32
        shingles.add(shingle)
    sketch = MinHash(128, scheme="affine32", hashfunc=int)
    sketch.update_batch(shingles)
    return sketch


def sketches_of(texts, folder):
    with TextStore(folder) as store:
        for text in texts:
            store.append([text])
        return np.concatenate(list(deduplication._sketches(Texts(store, range(len(texts))))))


def groups(named, folder):
    """The names of the texts that are kept, by group."""
    names = {text: name for name, text in named.items()}
    unique, texts = deduplicated(named.values(), folder)
    grouped = {}
    for item, text in zip(unique, texts, strict=True):
        grouped.setdefault(item.group, set()).add(names[text])
    return sorted(map(sorted, grouped.values()))


@pytest.mark.parametrize("copy", ["a b\r\nc\r\n", "a b \t\nc", "a b\nc\n\n\n", "a b\rc"])
def test_content_is_equal_up_to_line_ends_and_the_first_by_its_characters_is_kept(copy, tmp_path):
    text = "a b\nc\n"
    assert content_digest(copy) == content_digest(text)
    for given in ([text, copy], [copy, text], [copy, text, copy]):
        assert deduplicated(given, tmp_path)[1] == [min(text, copy)]


@pytest.mark.parametrize("other", ["a  b\nc\n", " a b\nc\n", "a b\n\nc\n", "A b\nc\n"])
def test_other_content_stays(other, tmp_path):
    assert len(deduplicated(["a b\nc\n", other], tmp_path)[0]) == 2


def test_near_duplicates_share_a_group_directly_and_by_a_chain(tmp_path):
    first = words(0)
    second = [*first[:-24], *words(1, 24)]
    named = {
        "first": first,
        "second": second,
        "third": [*words(2, 24), *second[24:]],  # similarity 0.89 with the second, 0.78 with the first
        "else": words(3),
        "half": [*first[:280], *words(4, 120)],  # similarity 0.5
    }
    texts = {name: text_of(text_words) for name, text_words in named.items()}
    assert groups(texts, tmp_path) == [["else"], ["first", "second", "third"], ["half"]]


def test_the_group_is_named_by_its_first_digest(tmp_path):
    unique, _ = deduplicated([text_of(words(0)), text_of([*words(0), "more"])], tmp_path)
    assert {item.group for item in unique} == {min(item.digest for item in unique)}


def test_the_order_of_the_input_decides_nothing(tmp_path):
    texts = [text_of(words(seed)) for seed in range(20)]
    texts += [text_of([*words(seed), *extra]) for seed in range(5) for extra in (["more"], ["else", "where"])]
    texts += [text_of(words(seed)) + "\n" * seed for seed in range(3)]
    given, kept = deduplicated(texts, tmp_path)
    random.Random(0).shuffle(texts)
    shuffled, kept_of_shuffled = deduplicated(texts, tmp_path)
    assert [(item.digest, item.group) for item in given] == [(item.digest, item.group) for item in shuffled]
    assert kept == kept_of_shuffled
    assert [item.digest for item in given] == sorted(item.digest for item in given)


def test_groups_are_those_that_compare_every_pair_of_a_bucket(tmp_path):
    numbers = random.Random(0)
    texts = [words(0)]
    for _ in range(150):  # each alters a few words of one before it: chains of all lengths, some broken
        text = list(numbers.choice(texts))
        start, count = numbers.randrange(380), numbers.choice([1, 5, 15, 40])
        text[start : start + count] = words(numbers.random(), count)
        texts.append(text)
    unique, kept = deduplicated(map(text_of, texts), tmp_path)
    sketches = [sketch_of(text) for text in kept]
    index = MinHashLSH(num_perm=128, params=deduplication._BANDS)
    for number, sketch in enumerate(sketches):
        index.insert(number, sketch)
    group = list(range(len(kept)))
    for number, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if sketch.jaccard(sketches[other]) >= deduplication.JACCARD_THRESHOLD:
                former, joined = group[number], group[other]
                group = [joined if label == former else label for label in group]
    assert 3 < len(set(group)) < 100
    first = {}
    for item, label in zip(unique, group, strict=True):  # by rising digest
        first.setdefault(label, item.digest)
    assert [item.group for item in unique] == [first[label] for label in group]


def test_short_texts_are_compared_too(tmp_path):
    assert groups({"a": "x", "b": "y", "c": "x\n"}, tmp_path) == [["a"], ["b"]]


@pytest.mark.parametrize("batch", [1, 300, 1 << 16])
def test_sketches_are_those_of_datasketch(batch, tmp_path, monkeypatch):
    monkeypatch.setattr(deduplication, "_BATCH_WORDS", batch)
    monkeypatch.setattr(text_store, "PART", 500)
    texts = [text_of(words(count, count)) for count in (1, 2, 3, 4, 5, 6, 7, 80, 1000, 3, 5, 2000, 90, 1)]
    texts += ["größer als\x1c\u2028漢字 \x85x\xa0y", "a\x1cb\x1dc d e\x1ff", "", " ".join(["x" * 600] * 7)]
    assert (sketches_of(texts, tmp_path) == [sketch_of(text).hashvalues for text in texts]).all()


def test_a_bucket_that_is_joined_already_is_not_compared(tmp_path, monkeypatch):
    compared = []
    near_pairs = deduplication._near_pairs
    monkeypatch.setattr(
        deduplication, "_near_pairs", lambda *args: compared.append(len(args[0])) or near_pairs(*args)
    )
    texts = [text_of([*words(0), f"more {number}"]) for number in range(100)]
    assert len({item.group for item in deduplicated(texts, tmp_path)[0]}) == 1
    assert sum(compared) < 3 * len(texts)


@pytest.mark.parametrize("part", [40, 1000])
def test_content_is_digested_in_parts_to_the_same_digest(part, tmp_path, monkeypatch):
    monkeypatch.setattr(text_store, "PART", part)
    text = "".join(
        f"{word}{space}" for word, space in zip(words(0), [" ", "\t\r\n", "\n\n", " \n"] * 100, strict=True)
    )
    with TextStore(tmp_path) as store:
        store.append([text])
        parts = [*store.parts(0)]
    assert len(parts) > 1
    (item,) = deduplicated([parts], tmp_path / "..")[0]
    assert item.digest == content_digest(text) == hashlib.sha256(normalised(text).encode()).hexdigest()


def normalised(text):
    """By the words of `deduplicate`: line ends, white space before them, and the end of the text."""
    return re.sub(r"[ \t]+$", "", text.replace("\r\n", "\n").replace("\r", "\n"), flags=re.MULTILINE).rstrip()


def test_groups_that_the_corpus_gives_take_the_place_of_near_duplicates(tmp_path):
    near = [text_of(words(0)), text_of([*words(0), "more"])]
    texts = [*near, text_of(words(1)), text_of(words(1)) + "\n", text_of(words(2))]
    names: list[str] = []

    def read():
        for text, name in zip(texts, ("one", "other", "one", "one", "third"), strict=True):
            names.append(name)
            yield text

    with TextStore(tmp_path) as store:
        unique = deduplication.deduplicate(read(), store, names)
    digests = [content_digest(text) for text in texts]
    first = min(digests[0], digests[2])
    group = {digests[0]: first, digests[1]: digests[1], digests[2]: first, digests[4]: digests[4]}
    assert {item.digest: item.group for item in unique} == group
    assert sorted(unique.group_sizes) == [1, 1, 2]
