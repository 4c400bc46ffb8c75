import math
from dataclasses import dataclass

import numpy as np
import pytest
from fake_trees import FakeTree, set_nll
from scipy.stats import linregress, t

from lab.reporting import drawing
from lab.reporting.sections import fit
from lab.reporting.tree import read_tree
from lab.sections import Fit

UNIQUE = "data.unique_tokens"
EXPONENTS = {"ar": (-0.3, -0.28, -0.32), "dlm": (-0.1, -0.1, -0.1)}
LAW = Fit(y="nll", x=(UNIQUE,))


@dataclass
class Powers(FakeTree):
    """The test NLL at the best stop is c (U / 20,000) ** b (passes / 1) ** 0.5, exactly, b of each seed.

    The best stop is where `FakeTree` has it: the AR's after 16 epochs.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    passes: tuple[float, ...] = (1.0, 1.0, 1.0)

    def metrics(self, arm, tokens, budget, seed, reading):
        found = super().metrics(arm, tokens, budget, seed, reading)
        own = (budget / 20_000) ** EXPONENTS[arm][seed] * self.passes[self.budgets.index(budget)] ** 0.5
        # Away from the best stop worse, so that this is the value there.
        best = min(16.0 if arm == "ar" else math.inf, 5_120_000 / budget)
        value = (3.0 + 0.1 * seed) * own * (1 + 0.01 * abs(math.log2(tokens / budget / best)))
        return found | {"nll": value}

    def measured(self, stop, split, values):
        # Both splits measure the same.
        return super().measured(
            stop, split, values | ({"nll": values["nll"] - 0.03} if split == "test" else {})
        )


@pytest.fixture
def powers(tmp_path):
    def make(**values):
        return Powers(tmp_path / "results" / "scaling" / "laptop", **values).write()

    return make


def written(section, tree):
    return fit.write(section, read_tree(tree.path), "fit")


def rows(section, tree):
    return {(row["arm"], row["x"]): row for row in written(section, tree).tables[0].rows}


def test_the_exponent_of_every_seed_is_recovered(powers):
    tree = powers()
    content = written(LAW, tree)
    ar, dlm = content.tables[0].rows
    assert ar["by_seed"] == pytest.approx(dict(zip("012", EXPONENTS["ar"], strict=True)))
    assert (ar["levels"], ar["seeds"], ar["exponent"]) == (3, 3, pytest.approx(-0.3))
    half = 4.302653 * 0.02 / math.sqrt(3)  # the t quantile of two degrees of freedom
    assert (ar["interval_low"], ar["interval_high"]) == pytest.approx((-0.3 - half, -0.3 + half))
    assert dlm["interval_low"] is None  # no spread
    assert content.verdict == (
        "AR: test NLL goes as unique tokens to the power −0.300 [−0.350 to −0.250].",
        "DLM: test NLL goes as unique tokens to the power −0.100.",
    )
    assert [cells[-1][:2] for _, cells in content.tables[0].cells] == [
        ("−0.300", "−0.350 to −0.250"),
        ("−0.100", ""),
    ]
    assert content.title == "How test NLL scales"


def test_the_line_is_the_fitted_law_and_the_axes_are_logarithmic(powers):
    (panel,) = written(LAW, powers()).pictures[0].panels
    ax = panel.axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Unique tokens", "Test NLL (nats/token)")
    (line,) = [one for one in ax.lines if one.get_linewidth() == 1.8 and one.get_color() == drawing.WORSE]
    law = [(3.0 * 3.1 * 3.2) ** (1 / 3) * 4 ** (-0.3 * step) for step in range(3)]
    assert list(line.get_ydata()) == pytest.approx(law)
    assert {text.get_text() for text in ax.texts} == {"AR", "DLM"}


def test_a_level_held_out_is_predicted_and_does_not_pull_the_fit(powers):
    tree = powers(passes=(1.0, 1.0, 1.21))  # at the largest budget 1.1 times what the law says
    section = LAW.model_copy(update={"held_out": {UNIQUE: 320_000}})
    row = rows(section, tree)["ar", UNIQUE]
    assert (row["levels"], row["exponent"]) == (2, pytest.approx(-0.3))
    law = (3.0 * 3.1 * 3.2) ** (1 / 3) * 16**-0.3
    assert row["predicted"] == {"320,000 unique tokens": pytest.approx([law, 1.1 * law])}
    content = written(section, tree)
    assert content.tables[0].cells[0][1][-1][0] == (
        f"320,000 unique tokens: {law:.3f} [1.170 to 1.555], measured {1.1 * law:.3f} (2 of 3 runs within)"
    )
    ax = content.pictures[0].panels[0].axes[0]
    (line,) = [one for one in ax.lines if one.get_linewidth() == 1.8 and one.get_color() == drawing.WORSE]
    assert list(line.get_ydata())[-1] == pytest.approx(law)
    assert "Hollow: held out." in content.pictures[0].caption
    assert sum(one.get_fillstyle() == "none" for one in ax.lines) == 2


def test_two_factors_have_an_exponent_each(powers):
    tree = powers(budgets=(20_000, 40_000, 80_000, 160_000), passes=(1.0, 3.0, 9.0, 1.0))

    def change(plan):
        for cell in plan["cells"]:
            cell["level"]["model.loops"] = int(tree.passes[tree.budgets.index(cell["level"][UNIQUE])])

    tree.replan(change)
    content = written(Fit(y="nll", x=(UNIQUE, "model.loops")), tree)
    assert [row["exponent"] for row in content.tables[0].rows] == pytest.approx([-0.3, 0.5, -0.1, 0.5])
    assert content.pictures == ()
    assert content.verdict[1] == (
        "DLM: test NLL goes as unique tokens to the power −0.100 and loops to the power +0.500."
    )


def test_the_onset_of_overfitting_is_fitted(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000), seeds=(0, 1))
    found = rows(Fit(y="onset", x=(UNIQUE,)), tree)
    # The AR overfits after 16 epochs at each budget, the DLM nowhere.
    assert found["ar", UNIQUE]["exponent"] == pytest.approx(0, abs=1e-12)
    assert found["dlm", UNIQUE]["exponent"] is None
    assert (
        written(Fit(y="onset", x=(UNIQUE,)), tree).verdict[0].startswith("AR: the onset of overfitting goes")
    )


def test_runs_that_never_overfitted_are_counted_and_not_fitted(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000), seeds=(0, 1))
    law = Fit(y="onset", x=(UNIQUE,), held_out="last", published={UNIQUE: 0.39}, published_by="Quokka")
    content = written(law, tree)
    ar, dlm = content.tables[0].rows
    assert (ar["runs_beyond"], dlm["runs_beyond"], dlm["runs_before"]) == (0, 4, 0)  # of two levels
    assert ar["published"] == 0.39
    assert ar["predicted"] == {"80,000 unique tokens": pytest.approx([16.0, 16.0])}
    assert "to the power 0.000 (Quokka +0.390)." in content.verdict[0].replace("+0.000", "0.000").replace(
        "−0.000", "0.000"
    )
    assert content.verdict[1].endswith("to be fitted, as 4 of its runs did not overfit.")
    assert (
        "Runs left out of the fit: 4 of DLM did not overfit before they ended, so that theirs is later. "
        "The law is of the others."
    ) in content.certain


def test_of_runs_held_out_those_that_did_not_overfit_count_as_later(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000), seeds=(0, 1, 2))
    law = Fit(y="onset", x=(UNIQUE,), held_out="last")
    for lasting, measured in ((0, 16.0), (1, None)):  # then most runs are later
        tree.edit("ar", 80_000, lasting, lambda result: set_nll(result, 8, 0.1))
        table = written(law, tree).tables[0]
        row = table.rows[0]
        assert row["predicted"]["80,000 unique tokens"] == [pytest.approx(16.0), measured]
        assert row["runs_later"] == {"80,000 unique tokens": lasting + 1}
        assert row["runs_within"]["80,000 unique tokens"][1] == 3
        assert row["runs_beyond"] == 0
    assert "most later than their runs (" in table.cells[0][1][-1][0]
    assert "2 later than their runs)" in table.cells[0][1][-1][0]


def test_the_last_level_is_the_last_that_an_arm_has(powers):
    tree = powers(budgets=(20_000, 40_000, 80_000, 160_000), passes=(1.0,) * 4)

    def drop(plan):
        plan["cells"] = [
            cell for cell in plan["cells"] if (cell["arm"], cell["level"][UNIQUE]) != ("dlm", 160_000)
        ]

    tree.replan(drop)
    found = rows(LAW.model_copy(update={"held_out": "last"}), tree)
    held_out = {arm: list(row["predicted"]) for (arm, _), row in found.items()}
    assert held_out == {"ar": ["160,000 unique tokens"], "dlm": ["80,000 unique tokens"]}


def test_runs_that_were_best_at_their_first_stop_are_counted_and_not_fitted(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000), seeds=(0, 1), best_epoch=0.01)
    ar = rows(Fit(y="onset", x=(UNIQUE,)), tree)["ar", UNIQUE]
    assert (ar["runs_before"], ar["exponent"]) == (4, None)


def test_the_interval_of_a_run_held_out_is_that_of_least_squares(powers):
    row = rows(LAW.model_copy(update={"held_out": "last"}), powers())["ar", UNIQUE]
    own = [
        (budget, (3.0 + 0.1 * seed) * (budget / 20_000) ** EXPONENTS["ar"][seed])
        for budget in (20_000, 80_000)
        for seed in (0, 1, 2)
    ]
    x, y = np.log(own).T
    made = linregress(x, y)
    at, spread = math.log(320_000) - x.mean(), ((x - x.mean()) ** 2).sum()
    error = math.sqrt(((y - made.intercept - made.slope * x) ** 2).sum() / 4 * (1 + 1 / 6 + at**2 / spread))
    middle = made.intercept + made.slope * math.log(320_000)
    expected = [math.exp(middle + side * t.ppf(0.975, 4) * error) for side in (-1, 1)]
    assert row["prediction_interval"] == {"320,000 unique tokens": pytest.approx(expected)}
    assert row["runs_within"] == {"320,000 unique tokens": [3, 3]}


def test_too_few_levels_are_told_and_not_fitted(powers):
    # The FLOPs of the AR's best stop are in proportion to its budget: one or the other can be fitted.
    tree = powers()
    assert rows(Fit(y="nll", x=("train_flops",)), tree)["ar", "train_flops"]["exponent"] == pytest.approx(
        -0.3
    )
    both = written(Fit(y="nll", x=(UNIQUE, "train_flops")), tree)
    told = "its levels are too few, or too alike, to be fitted."
    single = written(LAW, powers(budgets=(20_000,)))
    assert single.verdict == (f"AR: {told}", f"DLM: {told}")
    assert [row["exponent"] for row in single.tables[0].rows] == [None, None]
    assert [text.get_text() for text in single.pictures[0].panels[0].axes[0].texts] == ["too few levels"]
    assert both.verdict[0] == f"AR: {told}"


def test_a_seed_that_did_not_finish_everywhere_is_fitted_where_it_did(powers):
    tree = powers()
    tree.fail("ar", 80_000, 1, "lost")
    tree.fail("ar", 20_000, 2, "lost")
    tree.fail("ar", 80_000, 2, "lost")
    assert rows(LAW, tree)["ar", UNIQUE]["by_seed"] == pytest.approx({"0": -0.3, "1": -0.28})


def test_an_x_must_be_a_level_or_a_cost(powers):
    message = r"`x` must be a level of .*\['data.unique_tokens'\], or one of .*, but got x='model.width'"
    with pytest.raises(ValueError, match=message):
        written(Fit(y="nll", x=(UNIQUE, "model.width")), powers(budgets=(20_000,)))
