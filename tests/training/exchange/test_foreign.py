"""Checkpoints of other programs: what the lab computes of them, and what it refuses."""

import json
import re

import ml_dtypes
import numpy as np
import pytest
from exchange_bench import (
    BASE,
    CAUSAL,
    CONFIGS,
    EPSILON,
    HEADS,
    LENGTH,
    PARTS,
    VOCAB,
    WIDTH,
    logits_of,
    tensors_of,
    write_checkpoint,
)

START = {"paper_ar": 3, "qwen3": 7, "llama": 1}  # BOS, or where there is none the end of documents
KINDS = list(CONFIGS)


def imported(checkpoint, folder, **options):
    from lab.training.exchange.exported import load_model
    from lab.training.exchange.foreign import Ids, import_checkpoint

    length = options.pop("length", None)
    import_checkpoint(checkpoint, folder, length, Ids(**options))
    return load_model(folder)


def theirs(kind, tensors, tokens, start=None):
    """Their logits of each token of a row: a causal model predicts it from the start and those before it."""
    if kind not in CAUSAL:
        return logits_of(kind, tensors, tokens)
    return logits_of(kind, tensors, np.concatenate([[START[kind] if start is None else start], tokens[:-1]]))


def tokens_of(kind, length=LENGTH):
    tokens = np.random.default_rng(1).integers(0, VOCAB, (2, length))
    if kind not in CAUSAL:
        tokens[:, ::3] = 41
    return tokens


def close(kind, model, tensors, tokens, tolerance=1e-4, **options):
    ours = model.logits(tokens)
    assert ours.shape == (*tokens.shape, VOCAB)
    for row, expected in zip(ours, (theirs(kind, tensors, row, **options) for row in tokens), strict=True):
        if kind not in CAUSAL:
            assert (row[:, 41] == -1e30).all()  # the mask is never predicted
            row, expected = (np.delete(each, 41, axis=1) for each in (row, expected))
        np.testing.assert_allclose(row, expected, atol=tolerance, rtol=0)


@pytest.mark.backend
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_an_independent_forward_pass(kind, tmp_path):
    tensors = tensors_of(kind)
    model = imported(write_checkpoint(tmp_path / "theirs", kind, tensors), tmp_path / "ours")
    close(kind, model, tensors, tokens_of(kind))
    close(kind, model, tensors, tokens_of(kind, length=5))
    close(kind, model, tensors, tokens_of(kind, length=7))
    a, saved = model.description.architecture, model.description
    assert (a.norm_epsilon, a.rope_base, a.vocab_size, a.length) == (EPSILON, BASE, VOCAB, LENGTH)
    assert (saved.arm, saved.end_id, model.tokenizer) == ("ar" if kind in CAUSAL else "dlm", 3, None)
    assert a.mask_id == (VOCAB if kind in CAUSAL else 41)
    assert saved.factors.estimator == ("bernoulli" if kind == "llada" else "counted")


@pytest.mark.parametrize("kind", ["paper_dlm", "llada"])
def test_parts_give_what_one_file_gives_and_half_the_bytes_their_values(kind, tmp_path):
    tensors = {name: array.astype(ml_dtypes.bfloat16) for name, array in tensors_of(kind).items()}
    whole = imported(write_checkpoint(tmp_path / "whole", kind, tensors), tmp_path / "a")
    parts = imported(write_checkpoint(tmp_path / "parts", kind, tensors, shards=3), tmp_path / "b")
    tokens = tokens_of(kind)
    assert whole.logits(tokens).tobytes() == parts.logits(tokens).tobytes()
    close(kind, parts, tensors, tokens)
    size = sum(array.size for array in tensors.values())
    assert size * 2 < (tmp_path / "b" / "model.safetensors").stat().st_size < size * 2.2


