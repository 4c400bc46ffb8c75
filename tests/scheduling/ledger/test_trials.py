"""The parameters that trials have and the number that they are valued by, in each kind of storage."""

import warnings
from dataclasses import replace

import optuna
import pytest
from ablation_bench import tiny_ablation
from optuna.distributions import check_distribution_compatibility
from optuna.storages import JournalStorage
from scheduling_bench import trials

from lab.ablation import Scale
from lab.arms import arm_values
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.ledger.storage import close_storage, view_storage
from lab.scheduling.ledger.trials import OTHER, Parameters

STORAGES = ["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.extra(postgres="psycopg"))]


@pytest.fixture(params=STORAGES)
def storage(request, bench):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new_database()
    return f"sqlite:///{bench.folder}/study.db" if request.param == "sqlite" else ""


def grown(bench, arms=("ar", "dlm", "late"), levels=(1000, 4000), seeds=2):
    """The tiny plan with other arms, levels and seeds."""
    values = {arm: arm_values("dlm" if arm == "dlm" else "ar") for arm in arms}
    scale = Scale({"data.unique_tokens": levels}, seeds=seeds, budget="no time")
    return bench.plan(ablation=tiny_ablation(arms=values, scales={"tiny": scale}))


def enqueue(bench, plan, storage=""):
    """Queue a plan's runs as a driver of its own does; the study's trials."""
    ledger = Ledger(bench.tree, "tiny-tiny", storage)
    ledger.enqueue(map(plan.job, plan.cells))
    found = ledger.storage.get_all_trials(0 if not storage else 1)
    ledger.close()
    return found


def metrics(tree, storage=""):
    view = view_storage(tree, storage)
    named = [study.system_attrs["study:metric_names"] for study in view.get_all_studies()]
    close_storage(view)
    return named


def test_a_trial_has_its_arm_level_and_seed(bench, storage):
    found = enqueue(bench, bench.plan(seeds=2), storage)
    assert [trial.params for trial in found] == [
        {"arm": cell.arm, **cell.level, "seed": cell.seed} for cell in bench.plan(seeds=2).cells
    ]
    assert {trial.distributions["arm"].choices for trial in found} == {("ar", "dlm", OTHER)}
    assert metrics(bench.tree, storage) == [["best validation NLL (nats/token)"]]


def test_a_later_plans_values_are_other_choices_of_the_same_parameters(bench, storage):
    before = enqueue(bench, bench.plan(), storage)
    late = enqueue(bench, grown(bench), storage)[len(before) :]
    assert len(late) == 10  # two of the twelve were queued before
    known = {"arm": {"ar", "dlm"}, "data.unique_tokens": {1000, 2000}}
    for trial in late:
        told = {"arm": trial.user_attrs["arm"], **trial.user_attrs["level"]}
        chosen = {name: value if value in known[name] else OTHER for name, value in told.items()}
        assert trial.params == {**chosen, "seed": trial.user_attrs["seed"]}
        for name, distribution in trial.distributions.items():
            check_distribution_compatibility(before[0].distributions[name], distribution)
    assert {OTHER, 1000} == {trial.params["data.unique_tokens"] for trial in late}


def test_a_level_may_be_anything(bench, storage):
    job = bench.plan().job(bench.plan().cells[0])
    values = [None, True, 20_000, 0.5, float("nan"), "left_to_right", [1, None]]
    factors = {"arm": ["ar"], "seed": [0], "key": values}
    jobs = [replace(job, key=str(n), level={"key": value}, factors=factors) for n, value in enumerate(values)]
    ledger = Ledger(bench.tree, "tiny-tiny", storage)
    assert ledger.enqueue(jobs[:5]) == 5
    ledger.close()
    ledger = Ledger(bench.tree, "tiny-tiny", storage)
    assert ledger.enqueue(jobs) == 2
    ledger.record_untried(replace(jobs[0], key="untried", level={"key": 0.25}), "not tuned", "so it is")
    found = [trial.params["key"] for trial in ledger.storage.get_all_trials(1 if storage else 0)]
    ledger.close()
    assert found == [None, True, 20_000, 0.5, "nan", "left_to_right", "[1, None]", OTHER]


def test_trials_of_before_there_were_parameters_stay_as_they_are(bench, storage, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("lab.scheduling.ledger.ledger.parameters", lambda job, known: Parameters({}, {}))
        enqueue(bench, bench.plan(), storage)
    found = enqueue(bench, bench.plan(seeds=2), storage)
    assert [bool(trial.params) for trial in found] == [False] * 4 + [True] * 4


def test_each_study_says_what_its_values_are_and_says_it_once(bench):
    plan = bench.plan(ablation=tiny_ablation(measurements={"inference": ""}))
    bench.drive(plan)
    assert bench.measure(plan).done == 4
    names = [["best validation NLL (nats/token)"], ["time taken (s)"]]
    assert metrics(bench.tree) == names
    assert [trial.params for trial in trials(bench.tree, "tiny-tiny-measurements")] == [
        {"arm": cell.arm, **cell.level, "seed": cell.seed} for cell in plan.cells
    ]
    ledger = Ledger(bench.tree, "tiny-tiny")
    sampler, pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
    ledger.beside("tuned", sampler, pruner)
    assert metrics(bench.tree) == [*names, names[0]]
    Ledger(bench.tree, "tiny-tiny").beside("tuned", sampler, pruner)
    assert (bench.tree / "study.journal").read_text().count("metric_names") == 3


def test_to_say_it_changes_no_filter_of_warnings_which_other_threads_share(bench, monkeypatch):
    real, shared, same = JournalStorage.set_study_system_attr, warnings.filters, []

    def write(*arguments):
        same.append(warnings.filters is shared)
        real(*arguments)

    monkeypatch.setattr(JournalStorage, "set_study_system_attr", write)
    Ledger(bench.tree, "tiny-tiny").close()
    assert same == [True]
