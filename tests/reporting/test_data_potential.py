"""Against curves whose potential is known: the fake AR's best falls by 0.3 a doubling of its budget."""

import math

import pytest
from fake_trees import set_nll
from report_pages import read_page

from lab.metrics import find_metric
from lab.reporting import data_potential
from lab.reporting.data_potential import Potential, budget_to_reach
from lab.reporting.report import write_report
from lab.reporting.sections import differences, quantity
from lab.reporting.tree import read_tree
from lab.results import Measured, MeasurementResult, Task, measurement_folder, write_record
from lab.sections import Against, Curves, Differences, Quantity, pairs

NLL, GAP = find_metric("nll"), find_metric("option_gap")
SECTION = Quantity(names=("data_potential",), reference="ar")
BUDGETS = (0.5, 1.0, 2.0, 4.0)
FALLING = (4.0, 3.0, 2.0, 1.5)
NOISY = (4.0, 2.0, 3.0, 1.0)  # the middle two are pooled to 2.5
LEVEL = (3.0, 2.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        # On the grid, the edges too.
        *[(FALLING, value, budget) for value, budget in zip(FALLING, BUDGETS, strict=True)],
        # Between its points, in the logarithm.
        (FALLING, 2.5, math.sqrt(2)),
        (FALLING, 3.75, 0.5 * 2**0.25),
        (FALLING, 1.75, math.sqrt(8)),
        # Not monotone: the pooled value at the first budget that has it, and linear to both sides of it.
        (NOISY, 2.5, 1.0),
        (NOISY, 3.25, math.sqrt(0.5)),
        (NOISY, 2.0, 2 * 2 ** (1 / 3)),
        (LEVEL, 2.0, 1.0),
    ],
)
def test_a_budget_is_read_off_the_falling_curve_linearly_in_its_logarithm(values, target, expected):
    low, high = budget_to_reach(BUDGETS, values, target)
    assert low == high == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "target", "bounds"),
    [
        (FALLING, 4.01, (0.0, 0.5)),
        (FALLING, 1.49, (4.0, math.inf)),
        ((1.0, 2.0, 3.0, 4.0), 2.6, (0.0, 0.5)),  # pooled to 2.5 throughout
        ((1.0, 2.0, 3.0, 4.0), 2.4, (4.0, math.inf)),
    ],
)
def test_outside_the_budgets_there_is_a_bound_and_no_extrapolation(values, target, bounds):
    assert budget_to_reach(BUDGETS, values, target) == bounds
    one = (0.0, 2.0) if target > values[1] else (2.0, math.inf)
    assert budget_to_reach((2.0,), values[1:2], target) == one


def test_a_seed_counts_that_the_arm_and_every_budget_have():
    budgets = {100: {0: 3.0, 1: 3.0, 2: 3.0}, 400: {0: 1.0, 1: 1.0}}
    made = data_potential.data_potential({0: 2.0, 2: 2.0, 3: 2.0}, 100, budgets, NLL)
    assert made.by_seed == {0: pytest.approx((2.0, 2.0))}
    assert data_potential.data_potential({3: 2.0}, 100, budgets, NLL) == Potential({})
    # Where higher is better the curve rises.
    gaps = {100: {0: 0.1}, 400: {0: 0.3}}
    assert data_potential.data_potential({0: 0.2}, 50, gaps, GAP).by_seed[0] == pytest.approx((4.0, 4.0))
    assert data_potential.data_potential({0: 0.4}, 50, gaps, GAP).by_seed[0] == (8.0, math.inf)


def known(*values):
    return {seed: (value, value) for seed, value in enumerate(values)}


