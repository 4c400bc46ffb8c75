import numpy as np
import pytest
from evaluation_bench import TEXT, rigged_arm, task_of, text_dataset, trained_arm

from lab.data.characters import decode_behind
from lab.data.held_out import dataset_windows
from lab.evaluation.measure_text import measure
from lab.evaluation.measurements import inference

DATA = text_dataset()
LONGER = {"data": {"length": 32}}


def drawn():
    return dataset_windows(DATA, "test", 5, 32, 0).windows


def shown(rows):
    """What follows the 8 tokens of a prompt, as a page shows it."""
    return [decode_behind(DATA.tokenizer, row[:8], row[8:]) for row in rows]


def rigged_judge(nats):
    """A judge to which every token costs the same."""
    return rigged_arm("ar", lambda previous, target: np.full(target.shape, nats), LONGER)


def tasks_of(arm):
    return [task for task in inference(arm.config) if task.measurement in ("real_text", "generation")]


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm", "any_order_ar"])
def test_every_task_gets_its_values_with_costs_and_errors(name):
    arm = trained_arm(name, LONGER)
    judges = [rigged_judge(2.0), rigged_judge(4.0)]
    keys = ("steps", "temperature")
    tasks = {tuple(task.settings.get(key) for key in keys): task for task in tasks_of(arm)}
    found = {key: measure(task, [arm, *judges], DATA) for key, task in tasks.items()}
    for (steps, _), finding in found.items():
        assert finding.values["judge_nll"] == pytest.approx(3.0)  # the mean of both judges
        assert finding.values["judge_nll_standard_error"] is None  # of one document
        assert 0 <= finding.values["entropy"] <= np.log(24)
        assert finding.values["entropy_standard_error"] is None
        assert 0 < finding.values["distinct"] <= 1
        assert 0 <= finding.values["repetition"] <= 1
        assert finding.values["repetition_standard_error"] >= 0
        assert finding.examples.metric == "judge_nll"
        assert finding.examples.values == pytest.approx([3.0] * 5)
        assert finding.examples.documents == (0,) * 5
        assert len(finding.texts) == 2
        assert (steps is None) == (finding.costs == {})  # text that is there costs nothing
    if name == "dlm":
        assert found[24, None].costs["flops"] == pytest.approx(24 * found[1, None].costs["flops"])
    warm, cold = found[24, None], found[24, 0.05]
    assert warm.costs == cold.costs
    assert cold.values["entropy"] < warm.values["entropy"] - 0.2


@pytest.mark.backend
def test_real_text_is_real_text():
    arm = trained_arm("ar", LONGER)
    found = measure(task_of(tasks_of(arm), "real_text"), [arm, rigged_judge(2.0)], DATA)
    windows = [DATA.tokenizer.decode(window) for window in drawn()]
    assert all(window in TEXT for window in windows)
    assert [example.prompt + example.text for example in found.texts] == windows[:2]
    assert {len(example.prompt) for example in found.texts} == {8}
    whole = [line for window in windows for line in window[8:].split("\n")[1:-1]]
    tried = [line for line in whole if line.strip() and not line.startswith("#")]
    rate = sum(line.strip() != "(" for line in tried) / len(tried)
    assert found.values["lines"] == len(tried) > 3
    assert found.values["parse_rate"] == rate < 1
    assert found.values["parse_rate_standard_error"] == pytest.approx(np.sqrt(rate * (1 - rate) / len(tried)))


@pytest.mark.backend
def test_an_arm_is_judged_on_its_own_samples_after_the_prompt():
    """A judge to whom a token costs its id / 100: the mean over the generated tokens alone."""
    from lab.evaluation.generation import sample_left_to_right

    arm = trained_arm("ar", LONGER)
    judge = rigged_arm("ar", lambda previous, target: target / 100, LONGER)
    found = measure(tasks_of(arm)[1], [arm, judge], DATA)
    written = np.stack(sample_left_to_right(arm.scorer, drawn()[:, :8], 24, arm.config.training_seed))
    sampled = written[:, 8:]
    assert found.values["judge_nll"] == pytest.approx(sampled.mean() / 100)
    assert found.examples.values == pytest.approx(sampled.mean(axis=1) / 100)
    assert [example.text for example in found.texts] == shown(written[:2])


@pytest.mark.backend
@pytest.mark.parametrize("sampler", ["ancestral", "blocks:4"])
def test_a_dense_arm_writes_with_the_sampler_and_the_steps_of_the_task(sampler):
    from lab.evaluation.denoising import denoise

    arm = trained_arm("dlm", LONGER)
    for steps in (3, 24):
        task = next(
            task
            for task in tasks_of(arm)
            if {"sampler": sampler, "steps": steps}.items() <= task.settings.items()
        )
        found = measure(task, [arm, rigged_judge(2.0)], DATA)
        written = denoise(arm.scorer, drawn()[:, :8], 24, sampler, steps, arm.config.seed)
        assert [example.text for example in found.texts] == shown(written[:2])


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_an_arm_writes_at_the_temperature_of_the_task(name):
    from lab.evaluation.denoising import denoise
    from lab.evaluation.generation import sample_left_to_right

    arm = trained_arm(name, LONGER)
    found = measure(task_of(tasks_of(arm), "generation", temperature=0.05), [arm, rigged_judge(2.0)], DATA)
    prompts, seed = drawn()[:, :8], arm.config.training_seed
    if name == "ar":
        written = sample_left_to_right(arm.scorer, prompts, 24, seed, temperature=0.05)
    else:
        written = denoise(arm.scorer, prompts, 24, "ancestral", 24, seed, temperature=0.05)
    assert [one.text for one in found.texts] == shown(written[:2])


@pytest.mark.backend
def test_only_python_is_parsed_as_python():
    for corpus, paths, parsed in (("text", ["a.txt"], False), ("stdlib", [], True), ("packages", [], True)):
        arm = trained_arm("ar", LONGER, {"data": {"corpus": corpus, "paths": paths}})
        for task in tasks_of(arm):
            values = measure(task, [arm, rigged_judge(2.0)], DATA).values
            assert ({"parse_rate", "parse_rate_standard_error", "lines"} <= values.keys()) == parsed


def test_texts_are_shown_up_to_whole_characters():
    """Prompts of 8 bytes end inside the third character, windows of 32 inside the eleventh."""
    chinese = text_dataset()
    object.__setattr__(
        chinese, "test", np.tile(np.frombuffer("漢".encode(), np.uint8), 100).astype(np.uint16)
    )
    arm = trained_arm("ar", LONGER)
    found = measure(task_of(tasks_of(arm), "real_text"), [arm, rigged_judge(2.0)], chinese)
    windows = dataset_windows(chinese, "test", 5, 32, 0).windows
    for window, text in zip(windows[:2], found.texts, strict=True):
        start = int(np.flatnonzero(window == 0xE6)[0])  # a window begins anywhere
        assert text.prompt.lstrip("\ufffd") == "漢" * ((8 - start) // 3)
        assert text.prompt.lstrip("\ufffd") + text.text == "漢" * ((32 - start) // 3)


def test_where_no_line_is_tried_the_rate_is_none():
    arm = trained_arm("ar", LONGER)
    comments = text_dataset()
    object.__setattr__(comments, "test", np.full(400, ord("#"), np.uint16))
    values = measure(task_of(tasks_of(arm), "real_text"), [arm, rigged_judge(2.0)], comments).values
    assert [values[key] for key in ("parse_rate", "parse_rate_standard_error", "lines")] == [None] * 3
