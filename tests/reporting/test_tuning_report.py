import csv
import io
import json
import re

import pytest
from report_pages import assert_needs_no_network_and_no_script, read_page

from lab.reporting import tuning
from lab.reporting.report import write_report
from lab.reporting.results import read_tree
from lab.scheduling import tuning_driver, tuning_study
from lab.scheduling.tuning import Tuning

RATE, DECAY, ATTENTION, MLP = (
    "training.learning_rate",
    "training.weight_decay",
    "model.attention_dropout",
    "model.mlp_dropout",
)
SPEC = Tuning(6).spec()
START = (1e-3, 0.1, 0.0, 0.0)


def trial(number, state, nll=None, stopped=None, values=START, reason=""):
    """A trial as the driver writes it; without those `values` that are None."""
    keys = (RATE, DECAY, ATTENTION, MLP)
    return {
        "trial": number,
        "round": number // 4,
        "state": state,
        "validation_nll": nll,
        "validation_nll_when_stopped": stopped,
        "stops": {"done": 9, "censored": 5}.get(state, 0),
        "tokens_seen": {"done": 9_000, "censored": 5_000, "failed": 0}.get(state),
        "reason": reason,
        "values": {key: value for key, value in zip(keys, values, strict=True) if value is not None},
    }


def study(arm, trials, level=None, fixed=None):
    """A study as the driver writes it, whose best is the done trial of lowest validation NLL."""
    done = [made for made in trials if made["state"] == "done"]
    best = min(done, key=lambda made: made["validation_nll"])["values"] if done else None
    return {
        "arm": arm,
        "level": level or {},
        "study": f"tiny-tuning-{arm}-0123abcd",
        "fixed": fixed or {},
        "start": trials[0]["values"] if trials else {},
        "best": best,
        "trials": trials,
    }


# The censored trial had once been lower than any that was done.
AR = study(
    "ar",
    [
        trial(0, "done", 2.9),
        trial(1, "failed", values=(5e-3, 1.0, 0.2, 0.2), reason="exit code 1: no output"),
        trial(2, "done", 2.6, values=(9.5e-3, 0.3, 0.25, 0.0)),
        trial(3, "done", 2.7, values=(2e-3, 0.3, 0.1, 0.1)),
        trial(4, "censored", stopped=2.5, values=(1e-4, 0.3, 0.1, 0.1), reason="stopped at stop 5 of 9"),
        trial(5, "not finished", values=(3e-3, 0.3, 0.1, 0.1)),
    ],
)
DLM = study(
    "dlm",
    [
        trial(0, "done", 2.75, values=(1e-3, 0.1, 0.0, None)),
        trial(1, "done", 2.8, values=(2e-3, 0.2, 0.1, None)),
    ],
    fixed={MLP: 0.5},
)
HOPELESS = study("ar", [trial(number, "failed", reason="out of memory") for number in range(6)])


@pytest.fixture
def tuned(fake_sweep):
    """Make a tree whose arms were tuned: `tuned(AR, DLM)`; other values are those of the tree."""

    def make(*studies, spec=SPEC, schema=tuning.SCHEMA, **values):
        tree = fake_sweep(arms=("ar", "dlm"), contrasts={"dlm": "ar"}, **values)
        tree.replan(lambda plan: plan.update(tuning=spec))
        content = {"schema": schema, "specification": spec, "studies": studies}
        tree.store(tree.path / "tuning.json", content)
        return tree

    return make


def tuning_table(report):
    """The page's table of the studies, without its head."""
    (table,) = (rows for rows in read_page(report).tables if "Censored" in rows[0])
    assert len({len(row) for row in table}) == 1
    return table[1:]


def read_csv(report):
    return list(csv.DictReader(io.StringIO((report.page.parent / "tuning.csv").read_text())))


def test_the_format_is_that_of_the_driver():
    assert (tuning.FILE, tuning.SCHEMA) == (tuning_driver.FILE, tuning_driver.SCHEMA)
    assert set(tuning.STATES) == set(tuning_study.STATES.values())
    assert {made["state"] for made in AR["trials"]} == set(tuning.STATES)


def test_the_page_shows_each_study_with_how_its_trials_ended_and_its_best(tuned):
    assert tuning_table(write_report(tuned(AR, DLM).path)) == [
        ["ar", "6", "3", "1", "1", "32,000", "2.900", "2.600", "0.0095 (edge)", "0.3", "0.25", "0"],
        ["dlm", "2", "2", "0", "0", "18,000", "2.750", "2.750", "0.001", "0.1", "0", "0.5 (own)"],
    ]


