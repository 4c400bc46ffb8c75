import json
import re

import pytest
from report_pages import assert_needs_no_network_and_no_script, read_page

from lab.reporting import tuning
from lab.reporting.report import write_report
from lab.reporting.tree import read_tree
from lab.results import DamagedError
from lab.scheduling.tuning import driver as tuning_driver
from lab.scheduling.tuning import study as tuning_study
from lab.scheduling.tuning.tuning import SPACE, Range, Tuning
from lab.sections import Curves

pytestmark = pytest.mark.usefixtures("no_pictures")
RATE, DECAY, ATTENTION, MLP = (
    "training.learning_rate",
    "training.weight_decay",
    "model.attention_dropout",
    "model.mlp_dropout",
)
RANGES = {RATE: Range(1e-4, 1e-2, log=True), DECAY: Range(0.01, 3.2, log=True)}
RANGES |= {key: Range(0.0, 0.5, step=0.1) for key in (ATTENTION, MLP)}
SPEC = Tuning(6, RANGES).spec()
START = (1e-3, 0.1, 0.0, 0.0)


def trial(number, state, nll=None, values=START, reason=""):
    """A trial as the driver writes it; without those `values` that are None."""
    keys = (RATE, DECAY, ATTENTION, MLP)
    return {
        "trial": number,
        "round": number // 4,
        "state": state,
        "validation_nll": nll,
        "stops": {"done": 9, "ended early": 5}.get(state, 0),
        "tokens_seen": {"done": 9_000, "ended early": 5_000, "failed": 0}.get(state),
        "reason": reason,
        "values": {key: value for key, value in zip(keys, values, strict=True) if value is not None},
    }


def study(arm, trials, level=None, fixed=None):
    """A study as the driver writes it, whose best is the trial of lowest validation NLL."""
    done = [made for made in trials if made["validation_nll"] is not None]
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


