"""The engine: a network, its objective, its optimizer and its windows, and the updates that change them.

A run's weights follow from this module, what it imports, the configuration and the training data; nothing of
how they are logged, kept or measured comes in here (lab/code.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from lab.config import RunConfig
from lab.data.budget import budget
from lab.data.windows import TrainingWindows
from lab.factors import parse_ar_share
from lab.training.build import build_learner
from lab.training.distribution import set_layout
from lab.training.schedule import Schedule, branch_decay, learning_rate, main_decay, total_steps
from lab.training.unread_logs import UnreadLogs
from lab.training.variables import Arrays, assign_variables, read_variables

Inputs = tuple[dict[str, np.ndarray]]  # what `fit` of Keras takes: `StepInputs`, alone in a tuple
# Called with a learner, micro-batches, how many of them to make, and Keras's callbacks.
Fit = Callable[[Any, Iterator[Inputs], int, Sequence[keras.callbacks.Callback]], None]


def fit_alone(
    learner: Any, batches: Iterator[Inputs], count: int, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Train by Keras's own loop: the learner has the process for itself.

    Args:
        learner: compiled.
        batches: what it sees.
        count: micro-batches to make, if no callback stops it before.
        callbacks: called after each with logs that are still on the device.
    """
    learner.fit(
        batches,
        steps_per_epoch=count,
        shuffle=False,
        verbose=0,
        callbacks=UnreadLogs(list(callbacks), add_history=True, model=learner),
    )


class Engine:
    """The state of training. Of several ranks each keeps all of it.

    Args:
        config: the run's configuration.
        train: (n,) token ids of the training split.
        vocab_size: of its tokenizer.
        fit: what makes the updates.

    Attributes:
        windows: what its steps see.
        total_steps: updates of the main run.
        layout: where it is computed.
        learner: the model that is trained.

    Raises:
        ValueError: if the data do not suffice, or the devices cannot be laid out as configured.
    """

    def __init__(self, config: RunConfig, train: np.ndarray, vocab_size: int, fit: Fit = fit_alone) -> None:
        self._config, self._fit = config, fit
        training, data = config.training, config.data
        self.windows = TrainingWindows(
            budget(train, data.unique_tokens, data.length, config.replicate),
            data.length,
            training.batch_size,
            config.training_seed,
            data.windows,
        )
        self.total_steps = total_steps(training, data.length, self.windows.count)
        self.layout = set_layout(training, parse_ar_share(config.factors.ar_share).denominator)
        self.learner = build_learner(config, vocab_size)
        self._variables = [*self.learner.variables, *self.learner.optimizer.variables]
        self.follow_main()

    def fit(self, first: int, last: int, callbacks: Sequence[keras.callbacks.Callback] = ()) -> None:
        """Make the updates first .. last - 1, or some of them if a callback stops the training.

        Args:
            first: the updates that the weights have had.
            last: those that they are to have.
            callbacks: Keras's, called after each micro-batch with logs that are still on the device.
        """
        count = (last - first) * self._config.training.accumulation
        self._fit(self.learner, self._micro_batches(first, last), count, callbacks)

    def _micro_batches(self, first: int, last: int) -> Iterator[Inputs]:
        accumulation = self._config.training.accumulation
        rows = self._config.training.batch_size // accumulation
        skipped, own = self.layout.own_rows(rows)
        for step in range(first, last):
            for part in range(accumulation):
                yield (self.windows.batch(step, part * rows + skipped, own)._asdict(),)

    def follow_main(self) -> None:
        """Take the learning rate of the main run for the updates to come."""
        self.learner.optimizer.set_decay(main_decay(self._config.training, self.total_steps))

    def follow_branch(self, step: int) -> None:
        """Take the learning rate of the branch that is annealed at a step."""
        self.learner.optimizer.set_decay(branch_decay(self._config.training, step))

    def main_learning_rate(self, step: int) -> float:
        """The learning rate of the update that made the main run's weights at a step."""
        training = self._config.training
        schedule = Schedule.of(training, main_decay(training, self.total_steps))
        return float(learning_rate(schedule, step - 1, np))

    @property
    def state_bytes(self) -> int:
        """Size of the whole state."""
        return sum(_bytes(variable) for variable in self._variables)

    @property
    def weight_bytes(self) -> int:
        """Size of the trained weights alone."""
        return sum(map(_bytes, self.learner.trainable_variables))

    def state(self) -> Arrays:
        """Copies of all variables: weights, the optimizer's slots, the generators of dropout."""
        return read_variables(self._variables)

    def assign_state(self, arrays: Arrays) -> None:
        """Go back to a state."""
        assign_variables(self._variables, arrays)

    def weights(self) -> Arrays:
        """Copies of the weights that a stop keeps: their average with `training.ema`, else as trained."""
        trained = self.learner.trainable_variables
        if not self._config.training.ema:
            return read_variables(trained)
        averages = read_variables(self.learner.optimizer.averages)
        return dict(zip((variable.path for variable in trained), averages.values(), strict=True))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the network hold what `weights` gives, to be measured; afterwards it goes on as it was."""
        if not self._config.training.ema:
            yield
            return
        trained = read_variables(self.learner.trainable_variables)
        self.assign_weights(self.weights())
        try:
            yield
        finally:
            self.assign_weights(trained)

    def assign_weights(self, arrays: Arrays) -> None:
        """Take other weights, to be measured; the rest of the state stays and no longer belongs to them."""
        assign_variables(self.learner.trainable_variables, arrays)


def _bytes(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape)) * np.dtype(keras.backend.standardize_dtype(variable.dtype)).itemsize
