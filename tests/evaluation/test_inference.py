import json

import numpy as np
import pytest
from evaluation_bench import RiggedScorer, tiny_transformer

from lab.arms import arm_values
from lab.config import make_config
from lab.data.dataset import Dataset
from lab.data.tokenizers import ByteTokenizer
from lab.evaluation import inference_file
from lab.evaluation.inference_file import InferenceFile, Task, passes, prompt_and_generated, tasks

TEXT = "".join(f"if value_{i}:\n    return {i}\nelse:\n    (\n# note {i}\n\n" for i in range(30))


def config(arm, *layers):
    own = {
        "data": {"length": 32},
        "model": {"size": "0.1m"},
        "training": {"total_steps": 1},
        "inference": {
            "prompts": 5,
            "samplers": ["ancestral", "blocks:4"],
            "draws": [1, 3],
            "choice_items": 4,
        },
        "evaluation": {
            **{"choice_options": 3, "choice_context_tokens": 8, "choice_option_tokens": 4},
            "batch_size": 8,
        },
    }
    return make_config(own, arm_values(arm), *layers)


def dataset():
    tokenizer = ByteTokenizer()
    tokens = np.append(tokenizer.encode(TEXT), tokenizer.end_id).astype(np.uint16)
    return Dataset(tokens, tokens, tokens, tokenizer, "hash", {})


def arm_of(name, *layers):
    from lab.evaluation.inference import FinishedArm
    from lab.evaluation.yardstick import make_scorer

    made = config(name, *layers)
    transformer = tiny_transformer(vocab_size=257, length=32, scale=3.0)
    return FinishedArm(made, make_scorer(transformer, made), {"reading": "annealed", "step": 7})


def rigged_judge(nats):
    """A judge to which every token costs the same."""
    return RiggedScorer(True, lambda previous, target: np.full(target.shape, nats), 32, 257)


def measured(arm, path, judges=(2.0, 4.0), advance=lambda task: None):
    from lab.evaluation.inference import measure_inference

    file = InferenceFile(path, arm.config, ["b", "a"])
    measure_inference(arm, [rigged_judge(nats) for nats in judges], dataset(), file, advance)
    return json.loads(path.read_text())


def test_what_is_measured_of_each_arm():
    generations = [(task.sampler, task.steps) for task in tasks(config("dlm")) if task.kind == "generation"]
    assert generations == [(s, t) for s in ("ancestral", "blocks:4") for t in (1, 3, 6, 12, 24)]
    draws = [task.num_draws for task in tasks(config("dlm")) if task.kind == "choice"]
    assert draws == [None, 1, 3]
    assert tasks(config("ar")) == [
        Task("real"),
        Task("generation", "left_to_right", 24),
        Task("choice"),
    ]
    assert len(tasks(config("any_order_ar"))) == 5


@pytest.mark.parametrize(("share", "expected"), [(0.0, (0, 32)), (0.25, (8, 24)), (0.99, (31, 1))])
def test_prompt_and_generated_tokens_fill_the_window(share, expected):
    made = config("dlm", {"inference": {"prompt_share": share}})
    assert prompt_and_generated(made) == expected
    assert {task.steps for task in tasks(made)} >= {1, expected[1]}


def test_passes_count_rows_by_hand():
    dlm, ar = config("dlm"), config("ar")
    assert passes(dlm, Task("generation", "ancestral", 6)) == 5 * 7  # 5 prompts, 6 passes and the judge's
    assert passes(dlm, Task("choice")) == 4 * 3 * 4  # items, options, tokens
    assert passes(dlm, Task("choice", num_draws=3)) == 4 * 3 * 3
    assert passes(ar, Task("choice")) == 4 * 3


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm", "any_order_ar"])
def test_every_task_gets_a_row_with_its_flops_and_errors(name, tmp_path):
    arm, done = arm_of(name), []
    found = measured(arm, tmp_path / "inference.json", advance=done.append)
    assert done == tasks(arm.config)
    assert found["complete"]
    assert (found["prompt_tokens"], found["generated_tokens"]) == (8, 24)
    assert found["stop"] == {"reading": "annealed", "step": 7}
    assert found["judges"] == ["a", "b"]
    for row in found["rows"]:
        if row["kind"] == "choice":
            assert 0 <= row["accuracy"] <= 1
            assert row["option_gap_standard_error"] >= 0
        else:
            assert row["judge_nll"] == pytest.approx(3.0)  # the mean of both judges
            assert row["judge_nll_standard_error"] == pytest.approx(0.0)
            assert 0 < row["distinct"] <= 1
            assert len(row["examples"]) == 2
        assert (row["kind"] == "real") == ("flops" not in row)
    flops = {row["steps"]: row["flops"] for row in found["rows"] if row["kind"] == "generation"}
    if name == "dlm":
        assert flops[24] == pytest.approx(24 * flops[1])


