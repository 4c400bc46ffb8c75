"""One step, and fifty, on every backend."""

import numpy as np
import numpy_transformer
import pytest
from training_bench import (
    CAUSAL_MECHANISMS,
    DENSE_MECHANISMS,
    DROPOUT,
    LENGTH,
    MIXTURE,
    batch,
    differences,
    fit,
    state_of,
    tiny_config,
)

from lab.training.schedule import Decay

pytestmark = pytest.mark.backend

VOCAB = 5
SMALL = {"model": {"width": 8, "ffn_width": 12}, "training": {"clip_norm": 0.05}}
CASES = {
    "ar": ("ar", {}),
    "any_order_ar": ("any_order_ar", {}),
    "suffix_frozen": ("suffix_frozen", {}),
    "dlm": ("dlm", {}),
    "dlm_fixed": ("dlm", {"data": {"windows": "fixed"}}),
    "dlm_stratified": ("dlm", {"factors": {"stratified": True, "passes": 2}, "training": {"batch_size": 2}}),
    "dual": (
        "dlm",
        {"factors": {"ar_share": 2 / 3, "passes": 2}, "training": {"batch_size": 3}},
    ),
    "blocks": ("dlm", {"factors": {"block": 4, "stratified": True}}),
    "causal_mechanisms": ("ar_masked", CAUSAL_MECHANISMS),
    "dense_mechanisms": ("dlm", DENSE_MECHANISMS),
}


class Logs:
    """A callback that keeps each step's logs."""

    def __new__(cls):
        import keras

        class Keeper(keras.callbacks.Callback):
            def __init__(self):
                super().__init__()
                self.found = []

            def on_train_batch_end(self, batch, logs=None):
                self.found.append({name: float(value) for name, value in logs.items()})

        return Keeper()


def weights_of(learner):
    """float64 arrays by the end of their paths."""
    from lab.training.variables import read_variables

    found = read_variables(learner.trainable_variables)
    return {path.removeprefix("transformer/"): array.astype(float) for path, array in found.items()}


def scale_up(learner, factor=10.0):
    """Initial weights are so small that attention and gates hardly act; larger ones show more."""
    for variable in learner.trainable_variables:
        variable.assign(variable.value * factor)


