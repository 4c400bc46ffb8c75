"""Blocks computed again in the backward pass: the same numbers, in less memory."""

import keras
import numpy as np
import pytest
from training_bench import DROPOUT, batch, fit, tiny_config

from lab.models.architecture import Architecture
from lab.models.sizes import SIZES
from lab.models.transformer import Transformer
from lab.objectives.corruption import Example


def trained(rematerialise, *layers):
    """All of a run's state after two steps, by path."""
    from lab.training.build import build_learner
    from lab.training.variables import read_variables

    config = tiny_config("dlm", {"training": {"rematerialise": rematerialise}}, *layers)
    learner = build_learner(config, 5)
    for variable in learner.trainable_variables:
        variable.assign(variable.value * 10)
    fit(learner, [batch(4, 5, seed) for seed in range(2)], [])
    return read_variables([*learner.variables, *learner.optimizer.variables])


@pytest.mark.backend
def test_dropout_moments_and_generators_are_those_of_a_run_that_keeps_all():
    """Two loops, so that each block is called twice and its generators move on by two."""
    layer = {"model": {**DROPOUT, "loops": 2, "layers": 2}}
    expected, found = trained(False, layer), trained(True, layer)
    assert expected.keys() == found.keys()
    for path, values in expected.items():
        rounding = 1e-4 * np.abs(values).max()  # Adam's quotients make more of it
        np.testing.assert_allclose(found[path], values, rtol=0, atol=rounding, err_msg=path)
    states = [values for path, values in found.items() if path.endswith("seed_generator_state")]
    assert len(states) == 4
    assert all(state[1] == 2 * 2 for state in states)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="reads what XLA allots")
def test_xla_allots_less():
    """Where it keeps the barriers in front of what is computed again; on a CPU it takes them away unasked."""
    import jax

    rows, length = 8, 64
    tokens = np.zeros((rows, length), np.int32)
    slots = np.arange(length, dtype=np.int32)[None]
    example = Example(tokens, slots, slots + np.int32(1), tokens, None)
    allotted = []
    for rematerialise in (False, True):
        architecture = Architecture(vocab_size=8, length=length, **{**SIZES["0.1m"], "layers": 6})
        model = Transformer(architecture, rematerialise=rematerialise)
        model.build()

        def loss(weights, model=model):
            return jax.numpy.mean(model.stateless_call(weights, [], example, training=True)[0] ** 2)

        lowered = jax.jit(jax.grad(loss)).lower([weight.value for weight in model.trainable_variables])
        compiled = lowered.compile(compiler_options={"xla_disable_hlo_passes": "cse_barrier_expander"})
        allotted.append(compiled.memory_analysis().temp_size_in_bytes)
    assert allotted[1] < 0.5 * allotted[0]
