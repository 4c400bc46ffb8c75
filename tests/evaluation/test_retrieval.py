import random

import pytest

from lab.config import make_config
from lab.data.dataset import prepare
from lab.data.documents import documents_of
from lab.data.functions import functions_of, problems
from lab.evaluation.retrieval import retrieve_bodies
from lab.evaluation.training_windows import unique_tokens


def shingles(text):
    words = text.split()
    return {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 3, len(words)) + 1)}


def test_the_nearest_is_that_of_every_pair_compared():
    draw = random.Random(0)
    trained = [(" ".join(draw.choices("abcdefg", k=draw.randint(1, 8))), str(i)) for i in range(200)]
    prompts = [" ".join(draw.choices("abcdefgh", k=draw.randint(1, 8))) for _ in range(60)]

    def nearest(prompt):
        def likeness(item):
            one, other = shingles(prompt), shingles(item[0])
            return len(one & other) / len(one | other)

        return max(sorted(trained), key=likeness)[1]  # of equals the first

    assert retrieve_bodies(prompts, trained) == [*map(nearest, prompts)]


def test_the_order_of_words_counts():
    trained = [("sort, then sum", "one"), ("sum, then sort", "other")]
    assert retrieve_bodies(["sum, then sort it", "sort, then sum it"], trained) == ["other", "one"]


def test_equally_near_ones_are_settled_by_their_text_in_any_order():
    trained = [("x b", "3"), ("x a", "2"), ("x a", "1")]
    for order in (trained, trained[::-1]):
        assert retrieve_bodies(["x", "nothing like it", "x b"], order) == ["1", "1", "3"]


def test_a_prompt_without_words_is_like_none():
    assert retrieve_bodies([""], [("b", "2"), ("a", "1"), ("", "0")]) == ["0"]
    assert retrieve_bodies([], [("a", "1")]) == []


def test_nothing_to_retrieve_is_refused():
    with pytest.raises(ValueError, match="`trained` must hold a document to retrieve, but got none"):
        retrieve_bodies(["a"], [])


def test_looking_up_passes_no_call_of_what_is_held_out(tmp_path):
    """Whatever function of the training text is looked up, under whatever names: none computes the same."""
    data = {"corpus": "functions", "functions": 1500, "length": 32, "unique_tokens": 60_000}
    evaluation = {"choice_context_tokens": 8}
    config = make_config({"training": {"total_steps": 9}, "data": data, "evaluation": evaluation})
    dataset = prepare(config.data, tmp_path)
    trained = functions_of(documents_of(unique_tokens(config, dataset), dataset.tokenizer))
    assert 200 < len(trained) < 500  # of 60,000 bytes
    held_out = problems(documents_of(dataset.test, dataset.tokenizer))
    known = [(function.prompt, function.body) for function in trained]
    assert set(retrieve_bodies([problem.prompt for problem in held_out], known)) <= {
        body for _, body in known
    }
    computed = {repr([call.expected for call in function.problem().calls]) for function in trained}
    wanted = [repr([call.expected for call in problem.calls]) for problem in held_out]
    assert not computed & set(wanted)