def test_the_mean_is_geometric_and_its_interval_from_resampled_seeds():
    made = Potential(known(1.0, 2.0, 16.0))
    assert made.mean == pytest.approx(2 ** (5 / 3))
    assert made.median == pytest.approx((2.0, 2.0))
    # Of three values a resample is all the lowest with chance 1/27 > 2.5 %, and so is one of the highest.
    assert made.interval == pytest.approx((1.0, 16.0))
    twenty = Potential(known(*[2.0**place for place in range(20)]))
    low, high = map(math.log2, twenty.interval)
    error = math.sqrt((20**2 - 1) / 12 / 20)  # of the mean of 0 to 19
    assert (low, high) == pytest.approx((9.5 - 1.96 * error, 9.5 + 1.96 * error), abs=0.1)
    assert twenty.interval == Potential(twenty.by_seed).interval
    assert Potential(known(3.0)).interval is Potential(known(2.0, 2.0)).interval is None


BELOW, BEYOND = (0.0, 0.5), (8.0, math.inf)


@pytest.mark.parametrize(
    ("bounded", "median", "counts"),
    [
        ([BELOW, (2.0, 2.0), (4.0, 4.0)], (2.0, 2.0), (1, 0)),
        ([BELOW, (2.0, 2.0), BEYOND], (2.0, 2.0), (1, 1)),
        ([BELOW, BELOW, (4.0, 4.0)], (0.0, 0.5), (2, 0)),
        ([BEYOND, (2.0, 2.0)], (4.0, math.inf), (0, 1)),  # above sqrt(2 * 8)
        ([BELOW, (2.0, 2.0)], (0.0, 1.0), (1, 0)),
        ([BELOW, BEYOND], (0.0, math.inf), (1, 1)),
    ],
)
def test_where_a_seed_has_only_a_bound_there_is_a_median_and_no_mean(bounded, median, counts):
    made = Potential(dict(enumerate(bounded)))
    assert (made.mean, made.interval) == (None, None)
    assert made.median == pytest.approx(median)
    assert (made.below, made.beyond) == counts


def told(tree, section=SECTION):
    content = quantity.write(section, read_tree(tree.path), "quantity")
    return content, [[" ".join(filter(None, cell[:2])) for cell in row] for _, row in content.tables[0].cells]


def test_every_arm_is_told_at_its_budgets_in_budgets_that_the_reference_has_alone_too(fake_tree):
    # The DLM ends at 2.55 and 2.53, the AR's best at 20,000 is 2.70 and 2.71: half and 0.6 of a doubling.
    content, cells = told(fake_tree(budgets=(20_000, 80_000), alone=(40_000,)))
    potentials = [2**0.55, 2**-1.45]
    assert [row["geometric_mean"] for row in content.tables[0].rows] == pytest.approx(potentials)
    assert content.tables[0].rows[0]["by_seed"] == {
        "0": pytest.approx([2**0.5] * 2),
        "1": pytest.approx([2**0.6] * 2),
    }
    needs = "AR at its best needs 1.46 [1.41 to 1.52] times the unique tokens."
    assert content.verdict[0] == f"To reach DLM's NLL at 20,000 unique tokens {needs}"
    assert cells == [
        ["20,000 unique tokens", "dlm", "2", "1.46 1.41 to 1.52", "0", "0"],
        ["80,000 unique tokens", "dlm", "2", "0.366 0.354 to 0.379", "0", "0"],
    ]
    assert content.certain[0] == "Over 2 seeds, AR at 20,000, 40,000 and 80,000 unique tokens."
    assert "bootstrap interval is too narrow" in content.certain[1]
    assert [table.name for table in content.tables] == ["quantity", "quantity_along_run"]


