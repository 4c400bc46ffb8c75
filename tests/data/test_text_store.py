import pytest

from lab.data import text_store
from lab.data.text_store import Texts, TextStore


def test_texts_come_back_by_number_in_any_order_and_as_often_as_asked_for(tmp_path):
    texts = ["one", "", "zwei\r\nü\u2028", "x" * 100_000]
    with TextStore(tmp_path) as store:
        for text in texts:
            store.append([text[:2], text[2:]])
        assert len(store) == 4
        assert [store.read(number) for number in (3, 0, 2, 1, 3)] == [texts[n] for n in (3, 0, 2, 1, 3)]
        some = Texts(store, [2, 0])
        assert [*some] == [*some] == [texts[2], texts[0]]
        assert (len(some), some.size) == (2, len((texts[2] + texts[0]).encode()))
        assert not Texts(store, [])


def test_a_long_text_comes_back_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(text_store, "PART", 100)
    text = "ein größeres Wort\n" * 50
    with TextStore(tmp_path) as store:
        store.append(["short"])
        store.append([text])
        assert store.read(1) == text
        assert [*store.parts(0)] == ["short"]
        parts = [*store.parts(1)]
        assert "".join(parts) == text
        assert len(parts) > 5
        (chunks,) = Texts(store, [1]).chunks("reading")
        assert b"".join(chunks) == text.encode()


def test_nothing_is_left_behind(tmp_path):
    with TextStore(tmp_path) as store:
        store.append(["text"])
        assert list(tmp_path.iterdir()) == []  # so that a killed process leaves nothing either
    with pytest.raises(ValueError, match="closed"):
        store.read(0)