def test_an_arm_without_a_best_shows_dashes(tuned):
    own = HOPELESS | {"fixed": {DECAY: 0.5}}
    report = write_report(tuned(HOPELESS, own).path)
    assert tuning_table(report) == [
        ["ar", "6", "0", "0", "6", "0", "–", "–", "–", "–", "–", "–"],
        ["ar", "6", "0", "0", "6", "0", "–", "–", "–", "0.5 (own)", "–", "–"],
    ]
    assert report.summary["tuning"][0]["learning_rate"] == {"value": None, "own": False, "edge": False}


def test_a_first_trial_that_failed_leaves_open_how_the_arm_stands(tuned):
    failed = study("ar", [trial(0, "failed"), trial(1, "done", 2.8, values=(2e-3, 0.1, 0.0, 0.0))])
    (row,) = tuning_table(write_report(tuned(failed).path))
    assert row[1:8] == ["2", "1", "0", "1", "9,000", "–", "2.800"]


def test_levels_are_a_column_and_part_of_a_panels_title(tuned):
    studies = [DLM | {"level": {"data.unique_tokens": budget}} for budget in (20_000, 80_000)]
    tree = tuned(*studies, budgets=(20_000, 80_000))
    names = ["unique_tokens=20000", "unique_tokens=80000"]
    assert [row[:2] for row in tuning_table(write_report(tree.path))] == [["dlm", name] for name in names]
    panels = tuning.draw(studies).axes
    assert [panel.get_title() for panel in panels] == [f"dlm {name}" for name in names]


def test_the_page_tells_the_specification_in_words(tuned):
    text = read_page(write_report(tuned(AR, DLM).path)).text
    for sentence in (
        "Each tuned arm had 6 trials of one run each, with seed 1000, which no decisive run has.",
        "Tried: learning rate from 0.0001 to 0.01 (logarithmic), weight decay from 0.01 to 3.2 "
        "(logarithmic), attention dropout from 0 to 0.5 in steps of 0.1 and mlp dropout from 0 to 0.5 in "
        "steps of 0.1. The first trial is the arm as it stands. What an arm or its level sets keeps its "
        "value.",
        "Sampler: tpe (n_startup_trials 6, n_ei_candidates 24, multivariate True, group False, "
        "constant_liar True; seed 0), in rounds of 4, whose outcomes are told together.",
        "Pruner: median of the trials finished in earlier rounds (n_startup_trials 4, n_warmup_steps 3, "
        "interval_steps 1, n_min_trials 4; steps are stops, counted from 0; a trial counts with its "
        "lowest loss up to there).",
        "A trial that was stopped early is censored: what it had reached is shown, and enters no average",
        "Arms under Tuning have their own learning rate and regularisation",
    ):
        assert sentence in text
    assert "shared, not tuned for each arm" not in text


def test_a_space_without_keys_is_said_to_be_that(tuned):
    nothing = study("ar", []) | {"best": {}}
    report = write_report(tuned(nothing, spec=SPEC | {"space": {}}).path)
    assert "Tried: nothing, since the user set every value." in read_page(report).text
    assert tuning_table(report) == [["ar", "0", "0", "0", "0", "0", "–", "–"]]
    assert read_csv(report) == []


def test_the_summary_holds_the_studies_and_the_specification(tuned):
    report = write_report(tuned(AR, DLM).path)
    summary = json.loads((report.page.parent / "summary.json").read_text())
    assert summary["plan"]["tuning"] == json.loads(json.dumps(SPEC))
    ar, dlm = summary["tuning"]
    assert {name: value for name, value in ar.items() if not isinstance(value, dict)} == {
        "arm": "ar",
        "level": "",
        "trials": 6,
        "done": 3,
        "censored": 1,
        "failed": 1,
        "not finished": 1,
        "tokens_seen": 32_000,
        "best_validation_nll": 2.6,
        "untuned_validation_nll": 2.9,
    }
    assert ar["learning_rate"] == {"value": 9.5e-3, "own": False, "edge": True}
    assert ar["mlp_dropout"] == {"value": 0.0, "own": False, "edge": False}  # nothing lies below zero
    assert dlm["mlp_dropout"] == {"value": 0.5, "own": True, "edge": False}  # its own, so no end of a range


def test_the_csv_has_every_trial_with_all_its_values(tuned):
    report = write_report(tuned(AR, DLM).path)
    rows = read_csv(report)
    assert [(row["arm"], int(row["trial"])) for row in rows] == [
        *(("ar", number) for number in range(6)),
        *(("dlm", number) for number in range(2)),
    ]
    censored = rows[4]
    assert (censored["state"], censored["validation_nll"]) == ("censored", "")
    assert (censored["validation_nll_when_stopped"], censored["stops"]) == ("2.5", "5")
    assert (censored["round"], censored["reason"]) == ("1", "stopped at stop 5 of 9")
    assert (rows[1]["state"], rows[1]["reason"]) == ("failed", "exit code 1: no output")
    assert [row["mlp_dropout"] for row in rows[5:]] == ["0.1", "0.5", "0.5"]
    assert float(rows[6]["weight_decay"]) == 0.1
    assert "tuning.csv" in read_page(report).links


