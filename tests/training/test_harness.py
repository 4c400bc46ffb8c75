"""The command of lm-evaluation-harness on finished runs, by the package itself."""

import json
from functools import partial

import pytest
import yaml

pytest.importorskip("lm_eval", reason="needs lm_eval: make setup EXTRAS=lm-eval")

import lm_eval.tasks
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from lab.training.harness import NAME, RunModel, run_harness

pytestmark = pytest.mark.extra(**{"lm-eval": "lm_eval"})

RECORDS = [
    {"q": "if x:", "options": ["\n    return", " zzzz"], "answer": 0},
    {"q": "def f(", "options": ["x):", "QQQQQQQ"], "answer": 1},
    {"q": "", "options": ["b", "c"], "answer": 1},
]


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task that reads a local file, as a file of its own; `task(key=...)` changes it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    # It reads 13,000 files first, of which none is asked for here.
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", partial(TaskManager, include_defaults=False))

    def task(**changes):
        data = tmp_path / "records.jsonl"
        data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
        values = {
            **{"task": "mine", "dataset_path": "json", "test_split": "test"},
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            **{"output_type": "multiple_choice", "doc_to_target": "answer"},
            **{"doc_to_text": "{{q}}", "doc_to_choice": "{{options}}"},
        }
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
        return path

    return task


def likelihoods(model):
    pairs = [(record["q"], option) for record in RECORDS for option in record["options"]]
    asked = [
        Instance("loglikelihood", record, pair, 0) for pair, record in zip(pairs, RECORDS * 2, strict=True)
    ]
    return [value for value, _ in model.loglikelihood(asked, disable_tqdm=True)]


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_run_is_measured_by_the_command_and_its_table_is_printed(arm, undisturbed, task, tmp_path, capsys):
    run = undisturbed(arm)
    options = ["--tasks", str(task()), "--output_path", str(tmp_path / "out"), "--model_args", "stop=last"]
    run_harness(run.logdir, options, run.cache)
    (path,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    values = likelihoods(RunModel(run=str(run.logdir), stop="last", cache=str(run.cache)))
    right = [
        values[2 * number + record["answer"]] > values[2 * number + 1 - record["answer"]]
        for number, record in enumerate(RECORDS)
    ]
    assert found["results"]["mine"]["acc,none"] == pytest.approx(sum(right) / 3)
    config = found["config"]
    end = run.result.reference(run.result.end())
    assert (config["model"], config["arm"], config["stop"]) == (NAME, arm, end.model_dump())
    assert "|mine |" in capsys.readouterr().out


def test_the_package_makes_the_model_by_its_name(undisturbed):
    run = undisturbed("ar")
    given = f"run={run.logdir},cache={run.cache},seed=3"
    model = get_model(NAME).create_from_arg_string(given, {"batch_size": "5", "device": None})
    assert model.get_model_info()["sampling_seed"] == 3
    own = RunModel(run=run.logdir, cache=run.cache)
    assert likelihoods(model) == pytest.approx(likelihoods(own), rel=1e-6)
    assert (model._scorer.batch_size, own._scorer.batch_size) == (5, run.config.evaluation.batch_size)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drawz": 3}, r"`model_args` are not valid: drawz: Extra inputs are not permitted, but got 3\."),
        ({"draws": -1}, "draws: Input should be greater than or equal to 0, but got -1"),
        ({"passes": 0, "seed": "x"}, "passes: .* but got 0; seed: .* but got 'x'"),
        ({"stop": "first"}, "stop: Input should be 'best' or 'last', but got 'first'"),
        ({"batch_size": 0}, "batch_size"),
        ({"sampler": "confidence"}, "`sampler` must be left_to_right for ar"),
    ],
)
def test_arguments_that_are_wrong_are_refused(wrong, message, undisturbed):
    run = undisturbed("ar")
    with pytest.raises(ValueError, match=message):
        RunModel(**{"run": run.logdir, "cache": run.cache, **wrong})


def test_what_is_no_run_is_refused_before_anything_else(tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a finished run, but there is none"):
        run_harness(tmp_path / "none", ["--tasks", "mine"], tmp_path)


def test_a_task_that_cannot_be_read_says_why(undisturbed, task, tmp_path):
    run = undisturbed("ar")

    def asked(*options):
        run_harness(run.logdir, ["--tasks", *options], run.cache)

    with pytest.raises(ValueError, match="none"):
        asked("none")
    missing = task(dataset_kwargs={"data_files": {"test": str(tmp_path / "missing.jsonl")}})
    with pytest.raises(ValueError, match=r"lm-evaluation-harness: FileNotFoundError: .*missing\.jsonl"):
        asked(str(missing))
    path = task()
    (tmp_path / "records.jsonl").write_text('{"q": "a"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="lm-evaluation-harness: DatasetGenerationError"):
        asked(str(path))
    with pytest.raises(ValueError, match="lm-evaluation-harness: UndefinedError: 'nothing' is undefined"):
        asked(str(task(doc_to_text="{{nothing}}")))
    path.write_text("task: [", encoding="utf-8")
    with pytest.raises(ValueError, match="lm-evaluation-harness: ParserError"):
        asked(str(path))
    with pytest.raises(ValueError, match="NotImplementedError"):
        asked(str(task()), "--apply_chat_template")
    with pytest.raises(SystemExit, match="2"):
        asked(str(task()), "--limit", "few")
