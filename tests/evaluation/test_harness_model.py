"""Arms as models of lm-evaluation-harness, by the package itself: against a network read token by token,
closed forms, the lab's own tasks, and counts by hand."""

import json
import math
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from evaluation_bench import STOP, RiggedLogits, config_of, log_softmax, random_documents, tiny_transformer

pytest.importorskip("lm_eval", reason="needs lm_eval: make setup EXTRAS=lm-eval")

import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from lab.data.tokenizers import ByteTokenizer, train_bpe
from lab.evaluation.harness_model import HarnessModel, Span, fit, is_greedy, manner_of, text_spans

pytestmark = pytest.mark.extra(**{"lm-eval": "lm_eval"})

BYTES = ByteTokenizer()
LENGTH, END, MASK = 16, 256, 257
ARMS = {
    **{name: (name, {}) for name in ("ar", "ar_masked", "any_order_ar", "suffix_denoiser", "dlm")},
    "blocks": ("dlm", {"factors": {"block": 4}}),
    "read_causally": ("dlm", {"factors": {"ar_share": 0.5, "read_as": "causal"}}),
}
ANY_ORDER = ("any_order_ar", "dlm")


def arm_of(name, *layers, scale=3.0, vocab_size=257):
    """A tiny arm; by scale 0 it finds all tokens equally likely."""
    from lab.evaluation.arm import Arm, make_scorer

    arm, layer = ARMS[name]
    config = config_of(arm, layer, *layers)
    transformer = tiny_transformer(vocab_size=vocab_size, length=config.data.length, scale=scale)
    return Arm(config, make_scorer(transformer, config), STOP)


def writer(name="ar"):
    """An arm that writes "abcabc...", and after "z" the end of the document."""
    from lab.evaluation.arm import Arm

    config = config_of(*ARMS[name])
    follows = np.arange(MASK + 1)
    follows[[*b"abcz"]] = [*b"bca", END]

    class Writer(RiggedLogits):
        def one_batch(self, tokens, slots):
            before = np.take_along_axis(tokens, slots if self.causal else slots - 1, axis=1)
            return np.where(np.arange(257) == follows[before][..., None], 0.0, -9.0)

    return Arm(config, Writer(config.factors.reads_causally, LENGTH, 257), STOP)


def log_probs(arm, known):
    """The log-probabilities of the token behind some, by the network alone, in a window of its own."""
    from lab.objectives.corruption import Example, block_example

    network, place = arm.scorer.transformer, len(known)
    if size := arm.scorer.block_size:
        window = np.array([[*known, *[0] * (LENGTH - place)]], np.int32)
        example = block_example(window, np.arange(LENGTH)[None] >= place, MASK, np.ones(1, np.float32), np)
        return log_softmax(network(example._replace(weights=None), block_size=size))[0, place]
    tokens = np.full((1, LENGTH), MASK, np.int32)
    places = np.arange(1, LENGTH + 1, dtype=np.int32)[None]
    first = int(arm.scorer.causal)  # a causal stream begins with the start
    tokens[0, first : place + first] = known
    example = Example(tokens, places - np.int32(first), places, None, None)
    return log_softmax(network(example, causal=arm.scorer.causal))[0, place]


def likelihood(arm, context, text):
    return sum(log_probs(arm, [*context, *text[:done]])[token] for done, token in enumerate(text))


def requests(kind, *arguments):
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


def likelihoods(model, *pairs):
    return model.loglikelihood(requests("loglikelihood", *pairs), disable_tqdm=True)


def rolling(model, *texts):
    asked = requests("loglikelihood_rolling", *((text,) for text in texts))
    return model.loglikelihood_rolling(asked, disable_tqdm=True)


def written(model, *pairs):
    return model.generate_until(requests("generate_until", *pairs), disable_tqdm=True)


@pytest.mark.parametrize("draws", [0, 3])
@pytest.mark.parametrize("name", ARMS)
def test_a_uniform_model_gives_log_v_a_token(name, draws):
    model = HarnessModel(arm_of(name, scale=0.0), BYTES, draws)
    pairs = [("ab", "cd"), ("", "xyz"), ("a context beyond a window", "q"), ("a", "a text beyond a window")]
    for (_, text), (found, _) in zip(pairs, likelihoods(model, *pairs), strict=True):
        assert found == pytest.approx(-len(text) * math.log(257), rel=1e-6)
    texts = ["", "a", "sixteen bytes...", "a text that takes several windows: three"]
    assert rolling(model, *texts) == pytest.approx([-len(text) * math.log(257) for text in texts], rel=1e-6)


