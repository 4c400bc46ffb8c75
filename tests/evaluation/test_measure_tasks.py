"""What arms score on small files: closed forms, an independent chain rule in NumPy, and errors of draws."""

import json
import math

import numpy as np
import pytest
from evaluation_bench import (
    STOP,
    RiggedLogits,
    config_of,
    log_softmax,
    random_documents,
    rigged_arm,
    trained_arm,
)

from lab.evaluation import measure_tasks
from lab.evaluation.arm import Arm
from lab.evaluation.choice import OptionWindows
from lab.evaluation.choice_draws import span_draws
from lab.evaluation.flops import pass_flops
from lab.evaluation.measure_tasks import measure, rank
from lab.evaluation.measurements import file_tasks, passes
from lab.evaluation.task_files import Question

DATA = random_documents()  # of bytes; windows have 16
LENGTH, END, MASK = 16, 256, 257
OWN = [
    {"context": "ab", "options": ["cd", "efghi", "c"], "answer": 1},
    {"context": "", "options": ["xyz", "x"], "answer": 0},
    {"context": "longer than a window", "options": ["q", "rs"], "answer": 1},
    {"context": "short ", "options": ["an option longer than a window", "s"], "answer": 1},
    {"context": "e", "options": ["f", "g", "h", "i"], "answer": 3},
]
# By hand, the contexts and options of the four that fit.
PAIRS = [
    *[([*b"ab"], option) for option in (b"cd", b"efghi", b"c")],
    *[([END], option) for option in (b"xyz", b"x")],
    *[([*b" than a window"], option) for option in (b"q", b"rs")],
    *[([*b"e"], option) for option in (b"f", b"g", b"h", b"i")],
]
SIZES = np.array([len(option) for _, option in PAIRS])
GROUPS, RIGHT = [(0, 3), (3, 5), (5, 7), (7, 11)], [1, 0, 1, 3]
ANSWERS = [low + answer for (low, _), answer in zip(GROUPS, RIGHT, strict=True)]


@pytest.fixture
def task(tmp_path):
    """The layer of a configuration that asks the records of a file."""

    def made(records, **settings):
        path = tmp_path / "task.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return {"tasks": {"files": [str(path)], "draws": 0, **settings}}

    return made


def measured(arm):
    (task,) = file_tasks(arm.config)
    return measure(task, [arm], DATA)


def log_257(previous, target):
    return np.full(target.shape, math.log(257))


def said(arm, known):
    """The log-probabilities of the next token, by the network alone, one window and one token at a time."""
    from lab.objectives.corruption import Example

    tokens = np.full((1, LENGTH), MASK, np.int32)
    places = np.arange(1, LENGTH + 1, dtype=np.int32)[None]
    first = int(arm.scorer.causal)  # a causal stream begins with the start
    tokens[0, first : len(known) + first] = known
    example = Example(tokens, places - np.int32(first), places, None, None)
    return log_softmax(arm.scorer.transformer(example, causal=arm.scorer.causal))[0, len(known)]


def summed(arm, context, option):
    return -sum(said(arm, [*context, *option[:done]])[token] for done, token in enumerate(option))


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm", "suffix_denoiser"])
def test_scores_are_those_of_a_chain_rule_in_numpy(name, task):
    arm = trained_arm(name, task(OWN))
    sums = np.array([summed(arm, *pair) for pair in PAIRS])
    right, norm = (
        [np.argmin(values[low:high]) == answer for (low, high), answer in zip(GROUPS, RIGHT, strict=True)]
        for values in (sums, sums / SIZES)
    )
    nll = sums[ANSWERS]
    found = measured(arm)
    expected = {
        "task_accuracy": np.mean(right),
        "task_accuracy_standard_error": np.std(right, ddof=1) / 2,
        "task_accuracy_norm": np.mean(norm),
        "task_accuracy_norm_standard_error": np.std(norm, ddof=1) / 2,
        "task_nll": nll.mean(),
        "task_nll_standard_error": nll.std(ddof=1) / 2,
        **{"task_questions": 4, "task_cut": 1 / 4, "task_left_out": 1 / 5},
    }
    assert found.values == pytest.approx(expected, rel=1e-5)
    assert nll.std() > 1
    rows = len(PAIRS) if arm.scorer.causal else SIZES.sum()
    assert found.flops == rows * pass_flops(arm.config, 257)


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_a_uniform_model_likes_short_options_and_a_tie_is_wrong(name, task):
    found = measured(rigged_arm(name, log_257, task(OWN))).values
    assert found["task_nll"] == pytest.approx((5 + 3 + 2 + 1) / 4 * math.log(257))
    # By sums the right ones are longest or tie, by characters all tie.
    assert (found["task_accuracy"], found["task_accuracy_norm"]) == (0, 0)
    short = [{**OWN[0], "answer": 2}, {**OWN[1], "answer": 1}, {**OWN[0], "options": ["cd", "d", "c"]}]
    found = measured(rigged_arm(name, log_257, task(short))).values
    assert found["task_accuracy"] == pytest.approx(2 / 3)
    assert found["task_accuracy_standard_error"] == pytest.approx(1 / 3)


