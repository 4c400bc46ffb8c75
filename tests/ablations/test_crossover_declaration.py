import pytest

from lab.ablation import cells, load_ablation

ABLATION = load_ablation("crossover")


def test_arms_differ_in_nothing_but_the_factors():
    ar, dlm = (
        {cell.arm: cell for cell in cells(ABLATION, "smoke")}[arm].config.model_dump(
            exclude={"arm", "factors"}
        )
        for arm in ("ar", "dlm")
    )
    assert ar == dlm


@pytest.mark.parametrize("preset", ABLATION.scales)
def test_budgets_grow(preset):
    budgets = list(ABLATION.scales[preset].levels["data.unique_tokens"])
    assert budgets == sorted(set(budgets))
    assert len(budgets) >= 2


def test_total_tokens_do_not_depend_on_the_budget():
    planned = cells(ABLATION, "smoke")
    assert len({cell.config.data.unique_tokens for cell in planned}) > 1
    totals = {cell.config.training.total_tokens for cell in planned}
    assert len(totals) == 1
    assert None not in totals
