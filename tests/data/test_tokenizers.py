import json
import sys

import numpy as np
import pytest

from lab.data.tokenizers import (
    BpeTokenizer,
    ByteTokenizer,
    dump_state,
    find_tokenizer,
    restore_tokenizer,
    tokenizer_identity,
    train_bpe,
)

TEXTS = [
    "def f(x):\n    return x + 1\n" * 20,
    "the cat sat on the mat, the end.\n" * 20,
    "größer 漢字 🙂\n" * 5,
]


@pytest.fixture(scope="module", params=["bytes", "bpe:300"])
def tokenizer(request):
    return find_tokenizer(request.param) or train_bpe(request.param, TEXTS)


@pytest.mark.parametrize(
    "text", ["", " ", "a", "x\r\n\ty  z", "漢字 🙂 é", "\x00\x7f", "<|endoftext|>", *TEXTS]
)
def test_lossless_tokenizers_give_the_text_back_and_count_its_bytes(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())
    assert not (ids >= tokenizer.end_id).any()


def test_the_end_is_the_last_id_and_stands_for_no_bytes(tokenizer):
    assert tokenizer.end_id == tokenizer.vocab_size - 1
    assert tokenizer.byte_lengths.shape == (tokenizer.vocab_size,)
    assert tokenizer.byte_lengths.dtype == np.int32
    assert tokenizer.byte_lengths[tokenizer.end_id] == 0
    assert (tokenizer.byte_lengths[: tokenizer.end_id] > 0).all()
    assert tokenizer.decode([*tokenizer.encode("a"), tokenizer.end_id, *tokenizer.encode("b")]) == "ab"


def test_state_is_json_and_restores(tokenizer):
    restored = restore_tokenizer(json.loads(dump_state(tokenizer)))
    assert restored.name == tokenizer.name
    assert restored.vocab_size == tokenizer.vocab_size
    np.testing.assert_array_equal(restored.byte_lengths, tokenizer.byte_lengths)
    np.testing.assert_array_equal(restored.encode(TEXTS[0]), tokenizer.encode(TEXTS[0]))


def test_decode_refuses_ids_that_do_not_exist(tokenizer):
    for wrong in (tokenizer.vocab_size, -1):
        with pytest.raises(
            ValueError, match=rf"`ids` must be in \[0, {tokenizer.vocab_size}\), but got ids from"
        ):
            tokenizer.decode([0, wrong])


def test_broken_characters_are_shown_as_such():
    assert ByteTokenizer().decode([0xC3, 0x41]) == "\ufffdA"


def test_bpe_has_the_size_asked_for_and_is_shorter_than_bytes():
    tokenizer = train_bpe("bpe:300", TEXTS)
    assert tokenizer.name == "bpe:300"
    assert tokenizer.vocab_size == 301
    assert len(tokenizer.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_bpe_training_repeats():
    assert train_bpe("bpe:300", TEXTS).state() == train_bpe("bpe:300", TEXTS).state()
    assert isinstance(train_bpe("bpe:300", reversed(TEXTS)), BpeTokenizer)


def test_bpe_of_too_little_text():
    with pytest.raises(ValueError, match="tokenizer=bpe:9999 needs more training text: it yields only"):
        train_bpe("bpe:9999", TEXTS)


@pytest.mark.parametrize(
    "name", ["bpe:", "bpe:256", "bpe:-5", "bpe:many", "bpe:1000001", "bpe:5000000000", f"bpe:{'9' * 5000}"]
)
def test_bpe_of_an_impossible_size(name):
    with pytest.raises(
        ValueError, match=f"must be bpe:N with a whole number N > 256 .* <= 1,000,000, .* tokenizer='{name}'"
    ):
        tokenizer_identity(name)


def test_identities_tell_tokenizers_apart(tmp_path):
    preset = tmp_path / "preset"
    (preset / "assets").mkdir(parents=True)
    (preset / "assets" / "vocabulary.json").write_text("{}")
    local = tokenizer_identity(str(preset))
    names = ["bytes", "bpe:300", "bpe:301", "gpt2_base_en"]
    assert len({json.dumps(identity) for identity in [local, *map(tokenizer_identity, names)]}) == 5
    (preset / "model.weights.h5").write_text("weights")
    assert tokenizer_identity(str(preset)) == local
    (preset / "assets" / "vocabulary.json").write_text('{"a": 0}')
    assert tokenizer_identity(str(preset)) != local


def byte_alphabet():
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="module")
def gpt2_preset(tmp_path_factory):
    """A byte-level BPE preset of 259 tokens in a folder, as keras_hub saves them."""
    import keras_hub

    vocabulary = {
        token: index for index, token in enumerate(["<|endoftext|>", *byte_alphabet(), "th", "the"])
    }
    layer = keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=["t h", "th e"])
    return save_preset(layer, "keras_hub>GPT2Backbone", tmp_path_factory.mktemp("gpt2"))


