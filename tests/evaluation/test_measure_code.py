import numpy as np
import pytest
from evaluation_bench import STOP, RiggedLogits, config_of, task_of

from lab.config import make_config
from lab.data.dataset import prepare
from lab.data.documents import documents_of
from lab.data.functions import problems
from lab.evaluation.arm import Arm
from lab.evaluation.held_out import require_held_out
from lab.evaluation.measure_code import measure
from lab.evaluation.measurements import code, passes
from lab.evaluation.sandbox import Sandbox

LAYER = {
    "data": {"corpus": "functions", "functions": 300, "length": 256, "unique_tokens": 20_000},
    "code": {"problems": 5, "samples": 3, "new_tokens": 120, "samplers": ["blocks:1", "confidence"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    try:
        Sandbox().require()
    except ValueError as error:
        pytest.skip(str(error))
    return prepare(
        make_config({"training": {"total_steps": 1}}, LAYER).data, tmp_path_factory.mktemp("cache")
    )


class Writer(RiggedLogits):
    """A network that knows documents by how they begin, and writes each as `altered` has it."""

    def __init__(self, causal, data, altered=lambda text: text):
        super().__init__(causal, 256, data.tokenizer.vocab_size)
        self.end_id = data.tokenizer.end_id
        encode = data.tokenizer.encode
        self.known = [
            (encode(problem.prompt), encode(problem.prompt + altered(problem.body)))
            for problem in problems(documents_of(data.test, data.tokenizer))
        ]

    def one_batch(self, tokens, slots):
        logits = np.zeros((*slots.shape, self.transformer.vocab_size))
        for row, (text, own) in enumerate(zip(tokens, slots, strict=True)):
            start = int(self.causal)  # a causal stream begins with the start token
            for prompt, whole in self.known:
                if np.array_equal(text[start:][: len(prompt)], prompt):
                    document = np.full(256, self.end_id)
                    document[: len(whole)] = whole
                    logits[row, np.arange(len(own)), document[own]] = 30.0
        return logits


def writer_of(name, data, **values):
    config = config_of(name, LAYER)
    return Arm(config, Writer(config.factors.compute == "causal", data, **values), STOP)


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_what_knows_the_bodies_passes_and_fills_every_gap(name, data):
    arm = writer_of(name, data)
    tasks = [task for task in code(arm.config) if task.measurement == "code"]
    assert [task.settings["sampler"] for task in tasks] == (
        ["left_to_right"] if name == "ar" else ["blocks:1", "confidence"]
    )
    for task in tasks:
        found = measure(task, [arm], data)
        assert found.values["pass_at_1"] == found.values["pass_at_k"] == found.values["code_parses"] == 1.0
        assert found.values["pass_at_1_standard_error"] == 0.0
        assert found.examples.values == (1.0,) * 5
        assert found.texts[0].prompt.startswith("def ")
        assert found.texts[0].text.startswith("\n    ")
        assert found.costs["flops"] > 0
        assert passes(arm.config, task) == 5 * 3 * 120
    found = measure(task_of(code(arm.config), "code_infilling"), [arm], data)
    assert found.values["infilling_pass_at_1"] == 1.0


def test_what_writes_another_body_fails_and_what_is_no_python_is_counted(data):
    task = task_of(code(writer_of("ar", data).config), "code")
    wrong = measure(task, [writer_of("ar", data, altered=lambda body: "\n    return 0.5")], data)
    assert (wrong.values["pass_at_1"], wrong.values["code_parses"]) == (0.0, 1.0)
    broken = measure(task, [writer_of("ar", data, altered=lambda body: body[:-1] + "(")], data)
    assert (broken.values["pass_at_k"], broken.values["code_parses"]) == (0.0, 0.0)


def test_a_dense_arm_sees_what_stands_behind_a_gap_and_ar_does_not(data):
    for name, sees in (("dlm", True), ("ar", False)):
        arm = writer_of(name, data)
        measure(task_of(code(arm.config), "code_infilling"), [arm], data)
        texts = [data.tokenizer.decode(row[row < 256]) for row in arm.scorer.batches[0]["tokens"]]
        assert any("\n    return" in text for text in texts) == sees


def test_a_part_of_the_bodies_is_a_part_of_pass_at_1(data):
    arm = writer_of("dlm", data)
    arm.scorer.known = arm.scorer.known[::2]
    found = measure(task_of(code(arm.config), "code", sampler="blocks:1"), [arm], data)
    asked = set(found.examples.values)
    assert asked <= {0.0, 1.0}
    assert found.values["pass_at_1"] == np.mean(found.examples.values)


def test_every_arm_of_a_replicate_has_the_same_problems_and_another_has_others(data):
    texts = []
    for name, seed in (("ar", 0), ("dlm", 0), ("ar", 1)):
        arm = writer_of(name, data)
        arm = Arm(config_of(name, LAYER, {"seed": seed}), arm.scorer, STOP)
        task = next(task for task in code(arm.config) if task.measurement == "code")
        texts.append([text.prompt for text in measure(task, [arm], data).texts])
    assert texts[0] == texts[1] != texts[2]


def test_looking_up_and_counting_are_measured_beside(data):
    arm = writer_of("ar", data)
    found = measure(task_of(code(arm.config), "code_baselines"), [arm], data)
    assert found.values["retrieval_pass_at_1"] < 0.5
    assert found.values["ngram_pass_at_1"] < 0.5
    assert arm.scorer.batches == []


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            {"code": {"problems": 10_000}},
            r"`code.problems` must be at most \d+, the functions of the test split, ",
        ),
        (
            {"code": {"new_tokens": 250}},
            r"`code.new_tokens` must fit behind the longest prompt .*, at most \d+, but",
        ),
    ],
)
def test_what_does_not_fit_is_refused(layer, message, data):
    arm = writer_of("ar", data)
    arm = Arm(config_of("ar", LAYER, layer), arm.scorer, STOP)
    with pytest.raises(ValueError, match=message):
        measure(task_of(code(arm.config), "code"), [arm], data)


def test_another_corpus_is_refused(data):
    with pytest.raises(
        ValueError, match=r"`data.corpus` must be functions for code to be run, but got packages"
    ):
        require_held_out(config_of("ar"), data, "code")


def test_what_fits_is_taken_before_anything_is_trained(data):
    require_held_out(config_of("ar", LAYER), data, "code")
