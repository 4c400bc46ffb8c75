import pytest

from lab.data.shortage import counted, listed, remedy, suggest_characters


def test_about_fifty_pieces_are_tried_first():
    tried = []
    assert suggest_characters(1_115_394, 64, lambda size: tried.append(size) or 1.0) == 22_000
    assert tried == [22_000]


def test_another_number_is_tried_where_a_split_gets_too_little_of_its_share():
    shares = {20_000: 0.0, 16_000: 0.4, 14_000: 0.5, 12_000: 1.0}
    assert suggest_characters(1_000_000, 64, shares.__getitem__) == 14_000


def test_the_best_of_those_that_work_if_none_is_good():
    assert suggest_characters(1_000_000, 64, lambda size: 0.3 if size == 10_000 else 0.1) == 10_000
    assert suggest_characters(1_000_000, 64, lambda size: 0.0) is None


def test_no_piece_is_shorter_than_a_window_and_no_number_is_tried_twice():
    tried = []
    suggest_characters(1_000, 64, lambda size: tried.append(size) or 0.0)
    assert tried == [64, 100]
    tried.clear()
    suggest_characters(10, 64, lambda size: tried.append(size) or 0.0)
    assert tried == [64]


@pytest.mark.parametrize(("number", "words"), [(0, "0 files"), (1, "1 file"), (2000, "2,000 files")])
def test_counted(number, words):
    assert counted(number, "file") == words


@pytest.mark.parametrize(
    ("names", "words"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_listed(names, words):
    assert listed(names) == words


@pytest.mark.parametrize(
    ("suggested", "groups", "pieces", "words"),
    [
        (
            600,
            1,
            50,
            "Give more documents, or let long ones be cut into pieces: --set data.document_characters=600",
        ),
        (None, 1, 1, "Give more text: there is too little"),
        (None, 3, 4, "Give more text: there is too little"),
        (
            None,
            1,
            3000,
            "repeats itself less: its 3,000 pieces are all duplicates of each other, exact or near",
        ),
        (
            None,
            2,
            50,
            "repeats itself less: its 50 pieces are 2 groups of duplicates, exact or near, and these",
        ),
    ],
)
def test_what_is_asked_for_is_what_would_help(suggested, groups, pieces, words):
    assert words in remedy(suggested, groups, pieces)
