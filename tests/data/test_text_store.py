import pytest

from lab.data.text_store import Texts, TextStore


def test_texts_come_back_by_number_in_any_order_and_as_often_as_asked_for(tmp_path):
    texts = ["one", "", "zwei\r\nü\u2028", "x" * 100_000]
    with TextStore(tmp_path) as store:
        for text in texts:
            store.append(text)
        assert [store.read(number) for number in (3, 0, 2, 1, 3)] == [texts[n] for n in (3, 0, 2, 1, 3)]
        some = Texts(store, [2, 0])
        assert [*some] == [*some] == [texts[2], texts[0]]
        assert (len(some), some.size) == (2, len((texts[2] + texts[0]).encode()))
        assert not Texts(store, [])


def test_a_text_is_replaced_by_a_shorter_or_a_longer_one(tmp_path):
    with TextStore(tmp_path) as store:
        for text in ("one", "two", "three"):
            store.append(text)
        for other in ("longer than before", "2"):
            store.replace(1, other)
            store.append("more")
            assert [store.read(number) for number in range(4)] == ["one", other, "three", "more"]


def test_nothing_is_left_behind(tmp_path):
    with TextStore(tmp_path) as store:
        store.append("text")
        assert list(tmp_path.iterdir()) == []  # so that a killed process leaves nothing either
    with pytest.raises(ValueError, match="closed"):
        store.read(0)
