"""A finished run's model in a folder of its own: what comes back is what was there."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_bench import tiny_config

from lab.training.exchange.tensors import WEIGHTS, read_tensors, write_tensors

TEXT = "ab cc2 d"


@pytest.fixture(scope="module")
def folders(tmp_path_factory, undisturbed):
    """The exported best stop of an arm, made once each."""
    made = {}

    def folder(arm):
        from lab.training.exchange.from_run import export_run

        if arm not in made:
            made[arm] = tmp_path_factory.mktemp("exported") / arm
            export_run(undisturbed(arm).logdir, made[arm])
        return made[arm]

    return folder


@pytest.fixture
def copied(folders, tmp_path):
    """A copy of the exported AR arm, to be damaged."""
    return shutil.copytree(folders("ar"), tmp_path / "copied")


def loaded(folder):
    import lab

    return lab.load_model(folder)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_model_comes_back_bit_for_bit(arm, undisturbed, folders, tmp_path):
    from lab.evaluation.chain_rule import chain_rule_nll
    from lab.training.finished import load_arm
    from lab.training.variables import read_variables

    run, model = undisturbed(arm), loaded(folders(arm))
    best = run.result.reference(run.result.best())
    own = load_arm(run.logdir, best, 257, run.config)
    before, after = (
        read_variables(each.trainable_variables) for each in (own.scorer.transformer, model.transformer)
    )
    assert {name: array.tobytes() for name, array in before.items()} == {
        name: array.tobytes() for name, array in after.items()
    }
    assert model.transformer.architecture == own.scorer.transformer.architecture
    assert model.description.factors == run.config.factors
    window = np.full((1, 16), 256, np.int32)
    window[0, : len(TEXT)] = np.frombuffer(TEXT.encode(), np.uint8)
    expected = chain_rule_nll(own.scorer, window, last=len(TEXT))[0]
    assert model.nll(TEXT).tolist() == expected.tolist()
    assert model.tokenizer.decode([*TEXT.encode(), 256]) == TEXT
    assert sorted(path.name for path in folders(arm).iterdir()) == [
        *("README.md", "config.json", "model.safetensors", "tokenizer_state.json")
    ]


def test_logits_are_those_by_which_a_text_is_scored(folders):
    model, ids = loaded(folders("ar")), np.frombuffer(TEXT.encode(), np.uint8)[None]
    logits = model.logits(ids)[0].astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(-np.log(chances[np.arange(8), ids[0]]), model.nll(TEXT), rtol=1e-4)
    model = loaded(folders("dlm"))
    window = np.full((1, 16), model.transformer.mask_id)
    window[0, :3] = ids[0, :3]
    logits = model.logits(window)[0, 3].astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(-np.log(chances[ids[0, 3]]), model.nll(TEXT)[3], rtol=1e-4)


def test_an_arm_of_blocks_is_read_in_blocks(tmp_path):
    from lab.data.tokenizers import ByteTokenizer
    from lab.evaluation.chain_rule import chain_rule_nll
    from lab.training.build import build_transformer
    from lab.training.exchange.description import Description
    from lab.training.exchange.exported import write_model
    from lab.training.variables import read_variables

    config = tiny_config("dlm", {"factors": {"block": 4}})
    transformer = build_transformer(config, 257)
    description = Description(
        arm="blocks",
        factors=config.factors,
        architecture=transformer.architecture,
        tokenizer="bytes",
        end_id=256,
    )
    weights = read_variables(transformer.trainable_variables)
    write_model(tmp_path / "model", description, weights, ByteTokenizer(), "")
    model = loaded(tmp_path / "model")
    assert (model.scorer.causal, model.scorer.block_size) == (False, 4)
    window = np.zeros((1, 16), np.int32) + 97
    assert model.nll("a" * 16).tolist() == chain_rule_nll(model.scorer, window)[0].tolist()
    assert model.logits(window).shape == (1, 16, 257)


def test_the_last_stop_is_another(undisturbed, tmp_path):
    from lab.training.checkpoint import load_arrays, stop_weights_path
    from lab.training.exchange.from_run import export_run

    run = undisturbed("ar")
    end = run.result.end()
    assert export_run(run.logdir, tmp_path / "last", "last").origin["step"] == end.step
    expected = load_arrays(stop_weights_path(run.logdir, end.reading, end.step))
    found = read_tensors(tmp_path / "last" / WEIGHTS)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def test_a_tokenizer_that_was_trained_travels_whole(tmp_path):
    from lab.data.tokenizers import train_bpe
    from lab.training.exchange.tokenizers import read_tokenizer, write_tokenizer

    tokenizer = train_bpe("bpe:260", ["the cat and the hat"] * 3)
    write_tokenizer(tmp_path, tokenizer)
    text, back = "the cät", read_tokenizer(tmp_path)
    assert back.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert back.decode(back.encode(text)) == text
    assert (back.name, back.end_id, back.vocab_size) == ("bpe:260", 260, 261)


def test_the_card_has_words_for_every_corpus():
    from typing import get_args

    from lab.config import DataConfig
    from lab.training.exchange.card import CORPORA

    assert set(CORPORA) == set(get_args(DataConfig.model_fields["corpus"].annotation))


def test_the_card_says_what_the_model_is(undisturbed, folders):
    card = (folders("dlm") / "README.md").read_text(encoding="utf-8")
    result = undisturbed("dlm").result
    best = result.best()
    (ngram,) = (one.values["test"]["nll"] for one in result.baselines if one.name == "n-gram")
    for said in (
        "# dlm, seed 0",
        "| arm | `dlm`: predicts hidden tokens from all others in one dense pass; hidden are random subsets; "
        "new draws at each visit |",
        f"| unique tokens | {result.data.unique_tokens:,} of {result.data.train_tokens:,} (bytes) |",
        f"| tokens seen | {best.tokens_seen:,} ({best.epoch:.1f} epochs) |",
        f"| test NLL | {best.test['nll']:.3f} nats/token |",
        f"| test NLL of an n-gram on the same tokens | {ngram:.3f} nats/token |",
        "lab.load_model(",
        "## License\n\nNot stated",
    ):
        assert said in card
    assert str(undisturbed("dlm").logdir.parent) not in card


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({}, "predicts each token from those before it, left to right"),
        (
            {"order": "any", "draws": 4},
            "predicts each token from those before it, in random orders; 4 draws a text",
        ),
        (
            {"input_noise": "mask:0-1"},
            "predicts each token from those before it, left to right; on inputs altered by mask:0-1; "
            "new draws at each visit",
        ),
        (
            {"compute": "dense"},
            "predicts hidden tokens from all others in one dense pass; hidden are the end of a window; "
            "new draws at each visit",
        ),
        (
            {"compute": "dense", "order": "any", "block": 4},
            "denoises blocks of 4 tokens one after the other, within a block in random orders; "
            "new draws at each visit",
        ),
        (
            {"compute": "dense", "order": "any", "ar_share": 0.25},
            "predicts hidden tokens from all others in one dense pass; hidden are random subsets; "
            "new draws at each visit; 25% of the rows trained left to right in causal passes",
        ),
    ],
)
def test_an_arm_in_words(factors, words):
    from lab.config import FactorsConfig
    from lab.training.exchange.card import arm_in_words

    assert arm_in_words(FactorsConfig(**factors)) == words


def test_the_current_folder_is_filled_where_it_is(tmp_path, monkeypatch):
    from lab.training.exchange.exported import new_folder

    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    before = Path.cwd().stat().st_ino
    with new_folder(Path()) as temporary:
        (temporary / "README.md").write_text("card")
    assert [path.name for path in Path.cwd().iterdir()] == ["README.md"]
    assert (tmp_path / "model").stat().st_ino == before  # else a shell there would show nothing
    assert [*tmp_path.iterdir()] == [tmp_path / "model"]


def test_nothing_is_written_over_and_a_failure_leaves_nothing(undisturbed, tmp_path, monkeypatch):
    from lab.training.exchange import exported
    from lab.training.exchange.from_run import export_run

    logdir = undisturbed("ar").logdir
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for full in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="must be a new or an empty folder, but it holds something"):
            export_run(logdir, full)

    def fail(folder, tokenizer):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exported, "write_tokenizer", fail)
    with pytest.raises(OSError, match="No space left"):
        export_run(logdir, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="must be the folder of a finished run"):
        export_run(tmp_path / "none", tmp_path / "model")
    with pytest.raises(ValueError, match=r"`to` must be one of \['lab', 'qwen3'\], but got to='gguf'"):
        export_run(logdir, tmp_path / "model", target="gguf")
    with pytest.raises(ValueError, match="`stop` must be best or last, but got stop='first'"):
        export_run(logdir, tmp_path / "model", "first")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"more": np.ones(1, np.float32)},
            r"model.safetensors: the checkpoint must hold \[\], .*'more \(1,\)",
        ),
        (
            {"transformer/block_0/attention/output/kernel": None},
            r"must hold \['transformer/block_0/attention/o",
        ),
        (
            {"transformer/block_0/attention/output/kernel": np.ones((16, 8), np.float32)},
            r"output/kernel \(16, 16\) float32.*output/kernel \(16, 8\) float32",
        ),
        (
            {"transformer/block_0/attention/output/kernel": np.full((16, 16), np.nan, np.float32)},
            "finite numbers",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(changed, message, copied):
    weights = {**read_tensors(copied / WEIGHTS), **changed}
    write_tensors(copied / WEIGHTS, {name: array for name, array in weights.items() if array is not None})
    with pytest.raises(ValueError, match=message):
        loaded(copied)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "format",
            None,
            r"config.json must be of a model that the lab exported, .* its format is None.*lab import",
        ),
        ("format", "ablation-lab/2", r"its format is 'ablation-lab/2'"),
        ("end_id", 257, r"config.json: .*`end_id` must be in 0 \.\. 256, but got end_id=257"),
        ("more", 1, r"config.json: not what the lab writes there \(more: "),
        ("dtype", "float16", r"config.json: not what the lab writes there \(dtype: "),
        ("factors", {"compute": "sideways"}, r"\(factors.compute: "),
        (
            "architecture",
            {"depth": 3},
            r"\(architecture: .*must have no other keys than .*, but got \['depth'\]",
        ),
        ("architecture", {"heads": "two"}, r"\(architecture\.?\w*: "),
        ("architecture", {"heads": 0}, r"\(architecture: .*`heads` must be at least 1"),
        (
            "architecture",
            {"vocab_size": 300, "mask_id": 300, "start_id": 300},
            "must have the 300 ids of the model",
        ),
        ("architecture", {"width": 8, "head_dim": 8}, r"model.safetensors: the checkpoint must hold"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(key, value, message, copied):
    path = copied / "config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said[key] = {**said[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        loaded(copied)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "", "config.json: not JSON"),
        ("config.json", "[]", "its format is None"),
        (
            "tokenizer_state.json",
            '{"kind": "bytes"',
            "tokenizer_state.json: not a tokenizer as the lab writes it",
        ),
        ("tokenizer_state.json", '{"kind": "words"}', "there is no tokenizer of kind 'words'"),
        ("tokenizer_state.json", '{"kind": "bpe", "serialized": 3}', "tokenizer_state.json: not a tokenizer"),
        ("tokenizer_state.json", '{"kind": "checkpoint"}', "tokenizer_state.json: not a tokenizer"),
        ("model.safetensors", "garbage", "model.safetensors: not a safetensors file"),
        ("config.json", None, "expected a JSON file at .*config.json"),
        ("tokenizer_state.json", None, "expected a JSON file at .*tokenizer_state.json"),
        ("model.safetensors", None, "expected weights at .*model.safetensors"),
    ],
)
def test_a_damaged_or_missing_file_is_refused_by_name(name, text, message, copied):
    if text is None:
        (copied / name).unlink()
    else:
        (copied / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        loaded(copied)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"exported model at {re.escape(str(tmp_path / 'none'))}"):
        loaded(tmp_path / "none")


def test_tokens_and_texts_that_do_not_fit_are_refused(folders):
    from dataclasses import replace

    model = loaded(folders("ar"))
    for tokens in ([[0] * 17], [0], [[]]):
        with pytest.raises(ValueError, match=r"`tokens` must be \(rows, n\) with n in 1 \.\. 16, but got"):
            model.logits(np.array(tokens))
    for token in (-1, 258):
        with pytest.raises(ValueError, match=r"`tokens` must be in \[0, 258\), but got ids from"):
            model.logits(np.array([[token]]))
    for text in ("", "a" * 17):
        with pytest.raises(ValueError, match=rf"must have 1 \.\. 16 tokens, but it has {len(text)}"):
            model.nll(text)
    with pytest.raises(ValueError, match="needs a tokenizer, but the checkpoint brought none"):
        replace(model, tokenizer=None).nll("a")
