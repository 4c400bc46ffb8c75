import gzip
import json
import random
from itertools import chain

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from lab.config import DataConfig, make_config, read_preset
from lab.data import corpora, packages
from lab.data.budget import budget
from lab.data.dataset import Dataset, prepare
from lab.data.packages import Package
from lab.data.quality import TIERS, QualityField, documentation_share, thirds
from lab.data.records import Record
from lab.evaluation.baselines import measure_baselines


def text_of(seed, words=60):
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(900)}" for _ in range(words)) + "\n"


TEXTS = [text_of(seed) for seed in range(90)]
SCORES = [((7 * seed) % 90) / 10 for seed in range(90)]
NAMES = [TIERS[(seed // 2) % 3] for seed in range(90)]


def write(folder, qualities, kind="jsonl", texts=TEXTS):
    folder.mkdir(exist_ok=True)
    path = folder / f"records.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.table({"text": texts, "stars": qualities}), path)
        return path
    records = ({"text": text, "stars": value} for text, value in zip(texts, qualities, strict=True))
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    return path


def config_of(path, quality="", **values):
    values = {"length": 32, "quality_field": "stars", "validation_share": 0.2, "test_share": 0.2, **values}
    return DataConfig(corpus="text", paths=[str(path)], quality=quality, **values)


def documents_of(dataset, split="train"):
    array = np.asarray(getattr(dataset, split))
    ends = np.flatnonzero(array == dataset.tokenizer.end_id) + 1
    return [dataset.tokenizer.decode(part) for part in np.split(array, ends)[:-1]]


def tiers_of(path, cache, **values):
    """The whole, and each tier."""
    return [prepare(config_of(path, quality, **values), cache) for quality in ("", *TIERS)]


@pytest.fixture
def scored(tmp_path):
    return write(tmp_path / "corpus", SCORES)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_tier_is_the_documents_of_its_name_in_the_training_split(kind, tmp_path):
    whole, *tiers = tiers_of(write(tmp_path / "corpus", NAMES, kind), tmp_path / "cache")
    named = dict(zip(TEXTS, NAMES, strict=True))
    trained = documents_of(whole)
    for tier, dataset in zip(TIERS, tiers, strict=True):
        own = [text for text in trained if named[text] == tier]  # in their order
        assert 5 < len(own) == whole.statistics["tiers"][tier]["documents"]
        assert documents_of(dataset) == own
        assert len(dataset.train) == whole.statistics["tiers"][tier]["tokens"]
    assert sum(len(dataset.train) for dataset in tiers) == len(whole.train)


def test_scores_make_thirds_of_the_training_split_the_highest_on_top(scored, tmp_path):
    whole, *tiers = tiers_of(scored, tmp_path / "cache")
    score = dict(zip(TEXTS, SCORES, strict=True))
    own = [[score[text] for text in documents_of(dataset)] for dataset in tiers]
    assert sorted(chain(*own)) == sorted(score[text] for text in documents_of(whole))
    assert max(own[0]) < min(own[1]) <= max(own[1]) < min(own[2])
    longest = max(map(len, TEXTS))
    assert all(abs(len(dataset.train) - len(whole.train) / 3) <= longest + 1 for dataset in tiers)


def test_the_tier_moves_no_document_and_no_held_out_token(scored, tmp_path):
    datasets = tiers_of(scored, tmp_path / "cache")
    plain = prepare(config_of(scored, quality_field=""), tmp_path / "plain")
    assert plain.statistics["tiers"] == {}
    assert datasets[0].hashes == plain.hashes
    np.testing.assert_array_equal(datasets[0].train, plain.train)
    for dataset in datasets:
        for split in ("validation", "test"):
            np.testing.assert_array_equal(getattr(dataset, split), getattr(plain, split))
            np.testing.assert_array_equal(dataset.seen[split], plain.seen[split])
            assert dataset.hashes[split] == plain.hashes[split]
    assert len({dataset.hash for dataset in datasets}) == 4
    assert len({dataset.key for dataset in datasets}) == 1  # one place of the cache for all of them


def test_a_tier_is_found_by_its_key_alone(scored, tmp_path):
    first = prepare(config_of(scored, "high"), tmp_path / "cache")
    config = config_of(scored, "high")
    scored.unlink()
    assert prepare(config, tmp_path / "cache", first.key).hashes == first.hashes


def test_judged_otherwise_it_is_another_tier_of_the_same_splits(scored, tmp_path):
    first = prepare(config_of(scored, "high"), tmp_path / "cache")
    write(scored.parent, SCORES[::-1])
    second = prepare(config_of(scored, "high"), tmp_path / "cache")
    assert {split for split in first.hashes if first.hashes[split] != second.hashes[split]} == {"train"}


def test_another_field_judges_otherwise(tmp_path):
    path = tmp_path / "records.jsonl"
    records = [{"text": text, "stars": name, "rank": 1} for text, name in zip(TEXTS, NAMES, strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    whole, by_rank = (
        prepare(config_of(path, quality, quality_field=field), tmp_path / "cache")
        for quality, field in (("", "stars"), ("medium", "rank"))
    )
    np.testing.assert_array_equal(by_rank.train, whole.train)


def test_the_best_of_copies_counts_whatever_their_order(tmp_path):
    for order in (1, -1):
        qualities = [*NAMES, *(["high"] * 90)][::order]
        path = write(tmp_path / "corpus", qualities, texts=[*TEXTS, *TEXTS][::order])
        whole, high = (prepare(config_of(path, quality), tmp_path / "cache") for quality in ("", "high"))
        assert whole.statistics["exact_duplicates_removed"] == 90
        np.testing.assert_array_equal(high.train, whole.train)


def test_pieces_have_the_quality_of_their_document(tmp_path):
    path = write(tmp_path / "corpus", NAMES)
    _, *tiers = tiers_of(path, tmp_path / "cache", document_characters=100)
    for dataset, tier in zip(tiers, TIERS, strict=True):
        whole = [text for text, name in zip(TEXTS, NAMES, strict=True) if name == tier]
        pieces = documents_of(dataset)
        assert len(pieces) > len(whole)
        assert all(any(piece in text for text in whole) for piece in pieces)


def test_budgets_of_a_tier_are_nested(scored, tmp_path):
    train = prepare(config_of(scored, "medium"), tmp_path / "cache").train
    small, large = (np.asarray(budget(train, size, 8, 3)[np.arange(size)]) for size in (640, 1280))
    np.testing.assert_array_equal(small, large[:640])
    assert {*large.tolist()} <= {*np.asarray(train).tolist()}


def test_counting_is_of_the_same_tier_as_the_run(scored, tmp_path):
    common = {"corpus": "text", "paths": [str(scored)], "quality_field": "stars", "length": 32}
    small = {"validation_windows": 8, "test_windows": 8}
    shares = {"validation_share": 0.2, "test_share": 0.2}
    layer = {"data": {**common, **shares, "unique_tokens": 2000}, "evaluation": small}
    nll = {}
    for quality in ("low", "high"):
        config = make_config(read_preset("smoke"), layer, {"data": {"quality": quality}})
        dataset = prepare(config.data, tmp_path / "cache")
        nll[quality] = measure_baselines(config, dataset, tmp_path / "cache")
        apart = Dataset(
            dataset.train.copy(),
            dataset.validation,
            dataset.test,
            dataset.tokenizer,
            dataset.hashes,
            dataset.statistics,
            seen=dataset.seen,
        )
        assert measure_baselines(config, apart, tmp_path / "other") == nll[quality]
    assert nll["low"][0].values != nll["high"][0].values


@pytest.mark.parametrize(("quality", "unique_tokens"), [("low", 100_000), ("medium", 32)])
def test_too_small_a_tier_says_what_there_is(quality, unique_tokens, tmp_path):
    names = ["low" if name == "medium" else name for name in NAMES]
    path = write(tmp_path / "corpus", names)
    with pytest.raises(ValueError, match=rf"the {quality} tier .* {unique_tokens:,} tokens, but .* medium 0"):
        prepare(config_of(path, quality, unique_tokens=unique_tokens), tmp_path / "cache")


@pytest.mark.parametrize("value", ["best", None, True, float("nan"), float("inf"), [1], 10**400])
def test_a_quality_that_is_none_is_refused_with_its_place(value, tmp_path):
    path = write(tmp_path / "corpus", [1.0, value, 2.0], texts=["a", "b", "c"])
    place = "records.jsonl, line 2: expected a finite number or one of .*'low', 'medium', 'high'.* in 'stars'"
    with pytest.raises(ValueError, match=place):
        prepare(config_of(path), tmp_path / "cache")


def test_names_and_numbers_are_not_mixed(tmp_path):
    path = write(tmp_path / "corpus", [1, "high"], texts=["a", "b"])
    with pytest.raises(
        ValueError, match=r"line 2: expected a number in 'stars', as in .*line 1, but got 'high'"
    ):
        prepare(config_of(path), tmp_path / "cache")
    read = QualityField("stars")
    assert read(Record("one", 1, {"stars": "low"})) == "low"
    with pytest.raises(ValueError, match="two: expected the name of a tier in 'stars', as in one, but got 3"):
        read(Record("two", 2, {"stars": 3}))


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_cell_of_a_table_spells_a_number_or_names_a_tier(kind, delimiter, tmp_path):
    def qualities(*cells):
        path = tmp_path / f"records.{kind}"
        path.write_text("".join(f"text{delimiter}{cell}\n" for cell in ("stars", *cells)))
        return [document.quality for document in corpora.read_corpus(config_of(path))]

    assert qualities("0.5", "-3", "1e2") == [0.5, -3, 100]
    assert qualities("low", "high") == ["low", "high"]
    for wrong in ("nan", "inf", "", "best"):
        with pytest.raises(ValueError, match=rf"{kind}, line 3: expected a finite number or one of"):
            qualities("1", wrong)


def test_a_row_without_quality_is_refused(tmp_path):
    path = write(tmp_path / "corpus", [1.0, None], "parquet", texts=["a", "b"])
    with pytest.raises(ValueError, match=r"parquet, row 1: expected a finite number .* but got None"):
        prepare(config_of(path), tmp_path / "cache")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_a_field_that_is_not_there_is_refused(kind, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("no fields\n")
    if kind != "txt":
        path = write(tmp_path / "corpus", [1.0], kind, texts=["a"])
    with pytest.raises(ValueError, match=f"{path.name}.*expected .*'rank'"):
        prepare(config_of(path, quality_field="rank"), tmp_path / "cache")


def test_settings_without_meaning_are_refused():
    with pytest.raises(ValueError, match=r"`quality_field` must be empty .* corpus=packages"):
        DataConfig(quality_field="stars")
    with pytest.raises(ValueError, match=r"`quality_field` must name the field .* quality='low'"):
        config_of("notes.jsonl", "low", quality_field="")
    with pytest.raises(ValueError, match="quality"):
        DataConfig(quality="best")
    base = make_config(read_preset("smoke")).keyed_values()
    assert "data.quality" not in base
    tiered = make_config(read_preset("smoke"), {"data": {"quality": "low"}}).keyed_values()
    assert tiered == base | {"data.quality": "low"}


def test_documentation_is_counted_by_characters():
    assert documentation_share("x = 1\n") == documentation_share("") == 0
    assert documentation_share('"""ab"""') == documentation_share("# note") == 1
    source = 'def f():\n    """Says\n    # so."""\n    return 1  # one\n    # two\n'
    documented = '"""Says\n    # so."""' + "    # two"
    assert documentation_share(source) == pytest.approx(len(documented) / len(source))
    assert documentation_share("x = '''a\"\"\"b'''\n") == pytest.approx(len("'''a\"\"\"b'''") / 16)


def test_packages_are_judged_by_their_documentation(tmp_path, monkeypatch):
    """A made package: modules with no docstring, with one, and with two as long as the code."""
    (tmp_path / "made").mkdir()
    sources = {}
    for seed in range(90):
        name = f"made/{seed}.py"
        sources[name] = f"x = '{text_of(seed).strip()}'\n"
        sources[name] += "".join(f'"""{text_of(1000 * part + seed)}"""\n' for part in range(1, seed % 3 + 1))
        (tmp_path / name).write_text(sources[name])
    package = Package("made", "1", tmp_path, dict.fromkeys(sources, ""))
    monkeypatch.setattr(corpora, "find_packages", lambda: [package])
    monkeypatch.setattr(packages, "find_packages", list)  # they are not compared with the list
    whole, *tiers = (
        prepare(DataConfig(length=32, quality=quality), tmp_path / "cache") for quality in ("", *TIERS)
    )
    docstrings = [[text.count('"""') // 2 for text in documents_of(dataset)] for dataset in tiers]
    assert {*docstrings[0]} >= {0}
    assert min(docstrings[1]) == 1
    assert {*docstrings[2]} == {2}
    own = [[documentation_share(text) for text in documents_of(dataset)] for dataset in tiers]
    assert max(own[0]) < min(own[1]) <= max(own[1]) < min(own[2])
    assert sorted(chain(*own)) == sorted(map(documentation_share, documents_of(whole)))
    assert "comment lines" in whole.statistics["judged_by"]


def test_texts_of_one_score_share_a_tier():
    sizes = [10, 10, 10, 10, 10, 10]
    assert thirds(np.array([3.0, 1, 2, 1, 3, 2]), sizes).tolist() == [2, 0, 1, 0, 2, 1]
    assert thirds(np.array([5.0] * 6), sizes).tolist() == [1] * 6
    assert thirds(np.array([1.0, 1, 1, 1, 1, 2]), sizes).tolist() == [1, 1, 1, 1, 1, 2]
    assert thirds(np.array([1.0, 2.0, 3.0]), [98, 1, 1]).tolist() == [1, 2, 2]
    assert thirds(np.array([]), []).tolist() == []