@pytest.mark.parametrize(("arm", "mechanisms"), CASES.values(), ids=CASES.keys())
def test_one_step_has_the_loss_and_gradient_of_a_numpy_model(arm, mechanisms):
    """Its logs, and Adam's moments, which hold the clipped gradient and its squares."""
    from lab.training.build import build_learner

    config = tiny_config(arm, SMALL, mechanisms)
    learner = build_learner(config, VOCAB)
    scale_up(learner)
    weights = weights_of(learner)
    inputs = batch(3, VOCAB)
    inputs["visits"] += 2
    logs = Logs()
    fit(learner, [inputs], [logs])
    passes = config.factors.passes
    parts = [
        learner.objective.parts(
            inputs["tokens"],
            inputs["places"],
            inputs["visits"] * np.int32(passes) + np.int32(number),
            inputs["rows"],
            config.seed,
            np,
        )
        for number in range(passes)
    ]

    def loss(arrays):
        heads, loops, rows = config.model.heads, config.model.loops, len(inputs["tokens"])
        return sum(
            numpy_transformer.mean_loss(arrays, part.example, heads, part.causal, loops, part.block_size)
            * (len(part.example.tokens) / rows / passes)
            for of_pass in parts
            for part in of_pass
        )

    assert logs.found[0]["loss"] == pytest.approx(loss(weights), rel=1e-5)
    expected = numpy_transformer.gradient(weights, loss)
    norm = np.sqrt(sum((array**2).sum() for array in expected.values()))
    assert norm > 2 * config.training.clip_norm
    assert logs.found[0]["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    moments = {variable.path: np.array(variable) for variable in learner.optimizer.variables}
    for name, array in expected.items():
        slots = f"optimizer/transformer_{name.replace('/', '_')}"
        clipped = array * config.training.clip_norm / norm
        scale = np.abs(clipped).max()
        np.testing.assert_allclose(moments[f"{slots}_momentum"] / 0.1, clipped, atol=1e-4 * scale)
        np.testing.assert_allclose(moments[f"{slots}_velocity"] / 0.05, clipped**2, atol=1e-4 * scale**2)


def test_the_last_of_an_updates_micro_batches_logs_the_norm_of_the_gradient_that_is_clipped():
    """That of the mean over all of them, and so in the next update too."""
    from lab.training.build import build_learner

    whole = batch(4, VOCAB)
    parts = [{name: array[i : i + 1] for name, array in whole.items()} for i in range(4)]
    norms = {}
    for accumulation, batches in ((1, [whole] * 2), (4, parts * 2)):
        # without a learning rate to speak of both updates are of the same gradient
        training = {"batch_size": 4, "accumulation": accumulation, "learning_rate": 1e-12}
        learner = build_learner(tiny_config("ar", {"training": training}), VOCAB)
        scale_up(learner)
        logs = Logs()
        fit(learner, batches, [logs])
        norms[accumulation] = [log["gradient_norm"] for log in logs.found]
    assert norms[4][3::4] == pytest.approx(norms[1], rel=1e-4)
    assert norms[4][0] < norms[1][0] / 2  # the mean would be that of a quarter of the gradient


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_fifty_steps_learn_a_repeated_text(arm):
    from lab.training.build import build_learner

    learner = build_learner(tiny_config(arm), VOCAB)
    inputs = batch(4, VOCAB)
    inputs["tokens"][:] = np.arange(LENGTH) % VOCAB
    logs = Logs()
    fit(learner, [{**inputs, "visits": inputs["visits"] + step} for step in range(50)], [logs])
    losses = [log["loss"] for log in logs.found]
    # Nearly uniform; a window with something hidden stands in for those with nothing (place_draws.py).
    counted = (LENGTH + 1) / LENGTH if arm == "dlm" else 1
    assert losses[0] == pytest.approx(counted * np.log(VOCAB), abs=0.1)
    assert np.mean(losses[-10:]) < losses[0] / 2


def test_dropout_acts_in_training_and_is_another_one_each_step():
    from lab.training.build import build_learner
    from lab.training.variables import assign_variables, read_variables

    learner = build_learner(tiny_config("ar", {"model": DROPOUT}), VOCAB)
    scale_up(learner)
    start = read_variables(learner.trainable_variables)
    logs = Logs()
    for _ in range(2):
        fit(learner, [batch(4, VOCAB)], [logs])
        assign_variables(learner.trainable_variables, start)
    first, second = (log["loss"] for log in logs.found)
    assert first != second


def test_attention_mask_dropout_is_part_of_the_draw_and_dropout_of_weights_is_not():
    """The same visit blocks the same slots again; attention weights and features drop anew at each step."""
    from lab.training.build import build_learner
    from lab.training.variables import assign_variables, read_variables

    losses = {}
    for name, layer in {
        "none": {},
        "attention_mask": {"factors": {"attention_mask_dropout": 0.5}},
        "attention": {"model": {"attention_dropout": 0.5}},
        "mlp": {"model": {"mlp_dropout": 0.5}},
    }.items():
        learner = build_learner(tiny_config("ar", layer), VOCAB)
        scale_up(learner)
        start = read_variables(learner.trainable_variables)
        logs = Logs()
        for visit in (0, 0, 1):
            fit(learner, [{**batch(4, VOCAB), "visits": np.full(4, visit, np.int32)}], [logs])
            assign_variables(learner.trainable_variables, start)
        losses[name] = [log["loss"] for log in logs.found]
    same, other = losses["none"][0], [losses[name][0] for name in ("attention_mask", "attention", "mlp")]
    assert len({same, *other}) == 4
    assert losses["none"] == [same] * 3
    first, again, next_visit = losses["attention_mask"]
    assert first == again != next_visit
    for name in ("attention", "mlp"):
        assert len(set(losses[name])) == 3


def test_what_mixtures_add_is_trained_on_and_logged_apart():
    """The logged loss is that of the tokens; the gradient is of both."""
    from lab.training.build import build_learner

    logs, momenta, passes = Logs(), [], 2
    for weight in (0.0, 1.0):
        mixture = {**MIXTURE["model"], "balance_weight": weight, "router_z_weight": 0.0}
        layer = {"model": mixture, "factors": {"passes": passes}, "training": {"clip_norm": 1e9}}
        learner = build_learner(tiny_config("dlm", layer), VOCAB)
        scale_up(learner)
        fit(learner, [batch(4, VOCAB)], [logs])
        (momentum,) = (v for v in learner.optimizer.variables if v.path.endswith("router_kernel_momentum"))
        momenta.append(np.array(momentum))
    without, balanced = logs.found
    assert without["loss"] == balanced["loss"]
    assert without["auxiliary_loss"] == 0.0
    assert 1.0 < balanced["auxiliary_loss"] < 2.0  # one block: 1 is even, 2 where all choose the same two
    assert np.abs(momenta[1] - momenta[0]).max() > 1e-4
    assert 0.0 < balanced["dropped_share"] < 1.0
    choices = passes * 4 * LENGTH * 2
    assert balanced["dropped_share"] * choices == pytest.approx(
        round(balanced["dropped_share"] * choices), abs=1e-3
    )


def test_a_learner_is_rebuilt_from_its_configuration_and_trains_on():
    """By Keras's own test, and compiled, with the optimizer that it was compiled with."""
    import keras
    from keras.src.testing import TestCase

    from lab.training.build import build_learner
    from lab.training.learner import Learner
    from lab.training.variables import assign_variables, read_variables

    learner = build_learner(tiny_config("dlm", SMALL, DENSE_MECHANISMS, {"model": DROPOUT, "seed": 3}), VOCAB)
    bare = Learner(learner.transformer, learner.objective, learner.seed)
    assert TestCase().run_class_serialization_test(bare).objective == learner.objective
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(learner))
    learner.optimizer.set_decay(Decay(1, 5))
    start, ends = read_variables(state_of(learner)), []
    for one in (learner, again):
        assign_variables(state_of(one), start)
        fit(one, [batch(3, VOCAB)])
        ends.append(read_variables(state_of(one)))
    assert int(ends[0]["optimizer/iteration"]) == 1
    assert differences(*ends) == []


def test_the_device_is_named():
    from lab.training.build import build_learner

    assert build_learner(tiny_config("ar"), VOCAB).device() in ("cpu", "gpu", "tpu", "mps")
