import hashlib
import json
import random
import re
import timeit
import zlib
from array import array

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from lab.data import deduplication, text_store
from lab.data.deduplication import content_digest
from lab.data.splits import split_of
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
        return np.concatenate(list(deduplication._sketches(Texts(store, range(len(texts))), array("b"))))


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


# Alphabets, and how many characters a word has that has no space behind it; 0 where none has.
SCRIPTS = {
    "Chinese": "".join(map(chr, range(0x4E00, 0x4E00 + 2000))) + "，。" * 100,
    "Japanese": "".join(map(chr, range(0x3042, 0x3094))) + "日本語文字、。ー",
    "Thai": "".join(map(chr, [*range(0x0E01, 0x0E3A), *range(0x0E40, 0x0E4F)])),
    "Khmer": "".join(map(chr, range(0x1780, 0x17D3))),
    "Tibetan": "".join(map(chr, [*range(0x0F40, 0x0F48), *range(0x0F71, 0x0F7D)])) + "་" * 8,
    "Han beyond 16 bits": "".join(map(chr, range(0x20000, 0x20000 + 2000))),
    "Chinese with Latin words": "漢字文章有一些語言模型 Kerasoptimizer"
    + "".join(map(chr, range(0x5000, 0x5100))),
    "Chinese, spaces behind stops": "".join(map(chr, range(0x4E00, 0x4E00 + 30))) + "  ",
    "base64": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "bases": "ACGT",
    "emoji": "".join(map(chr, range(0x1F600, 0x1F640))),
    "combining characters": "aeiou\u0301\u0308\u0323",
}


def spaceless(script, seed, characters=400):
    numbers = random.Random(f"{script} {seed}")
    return [numbers.choice(SCRIPTS[script]) for _ in range(characters)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_copy_with_one_character_changed_is_a_near_duplicate_without_spaces_too(script, tmp_path):
    """So that no copy stands on both sides of a split; other texts of the same letters are none."""
    named = {}
    for number in range(40):
        letters = spaceless(script, number)
        named[f"{number}"] = "".join(letters)
        place = random.Random(number).randrange(400)
        others = [letter for letter in SCRIPTS[script] if letter not in letters[place] + " "]
        named[f"{number} copy"] = "".join(
            [*letters[:place], others[number % len(others)], *letters[place + 1 :]]
        )
    assert groups(named, tmp_path) == sorted([f"{number}", f"{number} copy"] for number in range(40))


@pytest.mark.parametrize("changed", [lambda text: text[:200] + text[203:], lambda text: "新" + text])
def test_one_that_lacks_or_adds_characters_or_has_other_spaces_is_near_too(changed, tmp_path):
    for script in ("Chinese", "base64"):
        text = "".join(spaceless(script, 0))
        spaced = "\n".join(text[start : start + 150] for start in range(0, 400, 150))
        texts = {"text": text, "changed": changed(text), "spaced": spaced}
        assert groups(texts, tmp_path) == [sorted(texts)]


def test_large_texts_of_few_letters_are_no_near_duplicates(tmp_path):
    """Of five of four letters there are 1,024, which any text of so many holds."""
    texts = {f"{number}": "".join(spaceless("bases", number, 20_000)) for number in range(3)}
    assert groups(texts, tmp_path) == [["0"], ["1"], ["2"]]


def test_a_character_of_a_script_without_spaces_is_a_word(tmp_path):
    """Other letters among them stay words, and spaces between characters count for nothing."""
    text = "漢字を用いる Keras3、ภาษา ที่ไม่มี\u3000spaces。"
    words = re.sub(r"([^\sA-Za-z0-9])", r" \1 ", text)
    assert len(words.split()) > 2 * len(text.split())
    assert (sketches_of([text, words], tmp_path) == sketch_of(words).hashvalues).all()


@pytest.mark.parametrize("part", [300, 1 << 18])
def test_what_is_compared_of_one_long_line_are_strings_of_20(part, tmp_path, monkeypatch):
    """By the exact similarity of the sets of them."""
    monkeypatch.setattr(text_store, "PART", part)
    monkeypatch.setattr(deduplication, "PART", part)
    first = "".join(spaceless("base64", 0, 2000))
    second = first[:1500] + "".join(spaceless("base64", 1, 300)) + "\n" + first[1500:]
    sets = [
        {text[place : place + 20] for place in range(len(text) - 19)}
        for text in (first, second.replace("\n", ""))
    ]
    exact = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    found = np.mean(np.equal(*sketches_of([first, second], tmp_path)))
    assert found == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / 128))


@pytest.mark.parametrize(
    "text",
    [
        "an English text about 漢字 and kana",  # as many words as characters without spaces, or more
        "한국어는 띄어쓰기를 하는 언어이므로 낱말이 있다",
        "Слова, größer, naïve, xin chào",
        "https://example.org/" + "path/" * 20 + " " * 3000 + "\n" + "x" * 15,
        " ".join("x" * number for number in range(150, 155)),
        "🙂 🙂🙂 and 👩‍👩‍👧",
        " " * 60_000 + "x",
        "",
    ],
)
def test_what_has_spaces_keeps_its_words(text, tmp_path):
    assert (sketches_of([text], tmp_path) == sketch_of(text).hashvalues).all()