PAIRS = [
    (("ab", "cd"), [*b"ab"], [*b"cd"]),
    (("ab \n", "c"), [*b"ab"], [*b" \nc"]),
    (("", "xyz"), [END], [*b"xyz"]),
    (("  ", "x"), [END], [*b"  x"]),
    (("ü", "é"), [*"ü".encode()], [*"é".encode()]),
    (("longer than a window", " end"), [*b"than a window"[1:]], [*b" end"]),
    (("longer than a window", "fifteen bytes.."), [*b"w"], [*b"fifteen bytes.."]),
]


@pytest.mark.parametrize("name", ARMS)
def test_a_likelihood_is_that_of_the_network_token_by_token(name):
    arm = arm_of(name)
    model = HarnessModel(arm, BYTES)
    found = likelihoods(model, *(pair for pair, *_ in PAIRS))
    expected = [likelihood(arm, context, text) for _, context, text in PAIRS]
    assert [value for value, _ in found] == pytest.approx(expected, rel=1e-5)
    assert np.std(expected) > 1
    assert model.get_model_info()["contexts that were cut"] == 2


def windows_by_hand(text):
    """Of a text of 40 tokens, windows of 16: what is seen and what is scored, as `LM` of the harness says."""
    return [([END], text[:15]), (text[14:15], text[15:30]), (text[24:30], text[30:])]


@pytest.mark.parametrize("name", ARMS)
def test_a_text_is_scored_in_windows_each_token_once(name):
    arm, text = arm_of(name), "forty bytes: a few more words than three"
    ids = [*text.encode()]
    assert len(ids) == 40
    expected = sum(likelihood(arm, *window) for window in windows_by_hand(ids))
    model = HarnessModel(arm, BYTES, draws=2)  # which count for nothing here
    assert rolling(model, text, "") == pytest.approx([expected, 0.0], rel=1e-5)
    # A continuation without room is scored alike, from the last token of its context on.
    (_, first), *rest = windows_by_hand(ids)
    expected = likelihood(arm, [*b"x"], first) + sum(likelihood(arm, *window) for window in rest)
    ((found, _),) = likelihoods(model if name not in ANY_ORDER else HarnessModel(arm, BYTES), ("wx", text))
    assert found == pytest.approx(expected, rel=1e-5)


def test_spans_fill_windows_and_leave_out_nothing():
    for size in range(1, 60):
        tokens = tuple(range(size))
        spans = text_spans(tokens, -1, LENGTH)
        assert sum((span.continuation for span in spans), ()) == tokens
        assert max(len(span.context) + len(span.continuation) for span in spans) == min(size + 1, LENGTH)
        ends = accumulate(len(span.continuation) for span in spans)
        for span, end in zip(spans, ends, strict=True):
            first = end - len(span.continuation)
            assert span.context == (-1, *tokens)[first + 1 - len(span.context) : first + 1]
    assert fit((1, 2, 3), (4, 5), 4) == [Span((2, 3), (4, 5))]
    assert fit((1, 2, 3), (4, 5, 6), 3) == [Span((3,), (4, 5)), Span((4, 5), (6,))]
    assert fit((1,), (), 4) == []


@pytest.mark.parametrize("name", ARMS)
def test_what_greedy_sampling_writes_is_known_exactly(name):
    from lab.evaluation.choice import Items, option_windows

    arm, text = arm_of(name), []
    for _ in range(6):
        text.append(int(log_probs(arm, [*b"ab", *text]).argmax()))
    others = [[*text[:place], text[place] ^ 1, *text[place + 1 :]] for place in range(6)]
    options = [text, text[:1], text[:4], *others]
    items = Items([np.array([*b"ab"])] * 9, [[np.array(option)] for option in options])
    assert is_greedy(arm.scorer, option_windows(items, LENGTH)).tolist() == [True] * 3 + [False] * 6


def test_a_model_that_finds_all_alike_says_the_first():
    model = HarnessModel(arm_of("ar", scale=0.0), BYTES)
    assert [greedy for _, greedy in likelihoods(model, ("a", "\0\0"), ("a", "\0a"), ("a", ""))] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("name", ANY_ORDER)
def test_many_draws_come_near_the_bound(name):
    from lab.evaluation.choice import Items, option_windows
    from lab.evaluation.choice_draws import span_draws

    arm = arm_of(name)
    spans = option_windows(Items([np.array([*b"x"])] * 400, [[np.array([*b"abc"])]] * 400), LENGTH)
    estimates = -3 * span_draws(arm.scorer, spans, np.arange(400, dtype=np.int32), 3)[0]
    ((found, _),) = likelihoods(HarnessModel(arm, BYTES, 300), ("x", "abc"))
    error = estimates.std() * math.sqrt(1 / 400 + 3 / 300)
    assert found == pytest.approx(estimates.mean(), abs=3 * error)
    assert 0 < error < 0.1 * abs(found)