@pytest.mark.parametrize(
    ("alone", "start", "size", "value", "counts"),
    [
        # 40,000: 2.40 and 2.41.
        ((40_000,), 3.9, "more than 2 times the unique tokens (median; beyond", "> 2", (0, 2)),
        ((40_000,), 4.6, "less than 1 times the unique tokens (median; below", "< 1", (2, 0)),
        # 10,000: 3.00 and 3.01, 40,000: 2.40 and 2.41, against 2.41 and 2.39.
        ((10_000, 40_000), 4.01, "more than 1.98 times the unique tokens (median; beyond", "> 1.98", (0, 1)),
    ],
)
def test_bounds_are_told_as_bounds(fake_tree, alone, start, size, value, counts):
    content, cells = told(fake_tree(budgets=(20_000,), alone=alone, dlm_start=start))
    where = f"the {'largest' if counts[1] else 'smallest'} budget in {max(counts)} of 2 seeds)."
    assert content.verdict[0].endswith(f"needs {size} {where}")
    assert (cells[0][3], tuple(map(int, cells[0][4:]))) == (value, counts)
    assert content.tables[0].rows[0]["geometric_mean"] is None


def test_of_one_seed_no_median_is_told(fake_tree):
    content, _ = told(fake_tree(budgets=(20_000,), seeds=(0,)))
    needs = "needs more than 1 times the unique tokens (beyond the largest budget in 1 of 1 seeds)."
    assert content.verdict[0].endswith(needs)
    assert len(content.certain) == 1  # there is no interval


def test_a_seed_that_lacks_a_budget_is_left_out_and_without_seeds_nothing_is_known(fake_tree):
    tree = fake_tree(budgets=(20_000,), alone=(40_000,))
    tree.fail("ar", 40_000, 0, "lost")
    content, cells = told(tree)
    assert list(content.tables[0].rows[0]["by_seed"]) == ["1"]
    tree.fail("ar", 40_000, 1, "lost")
    content, cells = told(tree)
    assert content.verdict[0].startswith("DLM's data potential at 20,000 unique tokens is not known")
    assert (cells[0][2:4], content.certain) == (["0", "not known"], ())


def test_the_budgets_are_those_that_the_reference_is_planned_at(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000))
    tree.replan(
        lambda plan: plan.update(
            cells=[c for c in plan["cells"] if (c["arm"], c["level"]) != ("ar", tree.level(80_000))]
        )
    )
    content, _ = told(tree)
    potentials = [row["geometric_mean"] for row in content.tables[0].rows]
    assert potentials == pytest.approx([2**0.55, 2**-0.45, 2**-1.45])


def test_a_reference_without_the_arms_other_levels_has_the_budgets_that_it_has(fake_tree):
    """As AR beside an arm of several sizes of blocks, which AR has not."""
    tree = fake_tree(budgets=(20_000, 80_000), alone=(40_000,))
    expected, _ = told(tree)

    def in_blocks(plan):
        for cell in plan["cells"]:
            cell["level"]["factors.block"] = 4 if cell["arm"] == "dlm" else "window"

    tree.replan(in_blocks)
    found, _ = told(tree)
    assert [row["by_seed"] for row in found.tables[0].rows] == [
        row["by_seed"] for row in expected.tables[0].rows
    ]


def test_runs_on_other_held_out_text_are_not_compared(fake_tree):
    tree = fake_tree(budgets=(20_000,), alone=(40_000,))
    tree.edit("ar", 40_000, 1, lambda result: result["data"]["hashes"].update(test="other"))
    with pytest.raises(ValueError, match=r"runs at all levels must have the same held-out text"):
        told(tree)
    loose = SECTION.model_copy(update={"matched": ()})
    assert len(told(tree, loose)[0].verdict) == 1


def test_the_stop_is_chosen_on_validation_and_its_test_value_counts(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,), alone=(40_000,))

    def better_on_test_alone(result):
        set_nll(result, 8, 9.0)
        result["stops"][8]["measured"][-1]["values"]["nll"] = 0.1

    tree.edit("ar", 40_000, 0, better_on_test_alone)
    assert told(tree)[0].tables[0].rows[0]["geometric_mean"] == pytest.approx(2**0.5)