def test_tensors_of_several_dtypes_become_float32(tmp_path):
    tensors = tensors_of("paper_ar")
    name = "model.layers.0.self_attn.k_proj.weight"
    tensors[name] = tensors[name].astype(np.float16)
    model = imported(write_checkpoint(tmp_path / "theirs", "paper_ar", tensors), tmp_path / "ours")
    close("paper_ar", model, tensors, tokens_of("paper_ar"))


def test_ids_and_the_window_can_be_said(tmp_path):
    tensors = tensors_of("paper_ar")
    checkpoint = write_checkpoint(tmp_path / "theirs", "paper_ar", tensors)
    model = imported(checkpoint, tmp_path / "ours", start=9, end=5, length=6)
    close("paper_ar", model, tensors, tokens_of("paper_ar", 6), start=9)
    assert (model.description.end_id, model.transformer.length) == (5, 6)
    checkpoint = write_checkpoint(tmp_path / "old", "llada", mask_token_id=...)
    assert imported(checkpoint, tmp_path / "masked", mask=41).transformer.mask_id == 41


def test_the_token_that_starts_a_stream_can_still_be_predicted(tmp_path):
    """Else the end of a document, which starts a stream where there is no BOS, would have no likelihood."""
    model = imported(write_checkpoint(tmp_path / "theirs", "paper_ar"), tmp_path / "ours")
    assert (np.abs(model.logits(tokens_of("paper_ar"))) < 1e3).all()