def test_continuations_of_one_context_share_their_draws(monkeypatch):
    from lab.evaluation import harness_model

    asked = {}

    def span_draws(scorer, spans, ids, draws):
        for window, start, number in zip(spans.windows, spans.starts, ids, strict=True):
            asked.setdefault(bytes(window[:start].astype(np.uint8)), set()).add(int(number))
        return np.zeros((1, len(ids)))

    monkeypatch.setattr(harness_model, "span_draws", span_draws)
    model = HarnessModel(arm_of("dlm"), BYTES, 2)
    likelihoods(model, ("ab", "c"), ("b", "c"), ("ab", "defg"))
    assert [len(numbers) for numbers in asked.values()] == [1, 1]
    assert asked[b"ab"] != asked[b"b"]


@pytest.mark.parametrize("name", ["ar", "suffix_denoiser", "blocks"])
def test_draws_are_for_arms_that_read_any_order(name):
    arm = arm_of(name)
    model = HarnessModel(arm, BYTES, draws=3)
    assert likelihoods(model, ("ab", "cd")) == likelihoods(HarnessModel(arm, BYTES), ("ab", "cd"))
    assert model.get_model_info()["draws"] == 0


@pytest.mark.parametrize(("name", "draws"), [("ar", 0), ("dlm", 0), ("dlm", 2), ("any_order_ar", 2)])
def test_answers_depend_on_what_is_asked_alone(name, draws):
    model = HarnessModel(arm_of(name), BYTES, draws)
    pairs = [pair for pair, *_ in PAIRS] * 2
    found = likelihoods(model, *pairs)
    assert likelihoods(model, *pairs[::-1]) == found[::-1]
    assert found[:7] == found[7:]
    assert likelihoods(model, pairs[3])[0] == (pytest.approx(found[3][0], rel=1e-6), found[3][1])
    texts = ["abc", "a text that takes several windows", ""]
    assert rolling(model, *texts[::-1]) == rolling(model, *texts)[::-1]
    sampled = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 6}
    asked = [(context, {**sampled, "until": until}) for context in ("ab", "c", "ab") for until in ([], ["e"])]
    texts = written(model, *asked)
    again = written(model, *asked[::-1])[::-1]
    assert sorted(texts) == sorted(again)
    assert texts[2:4] == again[2:4] == written(model, *asked[2:4])
    assert texts[0] != texts[4]  # asked twice, which a task's `repeats` is for
    assert written(model, asked[0], asked[4]) == [texts[0], texts[4]]
    other = HarnessModel(arm_of(name), BYTES, draws, seed=1)
    assert written(other, *asked) != texts


@pytest.mark.parametrize("name", ["ar", "suffix_denoiser"])
def test_text_ends_at_a_string_at_the_end_of_a_document_or_when_it_is_long_enough(name):
    model = HarnessModel(writer(name), BYTES)
    assert written(
        model,
        ("xa", {"until": ["ca", "zz"], "max_gen_toks": 9}),
        ("xa", {"until": "ca", "max_new_tokens": 1}),
        ("xa", {"until": [""], "max_gen_toks": 4}),
        ("yz", {"until": [], "max_gen_toks": 4}),
        ("a context beyond a window, a", {"max_gen_toks": 3}),
        ("a", {}),
        ("a context beyond a window, a", {"until": []}),
    ) == ["b", "b", "bcab", "", "bca", "bcabcabcabcabca", "bcabcabc"]
    info = model.get_model_info()
    assert info["contexts that were cut"] == 2
    assert info["texts with room for fewer tokens than asked for"] == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (256, 0.0, 1.0, ())),
        ({"until": "a", "max_gen_toks": 3, "do_sample": False, "temperature": 0.7}, (3, 0.0, 1.0, ("a",))),
        ({"until": ["a", "", None], "temperature": 0.7, "top_p": 0.9}, (256, 0.7, 0.9, ("a",))),
        ({"do_sample": True}, (256, 1.0, 1.0, ())),
    ],
)
def test_a_task_says_how_text_is_written(options, expected):
    assert manner_of(options) == expected


def test_options_that_nothing_here_follows_are_refused():
    message = (
        r"`generation_kwargs` must be of \['do_sample', .*'until'\], but got \['num_beams', 'top_k'\] too\."
    )
    with pytest.raises(ValueError, match=message):
        written(HarnessModel(writer(), BYTES), ("a", {"num_beams": 2, "top_k": 5}))
    with pytest.raises(ValueError, match="`sampler` must be left_to_right for ar"):
        HarnessModel(arm_of("ar"), BYTES, sampler="confidence")


