"""What a trial says of its job, in values that every storage takes.

Its attributes have arm, level and seed as they are. Its parameters have them once more, since Optuna's plots
and importances read nothing else. Optuna holds a study to the choices that a parameter had in its first
trial, so these stay: a value that a later plan adds counts as `other` among them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from lab.data.characters import safe_text
from lab.scheduling.jobs import Job

OTHER = "other"


class Parameters(NamedTuple):
    """What `optuna.trial.create_trial` takes: name -> value, and name -> what it could be."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]


def attributes(job: Job) -> dict[str, Any]:
    """The user attributes of a job's trial."""
    level = {name: _plain(value) for name, value in job.level.items()}
    return {"key": job.key, "version": job.version, "arm": job.arm, "level": level, "seed": job.seed}


def known_choices(trials: Iterable[FrozenTrial]) -> dict[str, Sequence[Any]]:
    """The choices to which a study's first trials hold the later ones, by parameter."""
    known: dict[str, Sequence[Any]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                known.setdefault(name, distribution.choices)
    return known


def parameters(job: Job, known: Mapping[str, Sequence[Any]]) -> Parameters:
    """Arm, level and seed as parameters.

    Args:
        job: with what its plan varies.
        known: the choices that the study has already.
    """
    seeds = job.factors["seed"]
    params: dict[str, Any] = {"seed": job.seed}
    distributions: dict[str, BaseDistribution] = {"seed": IntDistribution(min(seeds), max(seeds))}
    for name, value in {"arm": job.arm, **job.level}.items():
        choices = known.get(name) or list(dict.fromkeys([*map(_choice, job.factors[name]), OTHER]))
        distributions[name] = CategoricalDistribution(choices)
        params[name] = _choice(value) if _choice(value) in choices else OTHER
    return Parameters(params, distributions)


def _choice(value: Any) -> Any:
    """A value that Optuna and its dashboard can compare: lists and what is no number become text."""
    plain = _plain(value)
    return str(plain) if isinstance(plain, list | dict) or plain != plain else plain


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return safe_text(value.decode("utf-8", errors="replace"))
    if isinstance(value, str):
        return safe_text(value)
    return value if value is None or isinstance(value, bool | int | float) else safe_text(str(value))
