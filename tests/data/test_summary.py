import numpy as np

from lab.data.dataset import Dataset
from lab.data.summary import BASELINE_COLUMNS, describe, describe_baselines
from lab.data.tokenizers import ByteTokenizer
from lab.results import Baseline


def shown(left_out="", train=1004, **changes):
    splits = ("train", "validation", "test")
    statistics = {
        "documents": dict(zip(splits, (101, 102, 103), strict=True)),
        "tokens": dict(zip(splits, (1004, 1005, 1006), strict=True)),
        "bytes": dict(zip(splits, (2004, 2005, 2006), strict=True)),
        "files": 1,
        "documents_read": 2,
        "documents_cut": 1,
        "document_characters": 4000,
        "bytes_per_token": 0.987,
        "byte_coverage": 0.95,
        "exact_duplicates_removed": 107,
        "near_duplicate_groups": 108,
        "near_duplicate_documents": 109,
        "too_short_to_compare": 153,
        "seen": {"validation": 0.125, "test": 0.32},
        "judged_by": "",
        "tiers": {},
    }
    arrays = [np.zeros(tokens, np.uint16) for tokens in (train, 1005, 1006)]
    hashes = dict(zip(splits, ("0123456789abcdef", "1" * 16, "2" * 16), strict=True))
    dataset = Dataset(*arrays, ByteTokenizer(), hashes, statistics | changes, left_out=left_out)
    return "\n".join(f"{label}: {value}" for label, value in describe(dataset))


def test_every_figure_is_shown():
    text = shown()
    for expected in (
        "hash, train: 0123456789abcdef",
        "hash, test: 2222222222222222",
        "bytes (257 ids)",
        "documents, test: 103",
        "unique tokens, train: 1,004",
        "largest data.unique_tokens: 1,004",
        "bytes, validation: 2,005",
        "read: 2 documents in 1 file",
        "each a document: 1 document, of at least 4,000 characters (data.document_characters=4000)",
    ):
        assert expected in text
    for expected in (
        "bytes/token: 0.987",
        "95.00%",
        "removed: 107",
        "near-duplicate groups: 108 (109 documents)",
        "documents too short to compare: 50.0% (153: one with a word changed, or a character of text without",
        "tokens that the training split holds too, test: 32.0%",
    ):
        assert expected in text


def test_what_was_left_out_stands_below_what_was_read():
    note = "Of the text 1 file (1 .csv) was not read."
    read = "read: 2 documents in 1 file"
    assert f"{read}\n: {note}\n" in shown(note)
    assert "not read" not in shown()


def test_a_corpus_that_is_not_cut_says_so():
    text = shown(documents_cut=0, document_characters=0)
    assert "each a document: 0 documents (data.document_characters=0)" in text


def test_tiers_of_quality_are_shown_with_what_tells_them_apart():
    assert "quality" not in shown()
    tiers = {
        tier: {"documents": number, "tokens": 1000 * number}
        for number, tier in enumerate(("low", "medium", "high"), start=1)
    }
    text = shown(judged_by="data.quality_field=stars", tiers=tiers)
    assert "of data.quality=low: 1,000 (1 document)\nof data.quality=medium: 2,000 (2 documents)" in text
    assert "of data.quality=high: 3,000 (3 documents)\ntiers of quality by: data.quality_field=stars" in text


def test_the_largest_budget_of_a_tier_is_what_the_tier_holds():
    text = shown(train=300)
    assert "unique tokens, train: 1,004\n" in text
    assert "largest data.unique_tokens: 300\n" in text


def test_a_corpus_that_is_made_says_what_its_splits_are_of():
    assert "structures" not in shown()
    structures = dict(zip(("train", "validation", "test"), (1107, 108, 109), strict=True))
    text = shown(structures=structures, files=0)
    assert "structures, train: 1,107\nstructures, validation: 108\nstructures, test: 109" in text
    assert "read: 2 documents, made by rule" in text
    assert "groups kept in one split: 108 (109 documents)" in text
    assert "near-duplicate" not in text
    assert "too short" not in text
    assert "tokens that the training split holds too, test: 32.0%, none left out" in text


def test_the_packages_that_were_read_are_named():
    assert "packages" not in shown()
    packages = {"keras": "3.15.1", "keras-hub": "0.32.0"}
    text = shown(packages=packages, packages_note="")
    assert "packages: keras 3.15.1 and keras-hub 0.32.0 (as listed)" in text
    text = shown(packages=packages, packages_note="another corpus")
    assert "packages: keras 3.15.1 and keras-hub 0.32.0 (not as listed)\n" in text


def test_what_counting_gives_is_shown_with_what_was_counted():
    def baseline(name, **settings):
        values = {"validation": {"nll": 2.0, "bits_per_byte": 2.9}, "test": {"nll": 2.1, "bits_per_byte": 3}}
        return Baseline(name=name, settings=settings, values=values, examples={})

    ngram = baseline("n-gram", order=5, max_order=10, tokens=1_000_000)
    rows = describe_baselines([ngram, baseline("unigram", tokens=960), baseline("uniform")])
    assert rows == [
        (name, "2.000", "2.900", "2.100", "3.000")
        for name in ("n-gram (Kneser-Ney, order 5, 1,000,000 tokens)", "unigram (960 tokens)", "uniform")
    ]
    assert {len(row) for row in rows} == {len(BASELINE_COLUMNS)}
