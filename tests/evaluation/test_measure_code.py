import json

import numpy as np
import pytest
from evaluation_bench import STOP, RiggedLogits, config_of, task_of, text_dataset

from lab.config import StopConfig, make_config
from lab.data.dataset import prepare
from lab.data.documents import documents_of
from lab.data.functions import problems
from lab.evaluation.arm import Arm
from lab.evaluation.held_out import require_held_out
from lab.evaluation.measure_code import measure
from lab.evaluation.measurements import code, passes, wanted_rows
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

    def __init__(self, causal, data, altered=lambda text: text, known=None):
        super().__init__(causal, 256, data.tokenizer.vocab_size)
        self.end_id = data.tokenizer.end_id
        encode = data.tokenizer.encode
        if known is None:
            functions = problems(documents_of(data.test, data.tokenizer))
            known = [(function.prompt, function.body) for function in functions]
        self.known = [(encode(prompt), encode(prompt + altered(body))) for prompt, body in known]

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


def humaneval(number, **values):
    name = f"times_{number}"
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def {name}(x):\n    """ {number} times x. """\n',
        "entry_point": name,
        "canonical_solution": f"    return {number} * x\n",
        "test": f"import numpy\ndef check(candidate):\n    assert numpy.equal(candidate(2), {2 * number})\n",
    } | values


def mbpp(number):
    return {
        "task_id": number,
        "text": f"Take {number} times x.",
        "code": f"def times(x):\n    return {number} * x",
        "test_list": [f"assert times(2) == {2 * number}"],
    }


LONG = humaneval(7, prompt="# " + "long " * 40 + '\ndef times_7(x):\n    """ 7 times x. """\n')
FORMS = {
    # Behind a right body, what would undo it: a body ends before the first of these.
    "humaneval": ([humaneval(2), LONG, humaneval(3), humaneval(4)], "\ndef times_2(x):\n    return 0\n"),
    "mbpp": ([mbpp(2), mbpp(3), mbpp(4)], "\nassert False\n"),
}


@pytest.fixture
def files_of(tmp_path):
    def files_of(*records, name="problems.jsonl"):
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        return str(path)

    return files_of


def asked_of(name, data, form, *files, known=None, **values):
    """An arm that is asked the problems of files."""
    layer = {"code": {"form": form, "files": files, "new_tokens": 64, **values}}
    config = config_of(name, LAYER, {"code": {"problems": None}}, layer)
    return Arm(config, Writer(config.factors.compute == "causal", data, known=known), STOP)


def solved(records, behind=""):
    """What knows the problems: prompts with what is written after them."""
    for record in records:
        if "code" in record:
            prompt = f'"""\n{record["text"]}\n{record["test_list"][0]}\n"""\n'
            yield prompt, record["code"] + "\n" + behind
        else:
            yield record["prompt"], record["canonical_solution"] + behind


@pytest.mark.parametrize("name", ["ar", "dlm"])
@pytest.mark.parametrize("form", FORMS)
def test_published_problems_are_asked_of_any_run_and_bodies_end_at_their_stops(form, name, data, files_of):
    records, behind = FORMS[form]
    known = list(solved(records, behind))
    arm = asked_of(name, data, form, files_of(*records), known=known[:-1])
    assert {task.measurement for task in code(arm.config)} == {"code", "code_baselines"}
    task = next(task for task in code(arm.config) if task.measurement == "code")
    assert (task.settings["form"], "problems" in task.settings) == (form, False)
    assert passes(arm.config, task) == len(records) * 3 * 64
    require_held_out(arm.config, data, "code")
    found = measure(task, [arm], data)
    # Three that fit, of which it knows two; by hand.
    assert found.examples.values == (1.0, 1.0, 0.0)
    assert found.examples.documents == ((0, 2, 3) if form == "humaneval" else (0, 1, 2))
    assert found.values["pass_at_1"] == pytest.approx(2 / 3)
    assert found.values["pass_at_1_standard_error"] == pytest.approx(1 / 3)
    assert found.values["code_problems"] == 3
    assert found.values["code_left_out"] == (0.25 if form == "humaneval" else 0)
    assert [text.prompt + text.text for text in found.texts] == [
        prompt + body.removesuffix(behind) for prompt, body in known if "long" not in prompt
    ][:2]


