import itertools

import pytest

from lab.ablation import cells, load_ablation

ABLATION = load_ablation("crossover")


def test_arms_differ_in_nothing_but_the_factors():
    first = {cell.arm: cell for cell in reversed(cells(ABLATION, "smoke"))}
    ar, dlm = (first[arm].config.model_dump(exclude={"arm", "factors"}) for arm in ("ar", "dlm"))
    assert ar == dlm


@pytest.mark.parametrize("preset", ABLATION.scales)
def test_budgets_grow(preset):
    budgets = list(ABLATION.scales[preset].levels["data.unique_tokens"])
    assert budgets == sorted(set(budgets))
    assert len(budgets) >= 2 or preset == "night"  # a night has time for one


@pytest.mark.parametrize("preset", [preset for preset, scale in ABLATION.scales.items() if scale.alone])
def test_ar_alone_fills_the_budgets_up_to_steps_of_two_and_goes_beyond_them(preset):
    made = [cell for cell in cells(ABLATION, preset, seeds=1) if cell.role == "run"]
    both, ar = (
        sorted(cell.level["data.unique_tokens"] for cell in made if cell.arm == arm) for arm in ("dlm", "ar")
    )
    assert set(both) < set(ar)
    assert all(1.5 < after / before <= 2 for before, after in itertools.pairwise(ar))
    assert ar[0] < both[0] or ar[-1] > both[-1]


def test_total_tokens_do_not_depend_on_the_budget():
    planned = cells(ABLATION, "smoke")
    assert len({cell.config.data.unique_tokens for cell in planned}) > 1
    totals = {cell.config.training.total_tokens for cell in planned}
    assert len(totals) == 1
    assert None not in totals