def test_what_older_checkpoints_hold_twice_is_compared(tmp_path):
    tensors = tensors_of("paper_dlm")
    table = tensors["model.embed_tokens.weight"]
    inverse = BASE ** (-np.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    twice = {**tensors, "lm_head.weight": table.copy(), name: inverse.astype(np.float32)}
    model = imported(write_checkpoint(tmp_path / "theirs", "paper_dlm", twice), tmp_path / "ours")
    close("paper_dlm", model, tensors, tokens_of("paper_dlm"))
    other = write_checkpoint(tmp_path / "head", "paper_dlm", {**twice, "lm_head.weight": table + 1})
    with pytest.raises(ValueError, match=r"'lm_head.weight' must equal 'model.embed_tokens.weight'"):
        imported(other, tmp_path / "none")
    other = write_checkpoint(
        tmp_path / "base", "paper_dlm", {**twice, name: (2 * inverse).astype(np.float32)}
    )
    with pytest.raises(ValueError, match=rf"{name}' must be the frequencies of the rotary base 300"):
        imported(other, tmp_path / "none")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("qwen3", {"attention_bias": True}, r"attention_bias=True is not implemented, only false"),
        ("llama", {"mlp_bias": True}, r"mlp_bias=True is not implemented"),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, r"rope_scaling=.*'llama3'.* is not implemented"),
        ("qwen3", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, r"rope_type='yarn' is not"),
        ("qwen3", {"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}}, r"factor=2.0 is not implemented"),
        ("qwen3", {"rope_parameters": 3}, r"rope_parameters=3 is not implemented"),
        ("qwen3", {"use_sliding_window": True}, r"use_sliding_window=True is not implemented"),
        (
            "qwen3",
            {"layer_types": ["full_attention", "sliding_attention"]},
            r"layer_types=.* is not implemented",
        ),
        ("qwen3", {"layer_types": 4}, r"layer_types=4 is not implemented"),
        ("paper_dlm", {"hidden_act": "gelu"}, r"hidden_act='gelu' is not implemented, only \"silu\""),
        ("paper_dlm", {"attn_mask_type": "causal"}, r"attn_mask_type='causal' is not implemented"),
        ("paper_ar", {"use_mrope": True}, r"use_mrope=True is not implemented"),
        ("llama", {"pretraining_tp": 2}, r"pretraining_tp=2 is not implemented, only 1"),
        ("llada", {"block_type": "sequential"}, r"block_type='sequential' is not implemented"),
        ("llada", {"attention_layer_norm": True}, r"attention_layer_norm=True is not implemented"),
        ("llada", {"include_qkv_bias": True}, r"include_qkv_bias=True is not implemented"),
        (
            "llada",
            {"multi_query_attention": True},
            r"multi_query_attention=True is not .*, only null or false",
        ),
        (
            "llada",
            {"embedding_size": 64},
            r"embedding_size=64 is not implemented where vocab_size is another, 50",
        ),
        ("llada", {"scale_logits": 0}, r"scale_logits=0 is not implemented, only false"),
        ("qwen3", {"num_experts": 8}, r"what num_experts ask for is not known"),
        ("llada", {"layer_types": []}, r"what layer_types ask for is not known"),
        ("paper_dlm", {"rms_norm_eps": float("nan")}, r"config.json: `norm_epsilon` must be above 0"),
        (
            "paper_dlm",
            {"tie_word_embeddings": 1},
            r"must say tie_word_embeddings, true or false, but it is 1",
        ),
        ("qwen3", {"head_dim": ...}, r"must say head_dim, a whole number, but it is None"),
        ("qwen3", {"rope_parameters": ...}, r"must say rope_theta, a number, but it is None"),
        ("llada", {"weight_tying": ...}, r"must say weight_tying, true or false, but it is None"),
        ("paper_dlm", {"hidden_size": "32"}, r"must say hidden_size, a whole number, but it is '32'"),
        ("paper_dlm", {"vocab_size": True}, r"must say vocab_size, a whole number, but it is True"),
        ("paper_dlm", {"num_key_value_heads": 3}, r"config.json: `kv_heads` must divide heads"),
        ("paper_dlm", {"rms_norm_eps": 0}, r"config.json: `norm_epsilon` must be above 0"),
        ("paper_dlm", {"mask_token_id": ...}, r"which id is the mask's, .*, but it says None; --mask gives"),
        (
            "paper_dlm",
            {"mask_token_id": VOCAB},
            r"which id is the mask's, below its vocab_size=50, .* says 50",
        ),
        ("paper_ar", {"eos_token_id": [3, 4]}, r"which id is the end's, .*, but it says None"),
        ("llama", {"architectures": ["GPT2LMHeadModel"]}, r"`architectures` must name one of \['CausalLM'"),
        ("llama", {"architectures": [["LlamaForCausalLM"]]}, r"`architectures` must name one of"),
        ("llama", {"architectures": ...}, r"`architectures` must name one of .*, but it is None"),
    ],
)
def test_a_configuration_that_is_not_implemented_is_refused_by_name(kind, changes, message, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "theirs", kind, **changes)
    with pytest.raises(ValueError, match=message):
        imported(checkpoint, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_unknown_tensors_and_other_shapes_are_refused_by_name(kind, tmp_path):
    parts, tensors = PARTS[kind == "llada"], tensors_of(kind)
    query, bias = (parts["layer"].format(1) + name for name in (parts["q"], "bias"))
    wrong = {name: array for name, array in tensors.items() if name != query} | {bias: tensors[parts["norm"]]}
    with pytest.raises(
        ValueError, match=rf"missing are {re.escape(query)}, and not known are {re.escape(bias)}"
    ):
        imported(write_checkpoint(tmp_path / "names", kind, wrong), tmp_path / "ours")
    wrong = {**tensors, query: tensors[query].T.copy()[:, :-1]}
    with pytest.raises(ValueError, match=rf"{re.escape(query)}' must have shape \(\d+, 32\), .* \(32, \d+\)"):
        imported(write_checkpoint(tmp_path / "shapes", kind, wrong), tmp_path / "ours")


def test_another_number_of_layers_is_refused_and_a_long_list_is_cut(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "theirs", "llama", num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"missing are none, and not known are model.layers.1.* and 3 more"):
        imported(checkpoint, tmp_path / "ours")


def test_a_window_that_is_too_long_and_a_full_folder_are_refused(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "theirs", "llama")
    for length in (0, LENGTH + 1):
        with pytest.raises(ValueError, match=rf"`length` must be in 1 \.\. 12, .*, but got length={length}"):
            imported(checkpoint, tmp_path / "ours", length=length)
    with pytest.raises(ValueError, match="must be a new or an empty folder"):
        imported(checkpoint, checkpoint)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a JSON file at"):
        imported(tmp_path / "empty", tmp_path / "ours")


def byte_level(size):
    """A byte-level tokenizer as other programs serialize theirs, of the bytes and an end with the last id."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the cat and the hat and the bat"] * 3, trainer)
    made.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return made


def test_a_text_is_scored_by_the_checkpoints_own_tokenizer(tmp_path):
    rows, tokenizer = 300, byte_level(262)
    tensors = tensors_of("paper_ar")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.random.default_rng(2).normal(size=(rows, WIDTH)).astype(np.float32)
    checkpoint = write_checkpoint(tmp_path / "theirs", "paper_ar", tensors, vocab_size=rows, eos_token_id=0)
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    config = {"eos_token": {"content": "<|endoftext|>"}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = imported(checkpoint, tmp_path / "ours")
    end = tokenizer.token_to_id("<|endoftext|>")
    assert model.description.end_id == model.tokenizer.end_id == end != 0  # not what config.json says
    text = "the cät"
    ids = np.array(tokenizer.encode(text).ids)
    assert model.tokenizer.decode([*ids, end]) == text
    assert model.tokenizer.vocab_size == rows
    assert model.tokenizer.byte_lengths[ids].sum() == len(text.encode())
    logits = logits_of("paper_ar", tensors, np.concatenate([[end], ids[:-1]]))
    log_chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(model.nll(text), -log_chances[np.arange(len(ids)), ids], atol=1e-4)


def test_a_tokenizer_that_cuts_and_pads_gives_the_ids_of_the_whole_text_and_no_more():
    from lab.training.exchange.tokenizers import CheckpointTokenizer

    tokenizer, text = byte_level(262), "the cat and the hat"
    ids = tokenizer.encode(text).ids
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=30)
    assert CheckpointTokenizer(tokenizer.to_str(), 0, 300).encode(text).tolist() == ids


def test_a_tokenizer_that_is_not_implemented_is_said_and_left_out(tmp_path):
    from tokenizers import Tokenizer, models

    from lab.training.exchange.foreign import import_checkpoint

    checkpoint = write_checkpoint(tmp_path / "theirs", "llama")
    Tokenizer(models.BPE()).save(str(checkpoint / "tokenizer.json"))
    assert "only byte-level tokenizers" in import_checkpoint(checkpoint, tmp_path / "a")[1]
    byte_level(256).save(str(checkpoint / "tokenizer.json"))
    assert "go up to 256, but the model's only to 49" in import_checkpoint(checkpoint, tmp_path / "b")[1]
    (checkpoint / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert "not a tokenizer of the `tokenizers`" in import_checkpoint(checkpoint, tmp_path / "c")[1]
    (checkpoint / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in import_checkpoint(checkpoint, tmp_path / "d")[1]


@pytest.mark.extra(hf="transformers")
@pytest.mark.filterwarnings("ignore")  # of the package's own dependencies
@pytest.mark.parametrize("kind", ["Qwen3", "Llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_transformers_writes_is_read_and_computes_the_same(kind, tied, tmp_path):
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=LENGTH,
        rms_norm_eps=EPSILON,
        tie_word_embeddings=tied,
        bos_token_id=7,
        eos_token_id=3,
    )
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.mul_(8 if weight.ndim == 2 else 1).add_(0.1 * torch.randn_like(weight))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    model, tokens = imported(tmp_path / "theirs", tmp_path / "ours"), tokens_of("llama")
    stream = np.concatenate([np.full((2, 1), 7), tokens[:, :-1]], axis=1)
    with torch.no_grad():
        expected = theirs(torch.tensor(stream)).logits.numpy()
    difference = np.abs(model.logits(tokens) - expected).max()
    print(f"{kind}: logits differ by at most {difference:.2g}, their size is {np.abs(expected).max():.2g}")
    assert difference < 1e-4