def test_the_split_of_a_corpus_with_spaces_is_as_it_was(tmp_path):
    """Finished runs are keyed by what they train on. If this must change, all of them are to be made anew."""
    numbers = random.Random(0)
    vocabulary = [
        *(f"w{number}" for number in range(800)),
        *(
            "größer",
            "слово",
            "한국어",
            "漢字",
            "x=1;",
            "https://example.org/a?b=c&d=e#f",
            "0123456789abcdef" * 4,
        ),
    ]
    texts = [[numbers.choice(vocabulary) for _ in range(numbers.choice([3, 8, 60, 400]))] for _ in range(300)]
    for _ in range(150):
        text = list(numbers.choice(texts))
        text[numbers.randrange(len(text))] = numbers.choice(vocabulary)
        texts.append(text)
    template = [f"field{number}:" for number in range(30)]
    texts += [[*template, *(f"v{numbers.randrange(10**6)}" for _ in range(8))] for _ in range(200)]
    unique, _ = deduplicated([" ".join(text) + "\n" for text in texts], tmp_path)
    split = [(item.digest, item.group, split_of(item.group, 0.1, 0.1)) for item in unique]
    assert 100 < len(unique.group_sizes) < len(unique) - 50
    assert hashlib.sha256(json.dumps(split).encode()).hexdigest()[:16] == "58eda6aa4d8d14fe"


@pytest.mark.parametrize(
    ("unit", "between", "least"),
    [
        (lambda number: f"w{number}", " ", 49),
        (lambda number: chr(0x4E00 + number), "", 49),
        ("{:x}".format, "", 199),
    ],
    ids=["words", "Chinese", "one line"],
)
def test_texts_in_which_one_change_is_not_seen_are_counted(unit, between, least, tmp_path):
    """Of more, a copy with another word in the middle is at 0.8 or above."""
    letters = random.Random(0)
    text = between.join(unit(letters.randrange(16 if least == 199 else 3000)) for _ in range(least))
    shorter = text[:-1] if not between else text.rpartition(" ")[0]
    for texts, short in (
        ([text, "else"], 1),
        ([shorter, "else"], 2),
        ([text, text * 2], 0),
        ([text, text], 0),
    ):
        assert deduplicated(texts, tmp_path)[0].short == short


class Counted:
    """An array that counts the rows that are read of it."""

    def __init__(self, rows):
        self.rows, self.read = rows, 0

    def __getitem__(self, key):
        self.read += np.size(key)
        return self.rows[key]


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.77, 0.85])
def test_what_a_bucket_takes_grows_with_it_and_not_by_its_square(alike, monkeypatch):
    """Ten thousand records of one template are one bucket."""
    monkeypatch.setattr(deduplication, "_NEIGHBOURS", 32)
    numbers = np.random.default_rng(0)
    for count in (500, 1000):
        rows = numbers.integers(0, 2**32, (count, 128), np.uint32)
        rows[:, : int(128 * alike)] = 7
        sketches = Counted(rows)
        pairs = list(deduplication._near_pairs(np.arange(count), sketches, np.arange(count)))
        assert sketches.read <= 33 * count
        assert sum(pair.shape[1] for pair in pairs) == (count - 1 if alike > 0.8 else 0)


def test_a_copy_is_found_among_records_of_one_template(tmp_path, monkeypatch):
    """Whose buckets are so large that not all in them are compared."""
    monkeypatch.setattr(deduplication, "_NEIGHBOURS", 16)
    template = words(0, 28)
    records = [[*template, *words(seed, 12)] for seed in range(1, 500)]
    named = {f"{number}": text_of(record) for number, record in enumerate(records)}
    copies = {f"{number} copy": text_of(["other", *record[1:]]) for number, record in enumerate(records[:50])}
    apart = [[f"{number}"] for number in range(50, 499)]
    pairs = [[f"{number}", f"{number} copy"] for number in range(50)]
    assert groups(named | copies, tmp_path) == sorted(apart + pairs)


def test_white_space_takes_no_time_by_its_square():
    def seconds(count):
        text = f"a{' ' * count}b{chr(9) * count}c{(' ' + chr(10)) * count}d"
        return min(timeit.repeat(lambda: content_digest(text), number=5, repeat=7))

    assert seconds(1 << 13) < 80 * seconds(1 << 9)  # 16 times as much; by the square it is 256


def test_in_a_bucket_those_that_are_equal_in_another_band_too_are_neighbours():
    keys, following = np.array([5, 7, 5, 5, 7, 5, 9, 5]), np.array([1, 0, 0, 1, 0, 0, 0, 1])
    buckets = deduplication._buckets(keys, following, np.arange(8))
    assert [bucket.tolist() for bucket in buckets] == [[2, 5, 0, 3, 7], [1, 4]]
