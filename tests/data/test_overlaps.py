import random

import numpy as np
import pytest

from lab.data import overlaps
from lab.data.dataset import tokenize
from lab.data.overlaps import seen_tokens, seen_windows
from lab.data.tokenizers import ByteTokenizer, train_bpe


def ids_of(texts, tokenizer=None):
    return np.concatenate(list(tokenize(tokenizer or ByteTokenizer(), ([text] for text in texts))))


def seen_of(train, held_out, tokenizer=None):
    tokenizer = tokenizer or ByteTokenizer()
    chunks = [[[text.encode()] for text in texts] for texts in (train, held_out)]
    made = seen_tokens(chunks[0], {"test": chunks[1]}, {"test": ids_of(held_out, tokenizer)}, tokenizer)
    return made["test"].tolist()


def searched(train, held_out):
    """By byte, and for each end, by a search for every string of 32 bytes."""
    seen = []
    for text in held_out:
        data = text.encode()
        own = [False] * len(data)
        for start in range(len(data) - 31):
            if any(data[start : start + 32] in other.encode() for other in train):
                own[start : start + 32] = [True] * 32
        seen += [*own, True]
    return seen


def texts_with_copies(seed):
    """Training and held-out texts that share parts of 20 to 60 bytes, some of them beyond ASCII."""
    numbers = random.Random(seed)

    def noise(most):
        return "".join(numbers.choice("abcdefgh é") for _ in range(numbers.randrange(most)))

    train = [noise(200) for _ in range(30)]
    held_out = []
    for _ in range(20):
        source = numbers.choice(train)
        start = numbers.randrange(max(1, len(source)))
        held_out.append(noise(60) + source[start : start + numbers.randrange(20, 60)] + noise(60))
    return train, held_out


@pytest.mark.parametrize("chunk", [40, 100, 1 << 20])
def test_it_is_what_a_search_finds(chunk, monkeypatch):
    monkeypatch.setattr(overlaps, "_CHUNK", chunk)
    for seed in range(3):
        train, held_out = texts_with_copies(seed)
        expected = searched(train, held_out)
        assert seen_of(train, held_out) == expected
        assert 0.1 < np.mean(expected) < 0.9


@pytest.mark.parametrize(("partition", "bits"), [(1 << 20, 6), (100, 28), (100, 6)])
def test_files_and_false_alarms_of_the_bitmap_decide_nothing(partition, bits, monkeypatch):
    train, held_out = texts_with_copies(0)
    monkeypatch.setattr(overlaps, "_PARTITION", partition)
    monkeypatch.setattr(overlaps, "_MOST_BITS", bits)
    assert seen_of(train, held_out) == searched(train, held_out)


def test_a_string_is_of_32_bytes_and_of_one_document():
    string = "abcdefghijklmnopqrstuvwxyz012345"
    assert seen_of(["x" + string + "y"], ["z" + string + "z"]) == [False, *[True] * 32, False, True]
    assert seen_of([string[:31]], [string]) == [*[False] * 32, True]
    assert seen_of([string[:20], string[20:]], [string]) == [*[False] * 32, True]
    assert seen_of([string], [string[:20], string[20:]]) == [False] * 20 + [True] + [False] * 12 + [True]


def test_a_token_is_seen_if_all_its_bytes_are():
    train, held_out = texts_with_copies(0)
    tokenizer = train_bpe("bpe:300", train)
    by_byte = iter(searched(train, held_out))
    expected = []
    for text in held_out:
        for token in tokenizer.encode(text):
            own = [next(by_byte) for _ in range(tokenizer.byte_lengths[token])]
            expected.append(all(own))
        expected.append(next(by_byte))
    assert seen_of(train, held_out, tokenizer) == expected
    assert len(expected) < len(searched(train, held_out))


def test_lengths_that_do_not_add_up_are_scaled_to_the_document():
    """A tokenizer that says that every byte is half of what it is, as some presets do."""

    class Halved(ByteTokenizer):
        def __init__(self):
            super().__init__()
            self.byte_lengths = np.append(np.full(256, 2), 0).astype(np.int32)

    train, held_out = texts_with_copies(1)
    assert seen_of(train, held_out, Halved()) == seen_of(train, held_out)


@pytest.mark.parametrize("most", [1, 50, 333, 10**6])
def test_of_a_large_split_the_first_bytes_are_looked_at(most, monkeypatch):
    train, held_out = texts_with_copies(2)
    whole = seen_of(train, held_out)
    monkeypatch.setattr(overlaps, "LOOKED_AT", most)
    seen = seen_of(train, held_out)
    ids = ids_of(held_out)
    looked_at = int((np.cumsum(ids != 256) <= most).sum())
    assert len(seen) == looked_at
    # But for the strings that the cut leaves incomplete.
    assert seen[:-32] == whole[: looked_at - 32] if looked_at > 32 else True


def test_windows_that_are_wholly_seen():
    seen = np.array([True, True, True, False, True, True])
    assert seen_windows(seen, 2) == 3 / 5
    assert seen_windows(seen, 6) == 0
    assert seen_windows(seen, 7) == 0