def test_sums_and_sums_by_character_choose_otherwise():
    questions = [Question("", ("a", "four"), 1), Question("", ("a", "üb"), 1, " ")]
    right, norm, nll = rank(questions, np.array([3.0, 4.0, 2.0, 4.0]))
    assert right.tolist() == [0, 0]
    assert norm.tolist() == [1, 0]  # 4 / 4 < 3; 4 / 2 ties with 2: neither bytes count, nor the space before
    assert nll.tolist() == [4.0, 4.0]
    assert rank(questions, np.array([3.0, 2.0, 2.0, 1.9]))[0].tolist() == [1, 1]


def test_many_options_are_scored_in_parts(task, monkeypatch):
    arm = trained_arm("ar", task(OWN))
    whole = measured(arm)
    monkeypatch.setattr(measure_tasks, "_ROWS", 4)
    assert measured(arm).values == pytest.approx(whole.values, rel=1e-6)


def own_spans():
    windows = np.zeros((len(PAIRS), LENGTH), np.int32)
    starts = np.array([len(context) for context, _ in PAIRS])
    for row, (context, option) in zip(windows, PAIRS, strict=True):
        row[: len(context) + len(option)] = [*context, *option]
    return OptionWindows(windows, starts, starts + SIZES)


@pytest.mark.backend
@pytest.mark.parametrize("name", ["dlm", "any_order_ar"])
def test_with_draws_values_are_the_mean_of_two_replicates(name, task):
    arm = trained_arm(name, task(OWN, draws=3))
    ids = np.repeat(np.arange(4, dtype=np.int32), [3, 2, 2, 4])  # the options of a question share their draws
    nll = (span_draws(arm.scorer, own_spans(), ids, 3, 2) * SIZES)[:, ANSWERS]
    means, differences = nll.mean(axis=0), nll[0] - nll[1]
    found = measured(arm)
    assert found.values["task_nll"] == pytest.approx(means.mean(), rel=1e-6)
    assert found.values["task_nll_standard_error"] == pytest.approx(means.std(ddof=1) / 2, rel=1e-6)
    error = math.sqrt(np.square(differences).sum() / 4) / 4
    assert found.values["task_nll_draw_standard_error"] == pytest.approx(error, rel=1e-5)
    assert error > 1e-3
    assert found.values["task_accuracy_draw_standard_error"] in (0, 1 / 8, math.sqrt(2) / 8)
    assert found.flops == 2 * 3 * len(PAIRS) * pass_flops(arm.config, 257)
    (asked,) = file_tasks(arm.config)
    assert asked.settings == {"form": "choice", "num_draws": 3}
    assert passes(arm.config, asked) == 2 * 3 * (len(PAIRS) + 2)  # those that do not fit are not known yet


def test_arms_that_read_one_order_take_the_chain_rule_whatever_is_asked(task):
    for name, block in (("ar", {}), ("suffix_denoiser", {}), ("dlm", {"factors": {"block": 4}})):
        exact, drawn = (config_of(name, block, task(OWN, draws=draws)) for draws in (0, 3))
        assert file_tasks(drawn) == file_tasks(exact)
        assert "num_draws" not in file_tasks(exact)[0].settings