def test_beside_published_problems_stand_what_can_be_reached_and_what_counting_writes(
    data, files_of, monkeypatch
):
    """A body that counting writes ends at its stops too. Of looking up there must be functions to look up."""
    unsolved = humaneval(5, canonical_solution="    return 6 * x\n")
    records, behind = [humaneval(2), humaneval(3), unsolved], FORMS["humaneval"][1]
    known = dict(solved(records, behind))
    monkeypatch.setattr(
        "lab.evaluation.measure_code.sample_bodies", lambda *asked: [known[prompt] for prompt in asked[2]]
    )
    arm, text = asked_of("ar", data, "humaneval", files_of(*records)), text_dataset()
    of_text = config_of("ar", {"data": {"length": 256}, "code": arm.config.code.model_dump()})
    require_held_out(of_text, text, "code")
    reached = {"ngram_pass_at_1": 2 / 3, "reference_pass_at_1": 2 / 3}
    for config, own, expected in (
        (arm.config, data, {**reached, "retrieval_pass_at_1": 0.0}),
        (of_text, text, reached),
    ):
        found = measure(task_of(code(config), "code_baselines"), [Arm(config, None, STOP)], own)
        shown = {key: value for key, value in found.values.items() if not key.endswith("error")}
        assert shown == pytest.approx(expected)


def test_the_first_problems_of_each_file_are_asked_where_so_many_are_named(data, files_of):
    paths = [
        files_of(humaneval(2), humaneval(3), humaneval(4)),
        files_of(*map(humaneval, (5, 6, 8)), name="b.jsonl"),
    ]
    arm = asked_of("ar", data, "humaneval", *paths, problems=2, known=[])
    task = task_of(code(arm.config), "code")
    assert task.settings["problems"] == 2
    assert measure(task, [arm], data).values["code_problems"] == 4
    assert arm.scorer.batches


def test_published_problems_are_named_by_what_they_ask_and_not_by_where_they_lie(data, files_of):
    stop = StopConfig(run="../run", version="v", reading="annealed", step=4, tokens_seen=1, epoch=1.0)

    def keys(path, *hashes, seed=0):
        config = asked_of("ar", data, "humaneval", path).config
        config = make_config(config.model_dump(exclude_none=True), {"seed": seed})
        of = dict(zip(("train", "validation", "test"), hashes or "abc", strict=True))
        return list(wanted_rows("code", config, [stop], of))

    first = keys(files_of(humaneval(2), humaneval(3)))
    assert len(set(first)) == 2
    assert keys(files_of(humaneval(2), humaneval(3), name="moved.jsonl")) == first
    assert keys(files_of(humaneval(2), humaneval(3)), "a", "other", "other", seed=1) == first
    bodies, baselines = keys(files_of(humaneval(2), humaneval(3)), "other", "b", "c")
    assert bodies == first[0]
    assert baselines != first[1]
    changed = keys(files_of(humaneval(2), humaneval(3, test="def check(candidate):\n    assert True\n")))
    assert not set(changed) & set(first)


@pytest.mark.parametrize(
    ("form", "records", "message"),
    [
        (
            "mbpp",
            [humaneval(2), humaneval(3)],
            r"line 1: expected a problem of form=mbpp, with no field 'entry_p",
        ),
        (
            "humaneval",
            [mbpp(2), mbpp(3)],
            r"line 1: expected a problem of form=humaneval, with the field 'entry_",
        ),
        (
            "humaneval",
            [{"text": "a"}],
            r"line 1: expected a problem of form=humaneval, .* but got \['text'\]",
        ),
        ("mbpp", [{"text": "a"}], r"line 1: expected the field 'task_id', but got \['text'\]"),
        ("humaneval", [], "expected text, but the file is empty"),
        (
            "humaneval",
            [humaneval(2), LONG],
            r"two prompts or more must leave room for code\.new_tokens=64 in data\.length=256, "
            r"but 1 of 2 do; the shortest takes 39 tokens\.",
        ),
    ],
)
def test_files_that_cannot_be_asked_are_refused_before_anything_is_computed(
    form, records, message, data, files_of
):
    arm = asked_of("ar", data, form, files_of(*records))
    with pytest.raises(ValueError, match=message):
        require_held_out(arm.config, data, "code")


def test_a_file_must_be_there_and_hold_tasks_that_no_other_holds(data, files_of, tmp_path):
    path = files_of(humaneval(2), humaneval(3))
    for files, message in (
        ([path, str(tmp_path / "none.jsonl")], r"none\.jsonl: could not be read: No such file"),
        ([str(tmp_path)], r"`path` must end in \.txt, "),
        ([path, path], r"`code\.files` must hold each task once, but 'HumanEval/2' is in two of them\."),
    ):
        with pytest.raises(ValueError, match=message):
            require_held_out(asked_of("ar", data, "humaneval", *files).config, data, "code")


@pytest.mark.parametrize("layer", [{"form": "mbpp"}, {"files": ["a.jsonl"]}])
def test_a_form_and_files_go_together(layer):
    with pytest.raises(ValueError, match="`form` and `files` must be given together, but got form="):
        config_of("ar", {"code": layer})


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
