"""Which measurements of finished runs an ablation asks for, as jobs of its driver."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from lab.ablation import Cell
from lab.config import MeasurementConfig
from lab.evaluation.measurements import ENSEMBLE, find_set, rows_digest, wanted_rows
from lab.results import RunResult, measurement_folder, stops_of
from lab.scheduling.driver import Driver, Summary
from lab.scheduling.jobs import MEASUREMENT_VALUE, Job, Say
from lab.scheduling.plan import Plan

Finished = Sequence[tuple[Cell, RunResult]]


def measure_finished(plan: Plan, driver: Driver) -> Summary:
    """Measure every finished run as the ablation declares, as far as it was not measured before.

    The trials are in a study of their own beside that of the runs, since their values compare with nothing.

    Args:
        plan: the result tree and its cells; runs without a result are passed over.
        driver: of the tree.
    """
    if not plan.ablation.measurements and not plan.ensembles:
        return Summary()
    with closing(driver.ledger.beside_runs("measurements", MEASUREMENT_VALUE)) as ledger:
        return driver.with_ledger(ledger).run_jobs(
            list(measurement_jobs(plan, driver.say)), stage="measurements"
        )


def measurement_jobs(plan: Plan, say: Say = lambda _: None) -> Iterator[Job]:
    """A job for each measurement of each finished run but those it is measured with, and for each ensemble.

    A run is measured with the finished runs of the other arm at its level of other seeds, since one of its
    own seed began with the same weights; by that one where there is no other.

    Args:
        plan: the result tree and its cells.
        say: told of a run that cannot be measured yet.
    """
    everything = [
        (cell, result) for cell in plan.cells if isinstance(result := plan.job(cell).result(), RunResult)
    ]
    finished = [pair for pair in everything if pair[0].role == "run"]
    for cell, result in finished:
        if cell.arm in plan.ensembles.values():
            members = members_of(cell, plan.cells)
            done = [pair for pair in everything if pair[0] in members]
            if len(done) == len(members):
                yield _job(plan, ENSEMBLE, [(cell, result), *done])
            else:
                say(f"{cell.label}: not every member of its ensemble is finished, so it is not measured")
    for name, companion in plan.ablation.measurements.items():
        for cell, result in finished:
            others = companions_of(cell, companion, finished) if companion else []
            if cell.arm == companion:
                continue
            if companion and not others:
                say(f"{cell.label}: no run of {companion} is finished, so {name} is not measured")
                continue
            yield _job(plan, name, [(cell, result), *others])


def members_of(cell: Cell, among: Iterable[Cell]) -> list[Cell]:
    """The further members of the ensemble that a run is the first of."""
    place = (cell.arm, cell.level, cell.seed, "member")
    return [other for other in among if (other.arm, other.level, other.seed, other.role) == place]


def companions_of(cell: Cell, companion: str, finished: Finished) -> list[tuple[Cell, RunResult]]:
    """The finished runs of an arm at a run's level: those of other seeds if there are any."""
    alike = [pair for pair in finished if pair[0].arm == companion and pair[0].level == cell.level]
    return [pair for pair in alike if pair[0].seed != cell.seed] or alike


def _job(plan: Plan, name: str, runs: Finished) -> Job:
    cell = runs[0][0]
    key = measurement_folder(cell.logdir, name)
    folder = plan.tree / key
    tasks = find_set(name)
    own, *others = (
        stops_of(result, plan.logdir(one), folder, "best" if place else tasks.stops)
        for place, (one, result) in enumerate(runs)
    )
    stops = [*own, *(stop for best in others for stop in best)]
    facts = plan.facts(cell)
    wanted = rows_digest(wanted_rows(name, cell.config, stops, facts.hashes))
    config = MeasurementConfig(measurement=name, stops=tuple(stops), config=cell.config)
    return Job(
        key=key,
        version=wanted,
        arm=cell.arm,
        level=cell.level,
        seed=cell.seed,
        factors=plan.factors,
        logdir=folder,
        config=config,
        wanted=wanted,
        inputs=tuple(plan.logdir(cell) for cell, _ in runs),
        data_key=facts.key,
    )
