"""Tune arms, then run the decisive seeds at each arm's own best."""

from dataclasses import replace
from signal import Signals

from lab.ablation import Cell, dotted_keys, level_text
from lab.files import write_json
from lab.scheduling.driver import Driver, Summary
from lab.scheduling.jobs import Job
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.outcomes import Outcome
from lab.scheduling.plan import Plan
from lab.scheduling.tuning.study import ArmStudy

FILE = "tuning.json"
SCHEMA = 3

Place = tuple[str, str]  # arm, level in words


def drive_tuned(plan: Plan, driver: Driver) -> Summary:
    """Bring a result tree to its plan, whose tuned arms run at the best values found for each of them.

    A trial that failed is one of its arm's trials all the same, and is not tried again. An arm of which no
    trial finished has its decisive cells recorded as failed.

    Args:
        plan: the tree, how its arms are tuned, and its cells as they are before.
        driver: of the tree.

    Raises:
        ValueError: if the plan tunes nothing, a decisive run has the tuning runs' seed, or an arm that is
            tuned starts from another, which has no run of that seed.
    """
    if plan.tuning is None:
        raise ValueError(f"`plan` must say how its arms are tuned, but {plan.tree} has tuning=None.")
    plan.tuning.check_seeds([cell.seed for cell in plan.cells])
    starting = {cell.arm for cell in plan.cells if cell.config.training.start_from}
    if begun := sorted(starting & set(_tuned_arms(plan))):
        raise ValueError(f"arms that start from another cannot be tuned, but got {', '.join(begun)}.")
    plan.write()
    studies = open_studies(plan, driver.ledger)
    for number in range(plan.tuning.rounds):
        if notice := _run_round(plan, number, list(studies.values()), driver):
            return Summary(interrupted=notice)
    return _run_decisive(plan, studies, driver)


def open_studies(plan: Plan, ledger: Ledger) -> dict[Place, ArmStudy]:
    """The study of each tuned arm at each level."""
    arms = _tuned_arms(plan)
    studies: dict[Place, ArmStudy] = {}
    for cell in plan.cells:
        if plan.tuning and cell.arm in arms and _place(cell) not in studies:
            own = frozenset({*dotted_keys(plan.ablation.arms[cell.arm]), *cell.level})
            studies[_place(cell)] = ArmStudy(plan, ledger, plan.tuning, cell, own)
    return studies


def _tuned_arms(plan: Plan) -> tuple[str, ...]:
    return plan.ablation.tuned or tuple(plan.ablation.arms)


def _place(cell: Cell) -> Place:
    return cell.arm, level_text(cell.level)


def _run_round(plan: Plan, number: int, studies: list[ArmStudy], driver: Driver) -> Signals | None:
    """Run and tell what is left of a round, of all arms together; the signal that ended it early, or None."""
    cells = [cell for study in studies for cell in study.ask(number)]

    def watch(job: Job) -> str:
        return next(filter(None, (study.verdict(job) for study in studies)), "")

    if cells:
        stage = replace(plan, cells=cells)
        if notice := driver.run(stage, watch, f"tuning runs of round {number + 1}").interrupted:
            return notice
    for study in studies:
        study.tell()
    spec = plan.tuning.spec() if plan.tuning else None
    rows = [study.rows() for study in studies]
    write_json(plan.tree / FILE, {"schema": SCHEMA, "specification": spec, "studies": rows})
    return None


def _run_decisive(plan: Plan, studies: dict[Place, ArmStudy], driver: Driver) -> Summary:
    """Run every cell that is not tuned, and the others at their arm's best."""
    tuned = replace(plan, cells=[_at_best(cell, studies.get(_place(cell))) for cell in plan.cells])
    tuned.write()
    possible: list[Cell] = []
    failed: dict[str, str] = {}
    for cell in tuned.cells:
        study = studies.get(_place(cell))
        if study is None or study.best is not None:
            possible.append(cell)
            continue
        failed[cell.label] = f"{Outcome.NOT_TUNED}: {study.failure}"
        driver.give_up(tuned.job(cell), Outcome.NOT_TUNED, failed[cell.label])
    summary = driver.run_jobs([tuned.job(cell) for cell in possible], stage="runs")
    summary.failed |= failed
    summary.plan = tuned
    return summary


def _at_best(cell: Cell, study: ArmStudy | None) -> Cell:
    """A decisive cell with the best values of its arm's study, if it has one."""
    if study is None or not study.best:
        return cell
    config = study.with_values(cell, cell.seed, study.best)
    return cell.model_copy(update={"config": config})
