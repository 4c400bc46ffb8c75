import numpy as np
import pytest
from evaluation_bench import RiggedLogits

from lab.data.tokenizers import ByteTokenizer, train_bpe
from lab.evaluation.denoising import denoise
from lab.evaluation.generation import sample_left_to_right
from lab.evaluation.stop_conditions import StopStrings

TEXT = "if x:\n    y = 1\n\n\nif z:\n    y = 2\n\n\nreturn y  # → ∎\n\n\n" * 5
BPE = train_bpe("bpe:275", [TEXT])


class Writer(RiggedLogits):
    """Writes a text whatever the prompt is, token by token or all at once; prompts have one length."""

    def __init__(self, tokens, vocab_size, first=0, causal=False):
        super().__init__(causal, first + len(tokens), vocab_size)
        self.text = np.concatenate([np.zeros(first, int), tokens])

    def one_batch(self, tokens, slots):
        return np.where(np.arange(self.transformer.vocab_size) == self.text[slots][..., None], 0.0, -1e9)


def written(tokenizer, ids, strings, prompt=()):
    """The continuation up to where it stops, by both samplers, which must agree, and its text."""
    stop = StopStrings(tokenizer, strings)
    rows = []
    for causal in (True, False):
        model = Writer(ids, tokenizer.vocab_size, len(prompt), causal)
        rows += sample_left_to_right(model, [np.array(prompt)], len(ids), 0, stop)
    rows += denoise(model, [np.array(prompt)], len(ids), "ancestral", 3, 0, stop)
    assert rows[0].tolist() == rows[1].tolist() == rows[2].tolist()
    row = rows[0][len(prompt) :]
    return row, stop.text(row)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
@pytest.mark.parametrize("string", ["\n\n", ":\n", "= 2", "y", "→", "# → ∎", "z:\n    y"])
def test_text_ends_before_the_first_place_of_a_string(tokenizer, string):
    ids = tokenizer.encode(TEXT)
    row, text = written(tokenizer, ids, [string])
    assert text == TEXT[: TEXT.index(string)]
    assert string in tokenizer.decode(row)
    assert string not in tokenizer.decode(row[:-1])
    np.testing.assert_array_equal(row, ids[: len(row)])


def test_a_string_counts_wherever_the_borders_between_tokens_lie():
    """As a model may write it: begun and ended inside other tokens than its own tokenization has."""
    text = "y = 1\n\n\nif z"
    pieces = [BPE.encode(piece) for piece in ("y = 1\n", "\n\n", "if z")]
    ids = np.concatenate(pieces)
    alone = BPE.encode("1\n\n").tolist()
    assert alone not in [ids[start : start + len(alone)].tolist() for start in range(len(ids))]
    row, end = written(BPE, ids, ["1\n\n"])
    assert end == "y = "
    assert len(row) == len(pieces[0]) + len(pieces[1])
    assert BPE.decode(row) == text[:8]  # the last token goes beyond the string


def test_the_earliest_of_several_strings_counts_and_the_prompt_does_not():
    prompt, ids = BPE.encode("\n\n"), BPE.encode("y = 2; z = 3")
    _, text = written(BPE, ids, ["3", "\n\n", "; z", "z"], prompt.tolist())
    assert text == "y = 2"


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
def test_the_end_of_a_document_is_an_end_and_has_no_text(tokenizer):
    ids = np.concatenate([tokenizer.encode("a"), [tokenizer.end_id], tokenizer.encode("b")])
    for strings in ([], ["ab"]):
        row, text = written(tokenizer, ids, strings)
        assert row.tolist() == ids[:2].tolist()
        assert text == "a"


def test_without_its_string_a_text_is_whole_at_its_last_token():
    ids = BPE.encode("y = 2")
    row, text = written(BPE, ids, ["3"])
    assert (row.tolist(), text) == (ids.tolist(), "y = 2")


def test_an_empty_stop_is_refused():
    with pytest.raises(ValueError, match="a stop string must hold a character, but got an empty one"):
        StopStrings(BPE, ["a", ""])
