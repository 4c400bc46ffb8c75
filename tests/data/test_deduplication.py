import random

import pytest
from datasketch import MinHash

from lab.data import deduplication
from lab.data.corpora import Document
from lab.data.deduplication import _shingles, _sketch, content_digest, deduplicate


def words(seed, count=400):
    generator = random.Random(seed)
    return [f"w{generator.randrange(5000)}" for _ in range(count)]


def document(name, text_words):
    return Document(name, " ".join(text_words) + "\n")


def groups(unique):
    named = {}
    for item in unique:
        named.setdefault(item.group, set()).add(item.document.name)
    return sorted(map(sorted, named.values()))


@pytest.mark.parametrize("copy", ["a b\r\nc\r\n", "a b \t\nc", "a b\nc\n\n\n", "a b\rc"])
def test_content_is_equal_up_to_line_ends(copy):
    assert content_digest(copy) == content_digest("a b\nc\n")
    assert len(deduplicate([Document("1", "a b\nc\n"), Document("2", copy)])) == 1


@pytest.mark.parametrize("other", ["a  b\nc\n", " a b\nc\n", "a b\n\nc\n", "A b\nc\n"])
def test_other_content_stays(other):
    assert len(deduplicate([Document("1", "a b\nc\n"), Document("2", other)])) == 2


def test_near_duplicates_share_a_group_directly_and_by_a_chain():
    first = words(0)
    second = [*first[:-24], *words(1, 24)]
    third = [*words(2, 24), *second[24:]]  # similarity 0.89 with the second, 0.78 with the first
    unique = deduplicate(
        [
            document("first", first),
            document("second", second),
            document("third", third),
            document("else", words(3)),
            document("half", [*first[:280], *words(4, 120)]),  # similarity 0.5,
        ]
    )
    assert groups(unique) == [["else"], ["first", "second", "third"], ["half"]]


def test_the_group_is_named_by_its_first_digest():
    first = words(0)
    unique = deduplicate([document("a", first), document("b", [*first, "more"])])
    assert {item.group for item in unique} == {min(item.digest for item in unique)}


def test_order_and_names_of_the_input_decide_nothing():
    documents = [document(str(seed), words(seed)) for seed in range(20)]
    documents += [document(f"near {seed}", [*words(seed), "more"]) for seed in range(5)]
    documents += [document(f"copy {seed}", words(seed)) for seed in range(3)]
    renamed = [Document(f"other {item.name}", item.text) for item in documents]
    random.Random(0).shuffle(renamed)
    given, shuffled = deduplicate(documents), deduplicate(renamed)
    assert [(item.digest, item.group) for item in given] == [(item.digest, item.group) for item in shuffled]
    assert [item.document.text for item in given] == [item.document.text for item in shuffled]
    assert [item.digest for item in given] == sorted(item.digest for item in given)


def test_short_texts_are_compared_too():
    assert groups(deduplicate([Document("a", "x"), Document("b", "y"), Document("c", "x\n")])) == [
        ["a"],
        ["b"],
    ]


def test_long_texts_are_sketched_in_parts_to_the_same_sketch():
    text = " ".join(words(0, 40_000))
    base = MinHash(128, scheme="affine32", hashfunc=int)
    base.update_batch(_shingles(text).tolist())
    assert len(_shingles(text)) > 2 * deduplication._CHUNK
    assert (_sketch(text, base.permutations).hashvalues == base.hashvalues).all()