AR = study(
    "ar",
    [
        trial(0, "done", 2.9),
        trial(1, "failed", values=(5e-3, 1.0, 0.2, 0.2), reason="exit code 1: no output"),
        trial(2, "done", 2.6, values=(9.5e-3, 0.3, 0.25, 0.0)),
        trial(3, "done", 2.7, values=(2e-3, 0.3, 0.1, 0.1)),
        trial(4, "ended early", 2.65, values=(1e-4, 0.3, 0.1, 0.1), reason="ended at stop 5 of 9"),
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
        tree = fake_sweep(arms=("ar", "dlm"), sections=(Curves(),), **values)
        tree.replan(lambda plan: plan.update(tuning=spec))
        content = {"schema": schema, "specification": spec, "studies": studies}
        tree.store(tree.path / "tuning.json", content)
        return tree

    return make


def told(tree):
    return tuning.write(read_tree(tree.path))


def shown(table):
    """The cells of a table as text."""
    return [["".join(cell[:2]) for cell in cells] for _, cells in table.cells]


def axes_of(content):
    return [axes for picture in content.pictures for panel in picture.panels for axes in panel.axes]


def test_the_format_is_that_of_the_driver():
    assert (tuning.FILE, tuning.SCHEMA) == (tuning_driver.FILE, tuning_driver.SCHEMA)
    assert set(tuning.STATES) == {*tuning_study.STATES.values(), tuning_study.ENDED_EARLY}
    assert {made["state"] for made in AR["trials"]} == set(tuning.STATES)


def test_each_study_is_told_with_how_its_trials_ended_and_its_best(tuned):
    content = told(tuned(AR, DLM))
    assert content.verdict == (
        "2 arms had 6 trials each: 5 done, 1 ended early, 1 failed and 1 not finished.",
    )
    assert shown(content.tables[0]) == [
        ["ar", "6", "3", "1", "1", "32,000", "2.900", "2.600", "0.0095 (edge)", "0.3", "0.25", "0"],
        ["dlm", "2", "2", "0", "0", "18,000", "2.750", "2.750", "0.001", "0.1", "0", "0.5 (own)"],
    ]


def test_an_arm_without_a_best_shows_dashes(tuned):
    content = told(tuned(HOPELESS, HOPELESS | {"fixed": {DECAY: 0.5}}))
    assert shown(content.tables[0]) == [
        ["ar", "6", "0", "0", "6", "0", "–", "–", "–", "–", "–", "–"],
        ["ar", "6", "0", "0", "6", "0", "–", "–", "–", "0.5 (own)", "–", "–"],
    ]
    assert [(row["learning_rate"], row["own"], row["edge"]) for row in content.tables[0].rows] == [
        (None, "", ""),
        (None, "weight_decay", ""),
    ]


def test_a_first_trial_that_failed_leaves_open_how_the_arm_stands(tuned):
    failed = study("ar", [trial(0, "failed"), trial(1, "done", 2.8, values=(2e-3, 0.1, 0.0, 0.0))])
    (row,) = shown(told(tuned(failed)).tables[0])
    assert row[1:8] == ["2", "1", "0", "1", "9,000", "–", "2.800"]


def test_levels_are_a_column_and_part_of_a_panels_title(tuned):
    studies = [DLM | {"level": {"data.unique_tokens": budget}} for budget in (20_000, 80_000)]
    content = told(tuned(*studies, budgets=(20_000, 80_000)))
    levels = ["20,000 unique tokens", "80,000 unique tokens"]
    assert [row[:2] for row in shown(content.tables[0])] == [["dlm", level] for level in levels]
    assert [row[:3] for row in shown(content.tables[1])] == [
        ["dlm", level, number] for level in levels for number in ("0", "1")
    ]
    (picture,) = content.pictures
    assert [text.removeprefix(picture.title) for text in picture.texts().values()] == [
        f": dlm at {level}" for level in levels
    ]
    assert content.verdict == ("One arm at 2 levels had 6 trials each: 4 done.",)


def test_the_specification_is_told_in_words(tuned):
    text = read_page(write_report(tuned(AR, DLM).path)).text
    for sentence in (
        "Each tuned arm had 6 trials of one run each, with seed 1000, which no decisive run has.",
        "Tried: learning rate from 0.0001 to 0.01 (logarithmic); weight decay from 0.01 to 3.2 "
        "(logarithmic); attention dropout from 0 to 0.5 in steps of 0.1; mlp dropout from 0 to 0.5 in "
        "steps of 0.1. The first trial is the arm as it stands. What an arm or its level sets keeps its "
        "value.",
        "Sampler: tpe (n_startup_trials 6, n_ei_candidates 24, multivariate True, group False, "
        "constant_liar True; seed 0), in rounds of 4, whose outcomes are recorded together.",
        "A trial ends early once 2 stops in a row are worse than the best before them, and counts with that "
        "best; it is compared with no other trial",
    ):
        assert sentence in text


def test_choices_are_told_and_have_no_edge(tuned):
    values = {RATE: 1e-3, "training.ema": "0.99", "masks": "stratified"}
    made = trial(0, "done", 2.5) | {"values": values}
    tree = tuned(study("dlm", [made]), spec=json.loads(json.dumps(Tuning(6).spec())))
    (row,) = told(tree).tables[0].rows
    assert (row["masks"], row["own"], row["edge"]) == ("stratified", "", "")
    assert "stratified" in shown(told(tree).tables[1])[0]
    text = read_page(write_report(tree.path)).text
    assert "; attention dropout (with mlp dropout the same) from 0 to 0.9 in steps of 0.1;" in text
    assert "; ema of 0.0, 0.99, 0.998;" in text
    assert "; masks of plain, stratified, complementary, middle, high (dense arms alone). The first" in text
    assert set(SPACE) == set(Tuning(6).spec()["space"])


def test_a_space_without_keys_is_said_to_be_that(tuned):
    tree = tuned(study("ar", []) | {"best": {}}, spec=SPEC | {"space": {}})
    content = told(tree)
    text = read_page(write_report(tree.path)).text
    assert "Tried: nothing, since the user set every value. The first" in text
    assert content.verdict == ("One arm had 6 trials: none yet.",)
    assert [shown(table) for table in content.tables] == [[["ar", "0", "0", "0", "0", "0", "–", "–"]], []]


def test_the_rows_of_the_studies_are_plain_values(tuned):
    ar, dlm = told(tuned(AR, DLM)).tables[0].rows
    assert ar == {
        "arm": "ar",
        "level": "",
        "trials": 6,
        "done": 3,
        "ended early": 1,
        "failed": 1,
        "not finished": 1,
        "tokens_seen": 32_000,
        "best_validation_nll": 2.6,
        "untuned_validation_nll": 2.9,
        "learning_rate": 9.5e-3,
        "weight_decay": 0.3,
        "attention_dropout": 0.25,
        "mlp_dropout": 0.0,
        "own": "",
        "edge": "learning_rate",  # no dropout is no end of a range: nothing lies below it
    }
    assert (dlm["mlp_dropout"], dlm["own"], dlm["edge"]) == (0.5, "mlp_dropout", "")


def test_every_trial_is_kept_with_all_its_values(tuned):
    _, trials = told(tuned(AR, DLM)).tables
    rows = trials.rows
    assert trials.name == "tuning"
    assert [(row["arm"], row["trial"]) for row in rows] == [
        *(("ar", number) for number in range(6)),
        *(("dlm", number) for number in range(2)),
    ]
    early = rows[4]
    assert (early["state"], early["validation_nll"], early["stops"]) == ("ended early", 2.65, 5)
    assert (early["round"], early["reason"]) == (1, "ended at stop 5 of 9")
    assert (rows[1]["state"], rows[1]["reason"]) == ("failed", "exit code 1: no output")
    assert [row["mlp_dropout"] for row in rows[5:]] == [0.1, 0.5, 0.5]
    assert rows[6]["weight_decay"] == 0.1
    assert shown(trials)[4] == ["ar", "4", "ended early", "2.650", "0.0001", "0.3", "0.1", "0.1"]


def test_the_figure_shows_each_trial_as_it_ended(tuned):
    content = told(tuned(AR, DLM))
    ar, dlm = axes_of(content)
    done, early, best, failed = (line.get_xydata().tolist() for line in ar.lines)
    assert done == [[0, 2.9], [2, 2.6], [3, 2.7]]
    assert early == [[4, 2.65]]
    assert best == [[0, 2.9], [2, 2.6], [3, 2.6], [4, 2.6]]
    assert [x for x, _ in failed] == [1]
    assert [line.get_marker() for line in ar.lines] == ["o", "v", "None", "x"]
    assert ar.get_xlim() == (-0.5, 5.5)
    assert ar.get_ylabel() == dlm.get_ylabel() == "Validation NLL (nats/token)"
    (picture,) = content.pictures
    assert list(picture.texts().values()) == [f"{picture.title}: {arm}" for arm in ("ar", "dlm")]


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_trials_are_counted_in_whole_numbers(count, tuned):
    (panel,) = axes_of(told(tuned(study("ar", [trial(number, "done", 2.9) for number in range(count)]))))
    ticks = panel.get_xticks()
    assert 1 <= len(ticks) <= 12
    assert all(tick == round(tick) for tick in ticks)


def test_the_page_has_it_as_its_last_section(tuned):
    hostile = AR | {"arm": "<script>alert(1)</script>"}
    tree = tuned(hostile, HOPELESS, study("dlm", []))
    report, content = write_report(tree.path), told(tree)
    assert_needs_no_network_and_no_script(report)
    page = read_page(report)
    for text in (*content.verdict, *content.certain, content.pictures[0].caption):
        assert text in page.text
    table = next(rows for rows in page.tables if "Ended early" in rows[0])
    assert table[1][0] == "<script>alert(1)</script>"
    assert "Arms under Tuning have their own learning rate and regularisation" in page.text
    assert "shared, not tuned for each arm" not in page.text
    assert "\nTrial" in page.text
    assert {"tuning.csv", "tuning_studies.csv", "tuning-3.svg", "tuning-3.png"} <= set(page.links)
    assert report.summary["plan"]["tuning"] == json.loads(json.dumps(SPEC))
    assert report.summary["tuning"]["tables"]["tuning"] == list(content.tables[1].rows)


@pytest.mark.parametrize("why", ["stale", "none yet", "no study yet"])
def test_a_tree_that_is_not_tuned_shows_nothing_of_it(tuned, fake_sweep, why):
    tree = tuned(*[AR, DLM] * (why != "no study yet"))
    if why == "stale":  # tuned once, and its plan asks for it no more
        fake_sweep(arms=("ar", "dlm"), sections=(Curves(title="Tuning"),))
    if why == "none yet":  # its first round has not ended yet
        (tree.path / "tuning.json").unlink()
    assert told(tree) is None
    report = write_report(tree.path)
    page = read_page(report)
    assert not [name for name in page.links if name.startswith("tuning")]
    assert not [table for table in page.tables if "Ended early" in table[0]]
    assert "Each tuned arm" not in page.text
    assert "shared, not tuned for each arm" in page.text
    assert not list(report.page.parent.glob("tuning*"))
    assert report.summary["tuning"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, r"`schema` must be 3, but got 2\."),
        ({"spec": SPEC | {"space": 3}}, r"not what the lab writes there \(specification\.space: "),
    ],
)
def test_another_schema_and_damage_are_named_and_the_rest_is_shown(tuned, changes, said):
    tree = tuned(AR, **changes)
    with pytest.raises(DamagedError, match=rf"tuning\.json: {said}"):
        told(tree)
    report = write_report(tree.path)
    assert re.search(
        rf"Tuning is not shown\. .*tuning\.json: {said}.* The same command", read_page(report).text
    )
    assert report.summary["tuning"] is None
    assert len(report.summary["sections"]) == 1


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
    bounds = tuning.Bounds(kind="range", low=low, high=high, log=log, step=None, also=())
    assert bounds.at_edge(value) is expected