def test_the_error_from_draws_is_that_of_the_mean_of_two():
    """Closed form: noise of deviation s on each of n questions and two replicates gives s / sqrt(2 n)."""
    numbers = np.random.default_rng(0)
    truth, noise = numbers.normal(size=4000), 0.5 * numbers.normal(size=(2, 4000))
    found = measure_tasks._over_questions("task_nll", truth + noise)
    assert found["task_nll_draw_standard_error"] == pytest.approx(0.5 / math.sqrt(8000), rel=0.05)
    assert found["task_nll_standard_error"] == pytest.approx(math.sqrt((1 + 0.125) / 4000), rel=0.05)


def test_pairs_of_sentences_begin_a_document(task):
    pairs = [{"sentence_good": good, "sentence_bad": bad} for good, bad in (("he is", "he are"), ("I", "me"))]
    arm = trained_arm("ar", task(pairs, form="blimp"))
    sums = [
        [summed(arm, [END], pair[f"sentence_{which}"].encode()) for which in ("good", "bad")]
        for pair in pairs
    ]
    found = measured(arm).values
    assert found["task_nll"] == pytest.approx(np.mean([good for good, _ in sums]), rel=1e-5)
    assert found["task_accuracy"] == np.mean([good < bad for good, bad in sums])


WORDS = [{"text": text} for text in ("ab cd", "say ab cd", "ab ce", "ax cd", "b c")]


def rigged_to_say(causal, next_byte):
    """A network that finds one byte likely, and all others equally less so."""
    scorer = RiggedLogits(causal, LENGTH, MASK, batch_size=3)

    def one_batch(tokens, slots):
        before = np.take_along_axis(tokens, slots if causal else np.maximum(slots - 1, 0), axis=1)
        logits = np.zeros((*slots.shape, 257))
        for place, byte in np.ndenumerate(before):
            if byte in next_byte:
                logits[(*place, next_byte[byte])] = 5
        return logits

    scorer.one_batch = one_batch
    return scorer


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_a_last_word_is_right_if_each_of_its_tokens_is_the_likeliest(name, task):
    config = config_of(name, task(WORDS, form="lambada"))
    chain = {ord(a): ord(b) for a, b in ("b ", " c", "cd", "xc")}
    arm = Arm(config, rigged_to_say(name == "ar", chain), STOP)
    found = measured(arm)
    # " cd" after "b" is said twice; " ce" errs in its last token, " cd" after "x" in its first; " c" is said.
    assert found.values["task_accuracy"] == pytest.approx(3 / 5)
    hit, none = math.log(math.exp(5) + 256) - 5, math.log(math.exp(5) + 256)
    assert found.values["task_nll"] == pytest.approx((2 * 3 * hit + 2 * (2 * hit + none) + 2 * hit) / 5)
    assert not {"task_accuracy_norm"} & set(found.values)
    rows = 5 if name == "ar" else 4 * 3 + 2
    assert found.flops == rows * pass_flops(config, 257)
    uniform = measured(Arm(config, rigged_to_say(name == "ar", {}), STOP)).values
    assert uniform["task_accuracy"] == 0  # a tie
    assert uniform["task_nll"] == pytest.approx(14 / 5 * math.log(257))


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_last_words_have_the_nll_of_a_chain_rule_in_numpy(name, task):
    arm = trained_arm(name, task(WORDS, form="lambada"))
    words = [record["text"].rpartition(" ") for record in WORDS]
    nll = [summed(arm, context.encode(), f" {word}".encode()) for context, _, word in words]
    assert measured(arm).values["task_nll"] == pytest.approx(np.mean(nll), rel=1e-5)


def test_examples_are_read_before_the_question(task, tmp_path):
    dev = tmp_path / "dev.jsonl"
    dev.write_text(json.dumps({"context": "g", "options": ["h", "i"], "answer": 1}))
    arm = trained_arm("ar", task(OWN[:1] * 2, dev_files=[str(dev)], shots=1))
    assert measured(arm).values["task_nll"] == pytest.approx(summed(arm, b"gi\n\nab", b"efghi"), rel=1e-5)
