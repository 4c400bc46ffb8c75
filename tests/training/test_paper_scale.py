"""The paper's 1B shape on a CPU: what a step is said to take up, and that it computes."""

import keras
import numpy as np
import pytest

from lab.arms import arm_values
from lab.config import make_config, read_preset
from lab.objectives.objective import Objective
from lab.training.capacity import Capacity
from lab.training.devices import Device

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(keras.config.backend() != "jax", reason="reads what XLA allots"),
]

VOCAB = 50257
BARRIERS_KEPT = {"xla_disable_hlo_passes": "cse_barrier_expander"}  # as they are on accelerators


def paper_config(length, rows, rematerialise=False, block="window", **model):
    evaluation = {"choice_context_tokens": 8, "choice_option_tokens": 8}
    training = {"batch_size": rows, "parallel": "none", "rematerialise": rematerialise, "warmup_steps": 1}
    layer = {"data": {"length": length}, "model": model, "training": training, "evaluation": evaluation}
    return make_config(read_preset("paper_1b"), arm_values("dlm"), layer, {"factors": {"block": block}})


def allotted(config, **options):
    """Bytes that XLA allots for a step, arguments, results and what lies between. Nothing is computed."""
    import jax

    from lab.training.build import build_transformer
    from lab.training.learner import Learner
    from lab.training.optimizer import ScheduledAdamW

    data, rows = config.data, config.training.batch_size
    optimizer = ScheduledAdamW(config.training)
    with keras.StatelessScope(initialize_variables=False):  # shapes alone
        transformer = build_transformer(config, VOCAB)
        objective = Objective(config.factors, data.length, transformer.mask_id, data.windows, rows)
        learner = Learner(transformer, objective, config.training_seed)
        optimizer.build(learner.trainable_variables)
    learner.compile(optimizer=optimizer)
    state = [
        [jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype) for variable in variables]
        for variables in (
            learner.trainable_variables,
            learner.non_trainable_variables,
            optimizer.variables,
            [],
        )
    ]
    shapes = {
        "tokens": (rows, data.length),
        "places": (rows, data.length),
        "visits": (rows,),
        "rows": (rows,),
    }
    inputs = {name: jax.ShapeDtypeStruct(shape, "int32") for name, shape in shapes.items()}
    step = jax.jit(learner.train_step, donate_argnums=0).lower(tuple(state), (inputs,))
    found = step.compile(compiler_options=options).memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.argument_size_in_bytes + results + found.temp_size_in_bytes


DROPOUT = {"attention_dropout": 0.1, "mlp_dropout": 0.1}


@pytest.mark.parametrize(
    ("layers", "rows", "rematerialise", "model", "block"),
    [
        (4, 1, False, {}, "window"),
        (4, 2, False, {}, "window"),
        (4, 2, True, {}, "window"),
        (8, 1, True, {}, "window"),
        (4, 1, False, DROPOUT, "window"),
        (4, 1, False, {}, 128),
        (4, 1, True, {}, 128),
    ],
)
def test_a_step_takes_up_what_is_said(layers, rows, rematerialise, model, block):
    """In float32: XLA's CPU backend multiplies in no half precision, and allots copies in float32."""
    config = paper_config(2048, rows, rematerialise, block, layers=layers, dtype="float32", **model)
    cpu = Device(1e12, 1e12, fused_attention=False)
    said = Capacity(config, VOCAB, 1, cpu).memory(rematerialise).total
    found = allotted(config, **(BARRIERS_KEPT if rematerialise else {}))
    assert said == pytest.approx(found, rel=0.1)


def inputs_of_a_row(length):
    slots = np.arange(length, dtype=np.int32)[None]
    none = np.zeros(1, np.int32)
    return {"tokens": slots, "places": slots, "visits": none, "rows": none}


def test_the_whole_shape_passes_forward():
    """64 slots; all blocks hold the same numbers, drawn once, since a billion take minutes to draw."""
    import jax

    from lab.training.build import build_transformer

    config = paper_config(64, 1)
    with keras.StatelessScope(initialize_variables=False):
        model = build_transformer(config, VOCAB)
    objective = Objective(config.factors, 64, model.mask_id, "jittered", 1)
    example = objective.example(*inputs_of_a_row(64).values(), 0, np)
    shapes = {tuple(variable.shape) for variable in model.trainable_variables}
    rng = np.random.default_rng(0)
    drawn = {
        shape: jax.numpy.array(0.02 * rng.standard_normal(shape, np.float32) if shape[1:] else np.ones(shape))
        for shape in sorted(shapes)
    }
    weights = [drawn[tuple(variable.shape)] for variable in model.trainable_variables]
    logits = jax.jit(lambda weights: model.stateless_call(weights, [], example)[0])(weights)
    assert logits.shape == (1, 64, VOCAB)
    log_chances = np.array(jax.nn.log_softmax(logits), np.float64)
    entropy = -(np.exp(log_chances) * log_chances).sum(-1)
    assert entropy == pytest.approx(np.log(VOCAB), rel=0.1)  # such weights say little


def test_four_layers_of_it_learn():
    """64 slots again; some 4 GB of memory."""
    from lab.training.build import build_learner

    learner = build_learner(paper_config(64, 1, rematerialise=True, layers=4), VOCAB)
    losses = []
    for _ in range(4):
        steps = ((inputs,) for inputs in [inputs_of_a_row(64)])
        losses += learner.fit(steps, steps_per_epoch=1, shuffle=False, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(np.log(VOCAB), rel=0.2)
    assert losses[-1] < losses[0]
