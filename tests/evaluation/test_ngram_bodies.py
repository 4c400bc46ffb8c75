from collections import Counter

import numpy as np
import pytest

from lab.data.ngram import fit
from lab.data.tokenizers import ByteTokenizer
from lab.evaluation.ngram_bodies import sample_bodies

TOKENIZER = ByteTokenizer()


def counted(texts, max_order):
    tokens = np.concatenate([[*text.encode(), TOKENIZER.end_id] for text in texts])
    return fit(tokens, TOKENIZER.vocab_size, max_order)


@pytest.mark.parametrize("seed", [None, 0])
def test_a_text_that_is_all_it_has_seen_is_written_to_its_end(seed):
    """Each context of five bytes has one byte behind it, and next to nothing is left for others."""
    model = counted(200 * ["def f(xs):\n    return sum(xs)"], 6)
    bodies = sample_bodies(model, TOKENIZER, ["def f(xs):", "def f("], 60, seed)
    assert bodies == ["\n    return sum(xs)", "xs):\n    return sum(xs)"]


def test_greedy_takes_the_more_frequent_and_sampling_both_by_their_share():
    texts = 300 * ["q=a"] + 100 * ["q=b"]
    model = counted(texts, 3)
    assert sample_bodies(model, TOKENIZER, ["q="], 9, None) == ["a"]
    sampled = Counter(sample_bodies(model, TOKENIZER, 1000 * ["q="], 9, 1))
    expected = model.distribution(np.array([*b"q="]))[ord("b")]
    assert expected == pytest.approx(0.25, abs=0.01)
    assert sampled["b"] / 1000 == pytest.approx(expected, abs=3 * np.sqrt(0.25 * 0.75 / 1000))


def test_a_body_depends_on_its_prompt_its_place_and_the_seed_alone():
    draw = np.random.default_rng(0)
    model = counted(["".join(draw.choice([*"abcd"], 30)) for _ in range(20)], 3)
    prompts = ["ab", "cd", "ab"]
    bodies = sample_bodies(model, TOKENIZER, prompts, 12, 5)
    assert bodies == sample_bodies(model, TOKENIZER, prompts, 12, 5)
    assert bodies[:2] == sample_bodies(model, TOKENIZER, prompts[:2], 12, 5)
    assert bodies[0] != bodies[2]
    assert bodies != sample_bodies(model, TOKENIZER, prompts, 12, 6)
    longer = sample_bodies(model, TOKENIZER, prompts, 40, 5)
    assert all(more.startswith(body) for more, body in zip(longer, bodies, strict=True))


def test_a_body_that_does_not_end_is_cut():
    model = counted(["a" * 200], 2)
    assert sample_bodies(model, TOKENIZER, ["a", ""], 7, None)[0] == 7 * "a"


def test_no_tokens_are_refused():
    with pytest.raises(ValueError, match=r"`new_tokens` must be >= 1, but got new_tokens=0"):
        sample_bodies(counted(["a"], 1), TOKENIZER, ["a"], 0, None)


def test_no_prompts_give_no_bodies():
    assert sample_bodies(counted(["a"], 1), TOKENIZER, [], 3, 0) == []