def test_the_figure_shows_each_trial_as_it_ended(tuned):
    ar, dlm = tuning.draw([AR, DLM]).axes
    done, censored, best, failed = (line.get_xydata().tolist() for line in ar.lines)
    assert done == [[0, 2.9], [2, 2.6], [3, 2.7]]
    assert censored == [[4, 2.5]]
    assert best == [[0, 2.9], [2, 2.6], [3, 2.6]]  # a censored trial is no best
    assert [x for x, _ in failed] == [1]
    assert [line.get_marker() for line in ar.lines] == ["o", "v", "None", "x"]
    assert ar.get_xlim() == (-0.5, 5.5)
    assert (ar.get_title(), dlm.get_title()) == ("ar", "dlm")
    assert (ar.get_ylabel(), dlm.get_ylabel()) == ("Validation NLL\n(nats/token)", "")
    assert ar.get_ylim() == dlm.get_ylim()


@pytest.mark.parametrize(("count", "panels"), [(1, 2), (2, 2), (4, 4), (5, 8)])
def test_the_figure_leaves_panels_without_a_study_empty(count, panels):
    axes = tuning.draw([AR] * count).axes
    assert len(axes) == panels
    assert [panel.axison for panel in axes] == [number < count for number in range(panels)]
    named = [number for number, panel in enumerate(axes) if panel.get_ylabel()]
    assert named == list(range(0, count, 4))


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_trials_are_counted_in_whole_numbers(count):
    panel, *_ = tuning.draw([study("ar", [trial(number, "done", 2.9) for number in range(count)])]).axes
    ticks = panel.get_xticks()
    assert 1 <= len(ticks) <= 12
    assert all(tick == round(tick) for tick in ticks)


def test_the_page_carries_the_figure_and_needs_no_network(tuned):
    hostile = AR | {"arm": "<script>alert(1)</script>"}
    report = write_report(tuned(hostile, HOPELESS, study("dlm", [])).path)
    assert_needs_no_network_and_no_script(report)
    assert tuning_table(report)[0][0] == "<script>alert(1)</script>"
    for name in ("tuning.svg", "tuning.png"):
        assert name in read_page(report).links
        assert (report.page.parent / name).stat().st_size > 1000


def test_writing_twice_gives_the_same_bytes(tuned):
    tree = tuned(AR, DLM)
    folder = write_report(tree.path).page.parent
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(tree.path)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stale", [False, True])
def test_a_tree_that_is_not_tuned_shows_nothing_of_it(tuned, fake_sweep, stale):
    tree = tuned(AR, DLM)
    if stale:  # tuned once, and its plan asks for it no more
        fake_sweep(arms=("ar", "dlm"), contrasts={"dlm": "ar"})
    else:  # its first round has not ended yet
        (tree.path / "tuning.json").unlink()
    report = write_report(tree.path)
    page = read_page(report)
    assert not [name for name in page.links if "tuning" in name]
    assert not [table for table in page.tables if "Censored" in table[0]]
    assert "Each tuned arm" not in page.text
    assert "shared, not tuned for each arm" in page.text
    assert not list(report.page.parent.glob("tuning*"))
    assert report.summary["tuning"] is None


def test_another_schema_is_refused(tuned):
    tree = tuned(AR, schema=3)
    with pytest.raises(ValueError, match=r"tuning\.json: `schema` must be 2, but got 3\."):
        tuning.read_tuning(read_tree(tree.path))
    report = write_report(tree.path)
    said = r"Tuning is not shown\. .*tuning\.json: `schema` must be 2, but got 3\. The same command makes it"
    assert re.search(said, read_page(report).text)
    assert report.summary["tuning"] is None
    assert report.summary["verdicts" if "verdicts" in report.summary else "contrasts"]


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (9.0e-3, (1e-4, 1e-2, True), True),
        (7.0e-3, (1e-4, 1e-2, True), False),  # in its logarithm 92 % of the way
        (1.2e-4, (1e-4, 1e-2, True), True),
        (1.3e-4, (1e-4, 1e-2, True), False),
        (0.01, (0.01, 3.2, True), True),
        (0.48, (0.0, 0.5, False), True),
        (0.47, (0.0, 0.5, False), False),
        (0.0, (0.0, 0.5, False), False),
        (0.11, (0.1, 0.5, False), True),
        (0.2, (0.2, 0.2, False), False),  # a range of one value has no inside
    ],
)
def test_an_end_of_a_range_is_a_twentieth_of_it_and_zero_is_none(value, bounds, expected):
    low, high, log = bounds
    assert tuning.at_edge(value, {"low": low, "high": high, "log": log}) is expected
