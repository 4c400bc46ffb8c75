"""Several learners of one kind as one compiled program under JAX: their states lie side by side."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Tensor = Any
Joining = Literal["vmap", "map"]


def joining() -> Joining:
    """How runs are joined here: one after the other on a CPU, which gains nothing by `vmap`; else at once."""
    return "map" if jax.devices()[0].platform == "cpu" else "vmap"


def join(function: Callable[..., Any], how: Joining) -> Callable[..., Any]:
    """A function of one run as one of several: each argument and result has an axis of runs in front.

    Args:
        function: of arrays in nested containers.
        how: `vmap`, all runs in each operation; or `map`, one run after the other, and none that is idle.

    Returns:
        A function whose first argument besides, (runs,) bool, says which runs count. What it gives of the
        others means nothing.
    """
    if how == "vmap":
        return lambda counts, *given: jax.vmap(function)(*given)

    def one(counts: Tensor, *given: Any) -> Any:
        shapes = jax.eval_shape(function, *given)
        idle = lambda *_: jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)  # noqa: E731
        return jax.lax.cond(counts, function, idle, *given)

    return lambda *given: jax.lax.map(lambda each: one(*each), given)


class JointStep:
    """The train step of several learners, each with its own weights, optimizer, draws and numbers.

    The program has the same number of places however many learners there are: so the numbers of one do not
    depend on which others are with it.

    Args:
        learner: one of the kind, compiled; the others have variables of the same shapes.
        places: most learners at a time.
        how: as of `join`.
    """

    def __init__(self, learner: Any, places: int, how: Joining) -> None:
        self._places = places

        def step(state: Any, inputs: Any) -> Any:
            return learner.train_step(state, (inputs,))

        self._step = jax.jit(join(step, how), donate_argnums=1)
        self._spread = jax.jit(
            partial(jax.tree.map, lambda leaf: jnp.broadcast_to(leaf, (places, *leaf.shape)))
        )
        self._put = jax.jit(
            lambda states, state, place: jax.tree.map(
                lambda all_, one: all_.at[place].set(one), states, state
            ),
            donate_argnums=0,
        )
        self._take = jax.jit(lambda tree, place: jax.tree.map(lambda leaf: leaf[place], tree))
        self._learners: list[Any] = []

    def begin(self, learners: Sequence[Any]) -> None:
        """Take the states of some learners, at most as many as there are places."""
        self._learners = list(learners)
        states = [_state(learner) for learner in learners]
        self._states = self._spread(states[0])
        for place, state in enumerate(states[1:], start=1):
            self._states = self._put(self._states, state, place)
        self._counts = np.arange(self._places) < len(states)

    def __call__(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        """Make one micro-batch of each learner.

        Args:
            inputs: `StepInputs` of each.

        Returns:
            What `train_step` logs, each (places,); those beyond the learners mean nothing.
        """
        batches = [*inputs, *[inputs[-1]] * (self._places - len(inputs))]
        together = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
        logs, self._states = self._step(self._counts, self._states, together)
        return dict(logs)

    def end(self) -> None:
        """Give the learners the states that the steps have made."""
        for place, learner in enumerate(self._learners):
            _assign(learner, self._take(self._states, place))
        self._learners, self._states = [], None


class JointScorer:
    """The pass of several scorers of one kind over a batch each.

    Args:
        scorer: one of the kind, a `keras.Model`.
        places: most scorers at a time.
        how: as of `join`.
    """

    def __init__(self, scorer: Any, places: int, how: Joining) -> None:
        def score(weights: Any, inputs: Any) -> Tensor:
            return scorer.stateless_call(*weights, inputs)[0]

        def together(counts: Tensor, weights: Any, inputs: Any) -> Tensor:
            return join(score, how)(counts, _stacked(weights), _stacked(inputs))

        self._places = places
        self._score = jax.jit(together)

    def __call__(
        self, scorers: Sequence[Any], inputs: Sequence[Mapping[str, np.ndarray]]
    ) -> list[np.ndarray]:
        """What each scorer says of its batch."""
        spare = self._places - len(scorers)
        weights = [
            (_values(scorer.trainable_variables), _values(scorer.non_trainable_variables))
            for scorer in scorers
        ]
        said = np.asarray(
            self._score(
                np.arange(self._places) < len(scorers),
                [*weights, *weights[-1:] * spare],
                [*map(dict, inputs), *[dict(inputs[-1])] * spare],
            )
        )
        return list(said[: len(scorers)])


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _values(variables: Sequence[Any]) -> list[Tensor]:
    return [variable.value for variable in variables]


def _state(learner: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    return tuple(_values(variables) for variables in _variables(learner))  # type: ignore[return-value]


def _assign(learner: Any, state: Any) -> None:
    for variables, values in zip(_variables(learner), state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _variables(learner: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """As `train_step` takes them."""
    return (
        learner.trainable_variables,
        learner.non_trainable_variables,
        learner.optimizer.variables,
        learner.metrics_variables,
    )
