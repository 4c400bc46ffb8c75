"""AR as a model of the Qwen3 class: by the lab's own import, and by `transformers` itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
from training_bench import tiny_config

from lab.training.exchange.description import Description
from lab.training.exchange.exported import load_model, write_model
from lab.training.exchange.qwen3 import write_qwen3

PLAIN = {"layers": 2, "target_embedding": False}
MODELS = {
    "tied": {},
    "untied with gains, grouped heads and another base": {
        "tie_embeddings": False,
        "norm_gain": True,
        "kv_heads": 1,
        "head_dim": 12,
        "rope_base": 500.0,
    },
}
CARD = "# A model\n\n## Load it\n\nso\n\n## License\n\nyours\n"


def described(arm="ar", model=None, **factors):
    """A description and weights of order 1, so that no part is lost in another's shadow."""
    from lab.training.build import build_transformer
    from lab.training.variables import read_variables

    config = tiny_config(arm, {"model": PLAIN}, {"model": model or {}}, {"factors": factors})
    transformer = build_transformer(config, 257)
    rng = np.random.default_rng(0)
    weights = {
        name: (0.5 * rng.normal(size=array.shape)).astype(np.float32)
        for name, array in read_variables(transformer.trainable_variables).items()
    }
    description = Description(
        arm=arm,
        factors=config.factors,
        architecture=transformer.architecture,
        tokenizer="bytes",
        end_id=256,
    )
    return description, weights


def bytes_tokenizer():
    from lab.data.tokenizers import ByteTokenizer

    return ByteTokenizer()


def written(folder, model, tokenizer=None):
    """Both forms of a model: the lab's, loaded, and the folder of the other."""
    description, weights = described(model=model)
    tokenizer = tokenizer or bytes_tokenizer()
    write_model(folder / "lab", description, weights, tokenizer, CARD)
    write_qwen3(folder / "qwen3", description, weights, tokenizer, CARD)
    return load_model(folder / "lab"), folder / "qwen3"


def random_tokens(rows=3, length=16):
    return np.random.default_rng(1).integers(0, 257, (rows, length))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read_back_as_the_same_model(name, tmp_path):
    from lab.training.exchange.foreign import import_checkpoint

    model, folder = written(tmp_path, MODELS[name])
    import_checkpoint(folder, tmp_path / "back")
    back, tokens = load_model(tmp_path / "back"), random_tokens()
    np.testing.assert_array_equal(back.logits(tokens)[..., :257], model.logits(tokens))
    assert back.description.end_id == 256
    assert back.tokenizer.encode("aä\n").tolist() == list("aä\n".encode())


def test_the_configuration_and_the_card_say_what_differs(tmp_path):
    model, folder = written(tmp_path, {})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert {key: config[key] for key in ("vocab_size", "bos_token_id", "eos_token_id")} == {
        **{"vocab_size": 258, "bos_token_id": 257, "eos_token_id": 256}
    }
    assert config["rms_norm_eps"] == model.description.architecture.norm_epsilon == 1e-7
    assert config["tie_word_embeddings"] is True
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "its last id, 257, starts each stream as BOS" in card
    assert "here all are 1. Input and output embeddings are tied." in card
    assert "so" not in card.split()
    assert card.endswith("## License\n\nyours\n")


def test_a_preset_of_keras_hub_is_said_and_not_written(tmp_path):
    from lab.data.tokenizers import PresetTokenizer

    description, weights = described()
    tokenizer = PresetTokenizer("some_preset", np.ones(256))
    description = description.model_copy(update={"tokenizer": "some_preset"})
    write_qwen3(tmp_path / "model", description, weights, tokenizer, CARD)
    assert not (tmp_path / "model" / "tokenizer.json").exists()
    assert "it is some_preset, of keras_hub" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_a_vocabulary_with_the_name_of_the_end_is_refused(tmp_path):
    from tokenizers import Tokenizer, models

    from lab.data.tokenizers import BpeTokenizer

    tokenizer = BpeTokenizer(Tokenizer(models.BPE({"<|end|>": 0, "a": 1}, [])).to_str())
    description, weights = described()
    with pytest.raises(ValueError, match=r"<\|end\|> and <\|start\|> must get the ids 2 and 257"):
        write_qwen3(tmp_path / "model", description, weights, tokenizer, CARD)