def save_preset(layer, backbone, folder):
    layer.save_to_preset(str(folder))
    # from_preset() finds the tokenizer's class by the backbone's.
    (folder / "config.json").write_text(json.dumps({"registered_name": backbone}))
    return str(folder)


# keras_hub brings TensorFlow, which takes seconds to import: these tests are the only ones that do.
def test_byte_level_preset_is_exact(gpt2_preset):
    tokenizer = find_tokenizer(gpt2_preset)
    assert tokenizer.name == gpt2_preset
    assert (tokenizer.vocab_size, tokenizer.end_id) == (260, 259)
    text = "the thé, \n  漢 end"
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode([*ids, tokenizer.end_id]) == text
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())
    assert len(ids) < len(text.encode())
    assert tokenizer.decode([]) == ""
    # The text may spell the preset's own end token; it is not the end of the document.
    (own_end,) = tokenizer.encode("<|endoftext|>")
    assert own_end != tokenizer.end_id
    assert tokenizer.byte_lengths[own_end] == len("<|endoftext|>")


def test_restored_preset_needs_keras_hub_only_for_text(gpt2_preset, monkeypatch):
    state = dump_state(find_tokenizer(gpt2_preset))
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # import fails
    restored = restore_tokenizer(json.loads(state))
    assert restored.vocab_size == 260
    monkeypatch.undo()
    assert restored.decode(restored.encode("the")) == "the"


def test_word_piece_preset_counts_the_text_that_ids_add(tmp_path):
    import keras_hub

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "é"]
    layer = keras_hub.models.BertTokenizer(vocabulary=vocabulary)
    tokenizer = find_tokenizer(save_preset(layer, "keras_hub>BertBackbone", tmp_path))
    lengths = dict(zip(vocabulary, tokenizer.byte_lengths.tolist(), strict=False))
    assert (lengths["cat"], lengths["##s"], lengths["é"]) == (len(" cat"), len("s"), len(" é".encode()))


def test_preset_that_pads_is_refused(tmp_path):
    import keras_hub

    vocabulary = {token: index for index, token in enumerate(["<|endoftext|>", *byte_alphabet(), "th"])}
    layer = keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=["t h"], sequence_length=8)
    name = save_preset(layer, "keras_hub>GPT2Backbone", tmp_path)
    with pytest.raises(ValueError, match="must not cut or pad texts, but it has sequence_length=8"):
        find_tokenizer(name)


def test_preset_that_gives_ids_outside_its_vocabulary(gpt2_preset):
    tokenizer = restore_tokenizer({"kind": "preset", "name": gpt2_preset, "byte_lengths": [1] * 10})
    with pytest.raises(ValueError, match=r"must give ids in \[0, 10\), but got ids from"):
        tokenizer.encode("the")


def test_unknown_preset():
    with pytest.raises(
        ValueError, match=r"`tokenizer` must be bytes, bpe:N, .* got tokenizer='no_such_preset'"
    ):
        find_tokenizer("no_such_preset")