@pytest.mark.backend
def test_the_row_of_real_text_is_real_text(tmp_path):
    arm = arm_of("ar")
    found = measured(arm, tmp_path / "inference.json")
    real = found["rows"][0]
    windows = [TEXT[start : start + 32] for start in (i * (len(TEXT) + 1) // 5 for i in range(5))]
    assert [example["prompt"] + example["text"] for example in real["examples"]] == windows[:2]
    whole = [line for window in windows for line in window[8:].split("\n")[1:-1]]
    tried = [line for line in whole if line.strip() and not line.startswith("#")]
    assert real["lines"] == len(tried) > 3
    assert real["parse_rate"] == sum(line.strip() != "(" for line in tried) / len(tried) < 1


@pytest.mark.backend
def test_an_arm_is_judged_on_its_own_samples_after_the_prompt(tmp_path):
    """A judge to whom a token costs its id / 100: the mean over the generated tokens alone."""
    from lab.evaluation.generation import sample_left_to_right
    from lab.evaluation.inference import measure_inference

    arm = arm_of("ar")
    file = InferenceFile(tmp_path / "inference.json", arm.config, ["a"])
    judge = RiggedScorer(True, lambda previous, target: target / 100, 32, 257)
    measure_inference(arm, [judge], dataset(), file)
    row = file.content["rows"][1]
    tokens = dataset().test
    prompts = np.stack([tokens[i * len(tokens) // 5 :][:8] for i in range(5)]).astype(np.int32)
    sampled = sample_left_to_right(arm.sampler, prompts, 32, arm.config.seed)[:, 8:]
    assert row["judge_nll"] == pytest.approx(sampled.mean() / 100)
    errors = sampled.mean(axis=1).std(ddof=1) / np.sqrt(5) / 100
    assert row["judge_nll_standard_error"] == pytest.approx(errors)


@pytest.mark.backend
def test_only_the_standard_library_is_parsed_as_python(tmp_path):
    arm = arm_of("ar", {"data": {"corpus": "text", "paths": ["a.txt"]}})
    found = measured(arm, tmp_path / "inference.json")
    assert {row["parse_rate"] for row in found["rows"] if row["kind"] != "choice"} == {None}


@pytest.mark.backend
@pytest.mark.parametrize("killed_after", [1, 3, 7])
def test_killed_at_any_row_it_goes_on_and_ends_with_the_same(killed_after, tmp_path):
    arm = arm_of("dlm")
    whole = measured(arm, tmp_path / "whole.json")
    done = []

    def kill(task):
        done.append(task)
        if len(done) == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(arm, tmp_path / "inference.json", advance=kill)
    halfway = json.loads((tmp_path / "inference.json").read_text())
    assert (len(halfway["rows"]), halfway["complete"]) == (killed_after, False)
    rest = []
    assert measured(arm, tmp_path / "inference.json", advance=rest.append) == whole
    assert done + rest == tasks(arm.config)
    again = []
    assert measured(arm, tmp_path / "inference.json", advance=again.append) == whole
    assert not again


@pytest.mark.parametrize("change", ["config", "judges", "code"])
def test_rows_of_another_run_judge_or_code_are_forgotten(change, tmp_path, monkeypatch):
    path, made, judges = tmp_path / "inference.json", config("ar"), ["a"]
    file = InferenceFile(path, made, judges)
    file.add({**Task("real").values, "judge_nll": 1.0})
    assert InferenceFile(path, made, judges).missing == tasks(made)[1:]
    if change == "config":
        made = config("ar", {"seed": 1})
    if change == "judges":
        judges = ["a", "b"]
    if change == "code":
        monkeypatch.setattr(inference_file, "code_hash", lambda: "other")
    assert InferenceFile(path, made, judges).missing == tasks(made)
    assert InferenceFile(path, made, judges).content["rows"] == []