def ensemble_of_ar(tree, budget, gain):
    """Plan and measure an ensemble of two at one budget, better than the AR alone."""

    def plan(plan):
        plan["ensembles"] = {"ar_ensemble": "ar"}
        own = [c for c in plan["cells"] if (c["arm"], c["level"]) == ("ar", tree.level(budget))]
        plan["cells"] += [{**cell, "role": "member", "logdir": f"{cell['logdir']},member=1"} for cell in own]

    tree.replan(plan)
    for seed in tree.seeds:
        result = tree.result("ar", budget, seed)
        best = result.reference(result.best())
        nll = result.best().test["nll"] - gain
        row = Measured(
            key=f"{seed}",
            task=Task(measurement="ensemble", split="test"),
            stops=(best, best.model_copy(update={"run": "member"})),
            values={"nll": nll},
        )
        made = MeasurementResult(
            measurement="ensemble",
            wanted="all",
            code="feed",
            stops=row.stops,
            tokens_seen=result.best().tokens_seen,
            epoch=result.best().epoch,
            process=result.process,
            wall_seconds=1.0,
            rows=(row,),
        )
        logdir = tree.logdir("ar", budget, seed).relative_to(tree.path).as_posix()
        write_record(tree.path / measurement_folder(logdir, "ensemble") / "result.json", made)


def test_an_ensemble_is_told_where_it_is_planned_and_nowhere_else(fake_tree):
    tree = fake_tree(budgets=(20_000,), alone=(40_000,))
    ensemble_of_ar(tree, 20_000, 0.15)
    content, cells = told(tree)
    assert [(row[1], row[3]) for row in cells[:2]] == [("dlm", "1.46 1.41 to 1.52"), ("ar_ensemble", "1.41")]
    assert len(cells) == 2
    other = content.tables[1]
    assert [row["arm"] for row in other.rows] == ["dlm"]  # under the other reading nothing is measured
    compared = Differences(contrasts=pairs({"ar_ensemble": "ar"}))
    made = differences.write(compared, read_tree(tree.path), "differences").tables[0]
    assert [(row["level"], row["seeds"]) for row in made.rows] == [("unique_tokens=20000", 2)]


@pytest.mark.usefixtures("no_pictures")
def test_a_page_has_no_empty_row_where_an_arm_is_alone(fake_tree):
    sections = (
        Curves(against={"dlm": "ar"}, marks=("best", "crossing")),
        Differences(contrasts=pairs({"dlm": "ar"})),
        Quantity(names=("crossing", "equal_tokens"), reference="ar"),
        SECTION,
        Against(x="data.unique_tokens"),
    )
    tree = fake_tree(budgets=(20_000, 80_000), alone=(10_000, 40_000), sections=sections)
    report = write_report(tree.path)
    assert report.summary["warnings"] == []
    shown = {
        name: {(row["level"], row["arm"]) for row in rows}
        for section in report.summary["sections"]
        for name, rows in section["tables"].items()
    }
    both = {(f"unique_tokens={budget}", "dlm") for budget in (20_000, 80_000)}
    for name in ("differences_nll", "quantity_1", "quantity_2"):
        assert shown[name] == both
    everywhere = both | {(f"unique_tokens={10_000 * 2**place}", "ar") for place in range(4)}
    assert shown["against"] == everywhere
    assert {(row["level"], row["arm"]) for row in report.summary["arms"]} == everywhere
    assert "not compared" not in read_page(report).text
    assert len(list(report.page.parent.glob("curves_nll_epoch*.svg"))) == 2


@pytest.mark.parametrize(
    "wanted",
    [{"names": ("data_potential", "onset")}, {"names": ("data_potential",), "measurement": "choice"}],
)
def test_it_stands_alone(wanted):
    with pytest.raises(ValueError, match=r"data_potential must have that name alone and no `measurement`"):
        Quantity(reference="ar", **wanted)
    with pytest.raises(ValueError, match=r"must name the `reference` arm"):
        Quantity(names=("data_potential",))
