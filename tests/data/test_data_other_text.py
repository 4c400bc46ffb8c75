import json

import numpy as np
import pytest

from lab.config import DataConfig
from lab.data.dataset import prepare
from lab.data.other_text import seen_share, with_other_text


def words(seed, count=40):
    numbers = np.random.default_rng(seed)
    return " ".join(str(number) for number in numbers.integers(10**6, 10**7, count)) + "\n"


@pytest.fixture(scope="module", params=["bytes", "bpe:270"])
def dataset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(30):
        (folder / f"{number}.txt").write_text(words(number))
    config = DataConfig(corpus="text", paths=(str(folder),), tokenizer=request.param, length=16)
    return prepare(config, tmp_path_factory.mktemp("cache"))


def read(dataset, tmp_path, **values):
    return with_other_text(dataset, DataConfig(corpus="text", paths=(str(tmp_path),), **values))


def test_the_text_is_the_test_split_by_the_tokenizer_of_the_corpus(dataset, tmp_path):
    (tmp_path / "a.txt").write_text("größer")
    rows = [{"body": "one"}, {"body": "two"}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = read(dataset, tmp_path, text_field="body")
    end = dataset.tokenizer.end_id
    expected = [
        number for one in ("größer", "one", "two") for number in [*dataset.tokenizer.encode(one), end]
    ]
    assert text.dataset.test.tolist() == expected
    assert (text.documents, text.bytes) == (3, 8 + 3 + 3)
    assert text.dataset.tokenizer is dataset.tokenizer
    assert text.dataset.train is dataset.train
    assert text.dataset.hash == dataset.hash
    assert text.dataset.hashes["test"] != dataset.hashes["test"]
    assert set(text.dataset.seen) == {"validation"}  # nothing of it is left out
    assert text.left_out == ""


def test_what_was_left_out_is_known(dataset, tmp_path):
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_text("x")
    assert read(dataset, tmp_path).left_out.startswith("Of the text 1 file (1 .csv) was not read.")


def test_a_long_document_is_cut_into_pieces(dataset, tmp_path):
    (tmp_path / "a.txt").write_text("a line of text\n" * 20)
    whole, cut = read(dataset, tmp_path), read(dataset, tmp_path, document_characters=60)
    assert (whole.documents, cut.documents) == (1, 5)
    assert dataset.tokenizer.decode(cut.dataset.test) == dataset.tokenizer.decode(whole.dataset.test)


def test_the_share_that_the_training_split_holds_is_counted(dataset, tmp_path):
    documents = np.split(dataset.train, np.flatnonzero(dataset.train == dataset.tokenizer.end_id) + 1)
    known = dataset.tokenizer.decode(documents[0])
    (tmp_path / "a.txt").write_text(known + words(99))
    share = seen_share(read(dataset, tmp_path), tmp_path)
    assert share == pytest.approx(0.5, abs=0.04)
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("unseen" + words(99))
    (tmp_path / "a.txt").unlink()
    assert seen_share(read(dataset, tmp_path), tmp_path) == 0  # though an end has no byte that is not seen
