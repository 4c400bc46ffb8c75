import random

import pytest
from datasketch import MinHash, MinHashLSH

from lab.data import deduplication
from lab.data.deduplication import _shingles, _sketch, content_digest
from lab.data.text_store import TextStore


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
    permutations = MinHash(128, scheme="affine32").permutations
    sketches = [_sketch(text, permutations) for text in kept]
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


def test_long_texts_are_sketched_in_parts_to_the_same_sketch():
    text = " ".join(words(0, 40_000))
    base = MinHash(128, scheme="affine32", hashfunc=int)
    base.update_batch(_shingles(text).tolist())
    assert len(_shingles(text)) > 2 * deduplication._CHUNK
    assert (_sketch(text, base.permutations).hashvalues == base.hashvalues).all()
