"""What is measured, what names it, and what it costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluation_bench import STOP, config_of, random_documents, rigged_arm, trained_arm

from lab.arms import ARMS
from lab.config import StopConfig, make_config
from lab.data.held_out import document_means
from lab.evaluation import measurements
from lab.evaluation.flops import forward_flops_per_token
from lab.evaluation.measurements import (
    MODULES,
    SETS,
    TOGETHER,
    ability,
    evaluation_digest,
    find_set,
    inference,
    measure,
    passes,
    row_key,
    wanted_rows,
    yardstick,
)
from lab.metrics import METRICS
from lab.results import StopReference, Task

DATA = random_documents()
LONGER = {"data": {"length": 32}}


def nll_of(previous, target):
    return 0.5 + (target % 7) / 10


def test_the_yardstick_is_nll_and_choice_and_for_arms_trained_on_orders_the_bound():
    def task(measurement, split="test", **settings):
        return Task(measurement=measurement, split=split, settings={**settings, "sample": 7})

    choice = {"items": 3, "options": 4, "context_tokens": 8, "option_tokens": 4}
    picking = [task("nll", "validation", windows=5, positions=2)]
    first = [task("nll", windows=9, positions=4), task("choice", **choice)]
    bound, exact = task("nelbo", windows=9, draws=4), task("nll_exact", windows=3)
    for arm, values in ARMS.items():
        config = config_of(arm, {"seed": 7})
        assert yardstick(config, "validation") == picking
        expected = [*first, bound, exact] if values["order"] == "any" else [*first, exact]
        assert yardstick(config, "test") == expected, arm


def test_an_arm_of_two_objectives_is_measured_as_it_is_read():
    """Read causally it has no bound; the tasks differ, as the weights may be the same ones."""
    dense, causal = (
        config_of("dlm", {"factors": {"ar_share": 0.5, **read}}) for read in ({}, {"read_as": "causal"})
    )
    assert dense.keyed_values() == causal.keyed_values()
    assert yardstick(dense, "test") == yardstick(config_of("dlm"), "test")
    found = yardstick(causal, "test")
    assert [task.measurement for task in found] == ["nll", "choice", "nll_exact"]
    assert {task.settings.get("read_as") for task in [*found, *inference(causal)]} == {"causal"}
    assert [passes(causal, task) for task in found] == [9, 12, 3]
    for arm, share in (("dlm", 0), ("ar", 1)):
        end = config_of("dlm", {"factors": {"ar_share": share, "read_as": "causal"}})
        for tasks in (inference, lambda config: yardstick(config, "test")):
            assert tasks(end) == tasks(config_of(arm))


def test_every_task_is_of_the_sample_of_its_replicate():
    for layer, sample in (({"seed": 7, "member": 2}, 7), ({"seed": 7, "data": {"subset": "fixed"}}, 0)):
        config = config_of("dlm", LONGER, layer)
        tasks = [*yardstick(config, "validation"), *yardstick(config, "test"), *inference(config)]
        assert {task.settings["sample"] for task in tasks} == {sample}


def test_what_is_measured_of_each_arm_after_its_run():
    dlm, ar = inference(config_of("dlm", LONGER)), inference(config_of("ar", LONGER))
    generations = [
        tuple(task.settings.get(key) for key in ("sampler", "steps", "temperature"))
        for task in dlm
        if task.measurement == "generation"
    ]
    passes = [(s, t, None) for s in ("ancestral", "blocks:4") for t in (1, 3, 6, 12, 24)]
    assert generations == [*passes, ("ancestral", 24, 0.05)]  # temperature 1 is what it was without one
    draws = [task.settings.get("num_draws") for task in dlm if task.measurement == "choice"]
    assert draws == [None, 1, 3]
    assert [(task.measurement, task.settings.get("sampler"), task.settings.get("steps")) for task in ar] == [
        ("real_text", None, None),
        ("generation", "left_to_right", 24),
        ("generation", "left_to_right", 24),
        ("choice", None, None),
    ]
    assert len(inference(config_of("any_order_ar", LONGER))) == 6
    assert {task.split for task in dlm} == {"test"}
    assert {task.settings["items"] for task in dlm if task.measurement == "choice"} == {4}


def test_text_is_parsed_where_the_corpus_is_python():
    for corpus, paths, python in (("packages", [], True), ("stdlib", [], True), ("text", ["a.txt"], False)):
        tasks = inference(config_of("ar", {"data": {"corpus": corpus, "paths": paths}}))
        texts = [task.settings["python"] for task in tasks if task.measurement != "choice"]
        assert texts == [python] * 3


@pytest.mark.parametrize(("share", "expected"), [(0.0, (0, 32)), (0.25, (8, 24)), (0.9, (28, 4))])
def test_prompt_and_generated_tokens_fill_the_window(share, expected):
    made = config_of("dlm", LONGER, {"inference": {"prompt_share": share}})
    assert made.inference.prompt_and_generated(32) == expected
    tasks = inference(made)
    assert {task.settings.get("steps") for task in tasks} >= {1, expected[1]}
    assert {task.settings.get("prompt_tokens") for task in tasks} == {None, expected[0]}


def test_passes_count_rows_by_hand():
    dlm, ar = config_of("dlm"), config_of("ar")

    def of(config, measurement, **settings):
        tasks = [*yardstick(config, "test"), *inference(config)]
        (found,) = {
            passes(config, task)
            for task in tasks
            if task.measurement == measurement and settings.items() <= task.settings.items()
        }
        return found

    assert of(dlm, "generation", sampler="ancestral", steps=6) == 5 * 7  # 5 prompts, 6 passes and the judge's
    assert of(dlm, "real_text") == 5
    assert of(dlm, "choice", num_draws=3) == 4 * 4 * 3  # items, options, draws
    assert of(dlm, "choice", items=3) == 3 * 4 * 4  # and tokens
    assert of(ar, "choice", items=4) == 4 * 4
    assert of(ar, "nll") == 9
    assert of(dlm, "nll") == 9 * 4
    assert (of(dlm, "nll_exact"), of(ar, "nll_exact")) == (3 * 16, 3)
    assert of(config_of("dlm", {"evaluation": {"test_positions": 0}}), "nll") == 9 * 16
    assert of(config_of("dlm", {"evaluation": {"test_positions": 99}}), "nll") == 9 * 16
    assert of(dlm, "nelbo") == 9 * 4


@pytest.mark.parametrize(
    ("arm", "rows"),
    [
        ("ar", 9 + 12 + 3),  # windows, options, windows at all places
        ("suffix_denoiser", 9 * 4 + 12 * 4 + 3 * 16),  # a row for each scored token
        ("dlm", 9 * 4 + 12 * 4 + 9 * 4 + 3 * 16),  # and the bound's draws
        ("any_order_ar", 9 + 12 + 9 * 4 + 3),
    ],
)
def test_flops_are_those_of_the_rows_that_are_scored(arm, rows):
    made = rigged_arm(arm, nll_of)
    found = [measure(task, [made], DATA) for task in yardstick(made.config, "test")]
    assert sum(len(example.tokens) for example in made.scorer.examples) == rows
    a_pass = 16 * forward_flops_per_token(made.config.model.architecture(257, 16), made.scorer.causal)
    assert sum(row.flops for row in found) == rows * a_pass
    assert sum(passes(made.config, row.task) for row in found) == rows


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_measuring_twice_gives_the_same(arm):
    tasks = [*yardstick(config_of(arm), "test"), *inference(config_of(arm))]
    first, again = (
        [measure(task, [rigged_arm(arm, nll_of)], DATA) for task in tasks if task.measurement not in TOGETHER]
        for _ in range(2)
    )
    assert first == again
    assert len(first) == {"ar": 4, "dlm": 7}[arm]


def test_every_value_is_of_a_declared_metric():
    """But for the number of lines, which a parse rate is of."""
    declared = {*METRICS, *(error for metric in METRICS.values() for error in metric.errors)}
    arm = trained_arm("any_order_ar")
    tasks = [*yardstick(arm.config, "test"), *inference(arm.config)]
    for name in ("ensemble", "ability", "memorisation", "infilling", "tasks"):
        tasks += [task for task in find_set(name).tasks(arm.config) if task not in tasks]
    of_code = {"code", "code_infilling", "code_baselines"}  # of a corpus of their own
    assert {task.measurement for task in tasks} == set(MODULES) - of_code
    for task in tasks:
        judges = [trained_arm("ar")] if task.measurement in TOGETHER else []
        found = measure(task, [arm, *judges], DATA)
        assert set(found.values) <= declared | {"lines"}
        if found.examples:
            means, _ = document_means(np.array(found.examples.values), np.array(found.examples.documents))
            assert found.values[found.examples.metric] == pytest.approx(means.mean(), rel=1e-12)


def test_a_row_says_what_was_measured_of_whose_weights():
    arm, task = rigged_arm("ar", nll_of), yardstick(config_of("ar"), "test")[0]
    row = measure(task, [arm], DATA)
    assert (row.task, row.stops) == (task, (STOP,))
    assert row.key == row_key(task, [STOP], "hash of test")


def test_a_row_has_another_key_for_other_weights_tasks_texts_and_code(monkeypatch):
    task, other, _ = yardstick(config_of("ar"), "test")
    wider = yardstick(config_of("ar", {"evaluation": {"test_windows": 10}}), "test")[0]
    judged = StopReference(run="judge", reading="annealed", step=7)
    written, cold = inference(config_of("ar"))[1:3]
    keys = [
        row_key(task, [STOP], "text"),
        row_key(other, [STOP], "text"),
        row_key(wider, [STOP], "text"),
        row_key(yardstick(config_of("ar", {"seed": 1}), "test")[0], [STOP], "text"),
        row_key(task, [STOP.model_copy(update={"step": 8})], "text"),
        row_key(task, [STOP.model_copy(update={"reading": "along_run"})], "text"),
        row_key(task, [STOP], "more text"),
        row_key(cold, [STOP], "text"),
        *(row_key(written, stops, "text") for stops in ([STOP], [STOP, judged], [judged, STOP])),
    ]
    assert row_key(task, [STOP, judged], "text") == keys[0]  # a judge has no part in it
    assert row_key(task.model_copy(), [STOP.model_copy()], "text") == keys[0]
    monkeypatch.setattr(measurements, "closure_hash", lambda module: f"other {module}")
    keys.append(row_key(task, [STOP], "text"))
    assert len(set(keys)) == len(keys)


HASHES = {"train": "a", "validation": "b", "test": "c"}


@pytest.mark.parametrize(
    "layer",
    [
        *({"evaluation": {key: value}} for key, value in {"stops": 3, "stop_ratio": 3.0}.items()),
        *({"evaluation": {key: 6}} for key in ("validation_windows", "test_windows", "exact_windows")),
        *({"evaluation": {key: 6}} for key in ("validation_positions", "test_positions", "nelbo_draws")),
        {"seed": 4},
        {"evaluation": {"choice_items": 6}},
        {"evaluation": {"choice_options": 6}},
        {"evaluation": {"choice_context_tokens": 6}},
        {"evaluation": {"choice_option_tokens": 6}},
    ],
    ids=str,
)
def test_other_stops_and_settings_are_another_evaluation(layer):
    assert evaluation_digest(config_of("dlm", layer), HASHES) != evaluation_digest(config_of("dlm"), HASHES)


@pytest.mark.parametrize(
    "layer",
    [
        {"evaluation": {"batch_size": 4, "sample_tokens": 0}},
        {"inference": {"prompts": 9}},
        {"training": {"log_steps": 3, "learning_rate": 0.5}},
        {"member": 4},
        {"seed": 4, "data": {"subset": "fixed"}},
    ],
    ids=str,
)
def test_what_no_measurement_depends_on_is_no_other_evaluation(layer):
    assert evaluation_digest(config_of("dlm", layer), HASHES) == evaluation_digest(config_of("dlm"), HASHES)


def edit_of(edited):
    real = measurements.closure_hash
    return lambda module: real(module) + "x" * (module == edited)


def test_another_held_out_text_or_code_is_another_evaluation(monkeypatch):
    config = config_of("dlm")
    digests = [evaluation_digest(config, {**HASHES, split: "other"}) for split in ("validation", "test")]
    digests.append(evaluation_digest(config, HASHES))
    assert evaluation_digest(config, {**HASHES, "train": "other"}) == digests[-1]
    for edited in (MODULES["nelbo"], MODULES["nll"], "lab.training.timeline", MODULES["generation"]):
        with monkeypatch.context() as patch:
            patch.setattr(measurements, "closure_hash", edit_of(edited))
            digests.append(evaluation_digest(config, HASHES))
    assert digests.pop() == digests[2]  # generation is no part of it
    assert len(set(digests)) == len(digests)


def test_sets_are_found_by_name():
    assert find_set("inference").tasks(config_of("dlm")) == inference(config_of("dlm"))
    names = (
        r"\['ability', 'code', 'ensemble', 'inference', 'infilling', 'memorisation', 'tasks', 'yardstick'\]"
    )
    with pytest.raises(ValueError, match=rf"`measurement` must be one of {names}, but got measurement='x'"):
        find_set("x")
    sections = {"code", "evaluation", "inference", "infilling", "memorisation", "tasks"}
    assert {one.section for one in SETS.values()} == sections
    stops = {name: tasks.stops for name, tasks in SETS.items() if tasks.stops != "best"}
    assert stops == {"ability": "every", "memorisation": "picked"}


def test_the_ability_of_a_stop_is_the_yardsticks_and_one_temperature():
    config = config_of("dlm", {"seed": 7})
    nll, choice, calibration = ability(config)
    assert [nll, choice] == yardstick(config, "test")[:2]
    settings = {"windows": 9, "positions": 4, "validation_windows": 5, "validation_positions": 2}
    assert calibration == Task(measurement="calibration", split="test", settings={**settings, "sample": 7})


def test_rows_are_of_every_stop_of_the_subject_and_of_all_text_that_is_read():
    def stop(run, step):
        return StopConfig(run=run, version="v", reading="annealed", step=step, tokens_seen=1, epoch=1.0)

    config, stops = config_of("ar"), [stop("../run", 4), stop("../run", 8)]
    rows = wanted_rows("ability", config, stops, HASHES)
    assert [(task.measurement, of.step) for task, of in rows.values()] == [
        (name, step) for step in (4, 8) for name in ("nll", "choice", "calibration")
    ]
    # A twin of the subject, with its very weights, is what it is measured with.
    judged = wanted_rows("inference", config, [stops[0], stop("../judge", 4)], HASHES)
    assert {of.run for _, of in judged.values()} == {"../run"}
    changed = {
        (name, split): [
            task.measurement
            for key, (task, _) in wanted_rows(name, config, stops, HASHES | {split: "other"}).items()
            if key not in wanted_rows(name, config, stops, HASHES)
        ]
        for name in ("ability", "memorisation")
        for split in HASHES
    }
    assert changed == {
        ("ability", "train"): [],
        ("ability", "validation"): ["calibration"] * 2,
        ("ability", "test"): ["nll", "choice", "calibration"] * 2,
        ("memorisation", "train"): ["train_nll", "extraction"] * 2,
        ("memorisation", "validation"): [],
        ("memorisation", "test"): ["train_nll", "extraction"] * 2,
    }


def test_a_task_of_files_is_named_by_what_they_ask_and_not_by_where_they_lie(tmp_path):
    stop = StopConfig(run="../run", version="v", reading="annealed", step=4, tokens_seen=1, epoch=1.0)

    def keys(layer, hashes=HASHES):
        return list(wanted_rows("tasks", config_of("ar", {"tasks": layer}), [stop], hashes))

    source = Path(config_of("ar").tasks.files[0])
    (first,) = keys({})
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(source.read_bytes())
    assert keys({"files": [str(moved)]}) == [first]
    assert keys({"draws": 0}) == keys({}, dict.fromkeys(HASHES, "other")) == [first]
    moved.write_text(source.read_text().replace("blue", "green"))
    more = {"more": [{"name": "green", "files": [str(moved)]}, {"questions": 2, "files": [str(source)]}]}
    assert keys(more)[0] == first
    others = [*keys(more)[1:], *keys({"files": [str(moved)]}), *keys({"name": "mine"})]
    assert len({first, *others}) == 5


def test_tasks_are_measured_of_the_arm_that_reads_the_files():
    """Each finds its own file by its settings."""
    here = config_of("ar").tasks.files
    more = {
        "more": [
            {"name": "two", "files": here, "questions": 2},
            {"form": "choice", "shots": 0, "name": "x", "files": here},
        ]
    }
    arm = rigged_arm("ar", nll_of, {"tasks": more})
    found = [measure(task, [arm], DATA) for task in find_set("tasks").tasks(arm.config)]
    assert [row.values["task_questions"] for row in found] == [3, 2, 3]
    assert [row.key for row in found] == list(
        wanted_rows(
            "tasks",
            arm.config,
            [
                StopConfig(
                    run="r", version="run", tokens_seen=1, epoch=1.0, **{"reading": "annealed", "step": 7}
                )
            ],
            HASHES,
        )
    )


def test_a_set_of_tasks_without_files_is_refused():
    with pytest.raises(ValueError, match=r"`tasks\.files` must name the files of a task, but got none\."):
        find_set("tasks").tasks(config_of("ar", {"tasks": {"files": []}}))


def test_passes_of_a_task_count_its_options_and_about_their_tokens():
    dlm, ar = config_of("dlm"), config_of("ar")
    (drawn,), (causal,) = find_set("tasks").tasks(dlm), find_set("tasks").tasks(ar)
    assert (passes(dlm, drawn), passes(ar, causal)) == (2 * 2 * 7, 7)
    exact = config_of("dlm", {"tasks": {"draws": 0}})
    assert passes(exact, find_set("tasks").tasks(exact)[0]) == 5 + 4 + 3 + 3


def test_planning_imports_no_backend():
    code = (
        "import sys; from lab.config import make_config;"
        "from lab.evaluation.measurements import evaluation_digest, inference, passes, row_key, yardstick;"
        "import lab.evaluation.held_out;"
        "config = make_config({'training': {'total_steps': 1}});"
        "[passes(config, task) for task in [*yardstick(config, 'test'), *inference(config)]];"
        "evaluation_digest(config, {'validation': 'a', 'test': 'b'});"
        "assert not {'keras', 'jax', 'tensorflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_measurement_is_imported_and_hashed_before_it_is_needed(monkeypatch):
    imported, hashed = [], []
    monkeypatch.setattr(measurements.importlib, "import_module", imported.append)
    monkeypatch.setattr(measurements, "closure_hash", hashed.append)
    measurements.load_measurements()
    assert imported == hashed == list(MODULES.values())


NOISES = {
    "ar": {
        "factors": {"input_noise": "mask:0-1", "attention_mask_dropout": 0.9, "passes": 2},
        "model": {"attention_dropout": 0.5, "mlp_dropout": 0.5},
    },
    "any_order_ar": {"factors": {"input_noise": "replace:1", "loss_on": "hidden", "redraw": "epoch"}},
    "dlm": {"factors": {"attention_mask_dropout": 0.9, "complementary": True, "redraw": "epoch"}},
    "suffix_denoiser": {"factors": {"attention_mask_dropout": 0.9, "noise_window": "fixed:0.15"}},
}


@pytest.mark.parametrize("arm", NOISES)
def test_no_noise_of_training_touches_the_yardstick(arm):
    """The same weights measure the same, whatever they were trained under."""
    from lab.evaluation.arm import Arm, make_scorer
    from lab.training.build import build_transformer

    found = []
    for layer in ({}, NOISES[arm]):
        config = make_config(config_of(arm).model_dump(mode="json", exclude_none=True), layer)
        transformer = build_transformer(config, DATA.tokenizer.vocab_size)
        for weight in transformer.trainable_weights:
            weight.assign(10 * weight.value)
        measured = Arm(config, make_scorer(transformer, config), STOP)
        found.append([measure(task, [measured], DATA) for task in yardstick(config, "test")])
    assert found[0] == found[1]
    assert found[0][0].values["nll"] > 6  # the weights are no uniform predictor's