def test_a_continuation_keeps_all_its_characters_where_a_token_spans_the_border():
    bpe = train_bpe("bpe:280", ["unhappy and happy, the cat sat on the mat; unhappy cats sat. " * 4])
    arm = arm_of("ar", vocab_size=bpe.vocab_size)
    ((found, _),) = likelihoods(HarnessModel(arm, bpe), ("unha", "ppy"))
    before, after = bpe.encode("unha").tolist(), bpe.encode("ppy").tolist()
    tokens = np.zeros((1, LENGTH), np.int32)
    tokens[0, : len(before) + len(after)] = [*before, *after]
    from lab.evaluation.chain_rule import chain_rule_nll

    nll = chain_rule_nll(arm.scorer, tokens, len(before), len(before) + len(after))
    assert found == pytest.approx(-nll.sum(), rel=1e-6)


# What follows is asked by the harness itself, from files.


def evaluated(model, tmp_path, records, **task):
    """What the harness finds."""
    data = tmp_path / "records.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    own = {**task, "task": "mine", "dataset_path": "json", "test_split": "test"}
    own |= {"dataset_kwargs": {"data_files": {"test": str(data)}}}
    manager = TaskManager(include_defaults=False)
    found = simple_evaluate(model, tasks=[own], task_manager=manager, bootstrap_iters=0, log_samples=False)
    return found["results"]["mine"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No file of another test is taken for this one's."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


CHOICE = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "{{options}}"}


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_the_accuracy_on_a_local_file_is_that_counted_by_hand(name, tmp_path):
    """A model that finds all tokens alike chooses the shortest option."""
    records = [
        {"q": "Who?", "options": ["I", "you"], "answer": 0},
        {"q": "What?", "options": ["this", "it", "that one"], "answer": 1},
        {"q": "Where?", "options": ["here", "there"], "answer": 1},
        {"q": "When?", "options": ["tomorrow", "now"], "answer": 1},
    ]
    model = HarnessModel(arm_of(name, scale=0.0), BYTES)
    found = evaluated(model, tmp_path, records, **CHOICE, doc_to_target="answer")
    assert found["acc,none"] == 3 / 4


def test_the_perplexity_of_a_uniform_model_is_its_vocabulary(tmp_path):
    records = [{"text": "a text that takes several windows, by far"}, {"text": "ü"}]
    task = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    found = evaluated(HarnessModel(arm_of("dlm", scale=0.0), BYTES), tmp_path, records, **task)
    assert found["byte_perplexity,none"] == pytest.approx(257, rel=1e-5)
    assert found["bits_per_byte,none"] == pytest.approx(math.log2(257), rel=1e-6)


def test_what_is_written_is_compared_by_the_harness(tmp_path):
    task = {
        **{"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}"},
        "generation_kwargs": {"until": ["ca"], "max_gen_toks": 6},
        "metric_list": [{"metric": "exact_match"}],
    }
    records = [{"q": "xa", "a": "b"}, {"q": "xb", "a": "cb"}, {"q": "xc", "a": "ab"}, {"q": "z", "a": ""}]
    found = evaluated(HarnessModel(writer(), BYTES), tmp_path, records, **task)
    assert found["exact_match,none"] == 3 / 4


HELLASWAG = [
    {
        "activity_label": label,
        "ctx_a": f"A {thing} lies there.",
        "ctx_b": "the man [step] takes",
        "ctx": f"A {thing} lies there. the man takes",
        "endings": [
            f"it {place} and {thing}." for place in ("home", "up [title] slowly", "away", "to the sea")
        ],
        "label": str(number % 4),
    }
    for number, (label, thing) in enumerate(
        zip(
            ["Walking", "Cooking the dinner", "Sport"] * 4,
            ["ball", "cup", "rope", "very old boat"] * 3,
            strict=True,
        )
    )
]


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_hellaswag_is_what_the_lab_measures_of_the_same_file(name, tmp_path):
    from lab.evaluation.measure_tasks import measure
    from lab.evaluation.measurements import file_tasks

    path = tmp_path / "records.jsonl"
    layer = {"data": {"length": 128}, "tasks": {"form": "hellaswag", "files": [str(path)], "draws": 0}}
    arm = arm_of(name, layer)
    theirs = load_yaml(Path(lm_eval.tasks.__file__).parent / "hellaswag" / "hellaswag.yaml")
    task = {**theirs, "training_split": None, "validation_split": None, "tag": None}
    found = evaluated(HarnessModel(arm, BYTES), tmp_path, HELLASWAG, **task)
    (task,) = file_tasks(arm.config)
    values = measure(task, [arm], random_documents()).values
    assert found["acc,none"] == pytest.approx(values["task_accuracy"])
    assert found["acc_norm,none"] == pytest.approx(values["task_accuracy_norm"])
    assert 0 < found["acc,none"] < 1
    assert found["acc,none"] != found["acc_norm,none"]