@pytest.mark.parametrize("factors", [{"ar_share": 1}, {"ar_share": 0.5, "read_as": "causal"}], ids=str)
def test_what_is_read_left_to_right_is_written_whatever_else_was_trained(factors, tmp_path):
    from lab.training.exchange.foreign import import_checkpoint

    description, weights = described("dlm", **factors)
    write_model(tmp_path / "lab", description, weights, bytes_tokenizer(), CARD)
    write_qwen3(tmp_path / "qwen3", description, weights, bytes_tokenizer(), CARD)
    import_checkpoint(tmp_path / "qwen3", tmp_path / "back")
    tokens = random_tokens()
    found, expected = (load_model(tmp_path / name).logits(tokens) for name in ("back", "lab"))
    np.testing.assert_array_equal(found[..., :257], expected)


@pytest.mark.parametrize(
    ("arm", "model", "factors", "reason"),
    [
        ("dlm", {}, {}, "passes with compute=dense, and that class has causal ones alone"),
        ("dlm", {}, {"ar_share": 0.5}, "compute=dense"),
        ("ar", {"target_embedding": True}, {}, "train with model.target_embedding=false"),
        (
            "any_order_ar",
            {"target_embedding": True},
            {},
            "order=any, and that class predicts the next token alone",
        ),
        ("ar", {"qk_norm": False}, {}, "model.qk_norm=false"),
        ("ar", {"loops": 2}, {}, "model.loops=2, and that class goes through its layers once"),
        (
            "ar",
            {"feed_forward": "token_choice", "experts": 4},
            {},
            "model.feed_forward=token_choice, and that class has no experts",
        ),
    ],
)
def test_what_that_class_does_not_compute_is_refused_with_the_reason(arm, model, factors, reason, tmp_path):
    description, weights = described(arm, model, **factors)
    with pytest.raises(
        ValueError, match=rf"the arm '{arm}' cannot be a model of the Qwen3 class: .*{reason}"
    ):
        write_qwen3(tmp_path / "model", description, weights, bytes_tokenizer(), CARD)
    assert not (tmp_path / "model").exists()


def test_every_reason_is_said(tmp_path):
    description, weights = described("dlm", {"loops": 2, "target_embedding": True})
    with pytest.raises(ValueError, match=r"compute=dense.*; each slot is told .*; model.loops=2"):
        write_qwen3(tmp_path / "model", description, weights, bytes_tokenizer(), CARD)


def test_a_run_is_exported_so_only_if_it_can_be(undisturbed, tmp_path):
    from lab.training.exchange.from_run import export_run

    with pytest.raises(ValueError, match=r"model.target_embedding=false"):
        export_run(undisturbed("ar").logdir, tmp_path / "model", target="qwen3")


@pytest.mark.extra(hf="transformers")
@pytest.mark.filterwarnings("ignore")  # of the package's own dependencies
@pytest.mark.parametrize("name", MODELS)
def test_transformers_computes_the_same_logits(name, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    model, folder = written(tmp_path, MODELS[name])
    theirs, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = random_tokens()
    stream = np.concatenate([np.full((3, 1), 257), tokens[:, :-1]], axis=1)
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(stream)).logits.numpy()
    assert logits.shape == (3, 16, 258)
    difference = np.abs(logits[..., :257] - model.logits(tokens)).max()
    print(f"{name}: logits differ by at most {difference:.2g}, their size is {np.abs(logits).max():.2g}")
    assert difference < 1e-4


@pytest.mark.extra(hf="transformers")
@pytest.mark.filterwarnings("ignore")
def test_the_tokenizer_of_transformers_gives_the_same_ids_after_the_start(tmp_path):
    from transformers import AutoTokenizer

    from lab.data.tokenizers import train_bpe

    text = "the cat and the hat: ä\n\x00é"
    bpe = train_bpe("bpe:260", ["the cat and the hat"] * 3)
    for number, tokenizer in enumerate((bytes_tokenizer(), bpe)):
        description, weights = described()
        end = tokenizer.end_id
        architecture = replace(
            description.architecture, vocab_size=end + 1, mask_id=end + 1, start_id=end + 1
        )
        description = description.model_copy(update={"end_id": end, "architecture": architecture})
        table = np.zeros((end + 2, 16), np.float32)
        weights = {**weights, "transformer/token_embedding/embeddings": table}
        write_qwen3(tmp_path / str(number), description, weights, tokenizer, CARD)
        theirs = AutoTokenizer.from_pretrained(tmp_path / str(number))
        assert theirs(text)["input_ids"] == [end + 1, *tokenizer.encode(text)]
        assert (theirs.bos_token_id, theirs.eos_token_id) == (end + 1, end)
        assert theirs.decode(theirs(text)["input_ids"], skip_special_tokens=True) == text
