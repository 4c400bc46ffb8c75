"""The optimizer against AdamW written out in NumPy."""

import numpy as np
import pytest
from training_bench import DROPOUT, batch, differences, fit, state_of, tiny_config

from lab.config import TrainingConfig
from lab.training.schedule import NEVER, Decay, Schedule, learning_rate

pytestmark = pytest.mark.backend

VOCAB = 5


def config(**values):
    base = {
        "total_steps": 100,
        "learning_rate": 0.01,
        "warmup_steps": 0,
        "weight_decay": 0.3,
        "clip_norm": 1.0,
    }
    return TrainingConfig(**base | values)


def make(training):
    """The optimizer and a matrix and a vector for it."""
    import keras

    from lab.training.optimizer import ScheduledAdamW

    numbers = np.random.default_rng(0)
    values = {"matrix": numbers.normal(size=(3, 4)), "vector": numbers.normal(size=4)}
    variables = [keras.Variable(value, dtype="float32", name=name) for name, value in values.items()]
    optimizer = ScheduledAdamW(training)
    optimizer.build(variables)
    return optimizer, variables, values


def apply(optimizer, gradients, variables):
    from keras import ops

    optimizer.apply([ops.convert_to_tensor(gradient.astype("float32")) for gradient in gradients], variables)


def numpy_adamw(values, gradients, training, rate):
    """Loshchilov & Hutter 2019, algorithm 2, with the gradients clipped together; one update per list."""
    values = {name: value.copy() for name, value in values.items()}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for t, update in enumerate(gradients, start=1):
        norm = np.sqrt(sum((gradient**2).sum() for gradient in update))
        for (name, value), gradient in zip(values.items(), update, strict=True):
            clipped = gradient * min(1.0, training.clip_norm / norm)
            first[name] = training.beta_1 * first[name] + (1 - training.beta_1) * clipped
            second[name] = training.beta_2 * second[name] + (1 - training.beta_2) * clipped**2
            direction = first[name] / (1 - training.beta_1**t)
            direction = direction / (np.sqrt(second[name] / (1 - training.beta_2**t)) + training.epsilon)
            grown = min(1, t / max(1, training.weight_decay_warmup_steps))
            decay = grown * training.weight_decay * value if value.ndim > 1 else 0.0
            values[name] = value - rate(t - 1) * (direction + decay)
    return values


def some_gradients(count, scale):
    numbers = np.random.default_rng(1)
    return [[scale * numbers.normal(size=(3, 4)), scale * numbers.normal(size=4)] for _ in range(count)]


@pytest.mark.parametrize("decay_warmup", [0, 2])
@pytest.mark.parametrize("scale", [0.01, 5.0], ids=["unclipped", "clipped"])
def test_updates_are_adamw_with_decay_on_the_matrix_alone(scale, decay_warmup):
    training = config(warmup_steps=4, weight_decay_warmup_steps=decay_warmup)
    optimizer, variables, values = make(training)
    gradients = some_gradients(3, scale)
    for update in gradients:
        apply(optimizer, update, variables)
    expected = numpy_adamw(values, gradients, training, lambda step: 0.01 * (step + 1) / 4)
    for variable, value in zip(variables, expected.values(), strict=True):
        np.testing.assert_allclose(np.array(variable), value, rtol=2e-6, atol=2e-6)


def test_without_gradient_the_matrix_shrinks_and_the_vector_stays():
    optimizer, variables, values = make(config())
    apply(optimizer, [np.zeros((3, 4)), np.zeros(4)], variables)
    np.testing.assert_allclose(np.array(variables[0]), values["matrix"] * (1 - 0.01 * 0.3), rtol=1e-6)
    np.testing.assert_array_equal(np.array(variables[1]), values["vector"].astype("float32"))


@pytest.mark.parametrize(("schedule", "accumulation"), [("wsd", 1), ("cosine", 3)])
def test_an_update_has_the_learning_rate_of_the_schedule(schedule, accumulation):
    """Without a gradient an update multiplies the matrix by 1 - rate x decay: the rate can be read back."""
    training = config(
        schedule=schedule, warmup_steps=8, learning_rate=0.5, batch_size=3, accumulation=accumulation
    )
    optimizer, variables, _ = make(training)
    for step, decay in [
        (0, (NEVER, 2 * NEVER)),
        (3, (NEVER, 2 * NEVER)),
        (50, (40, 60)),
        (57, (40, 60)),
        (60, (40, 60)),
    ]:
        optimizer._iterations.assign(step * accumulation)
        optimizer.set_decay(Decay(*decay))
        expected = learning_rate(Schedule.of(training, Decay(*decay)), step, np)
        assert float(optimizer.learning_rate) == pytest.approx(expected, rel=1e-5, abs=1e-8)
        before = np.array(variables[0])
        for _ in range(accumulation):
            apply(optimizer, [np.zeros((3, 4)), np.zeros(4)], variables)
        shrunk = (1 - np.array(variables[0]) / before) / training.weight_decay
        np.testing.assert_allclose(shrunk, expected, rtol=1e-4, atol=1e-6)


def test_the_decay_window_is_among_the_variables_that_a_checkpoint_holds():
    optimizer, _, _ = make(config())
    optimizer.set_decay(Decay(3, 9))
    found = {
        variable.path: int(np.array(variable)) for variable in optimizer.variables if variable.shape == ()
    }
    assert found["optimizer/decay_start"] == 3
    assert found["optimizer/decay_stop"] == 9
    assert found["optimizer/iteration"] == 0


def test_it_is_rebuilt_from_its_configuration():
    from keras.src.testing import TestCase

    from lab.training.optimizer import ScheduledAdamW

    optimizer = ScheduledAdamW(config(accumulation=4, clip_norm=0.5, ema=0.75))
    again = TestCase().run_class_serialization_test(optimizer)
    assert again.gradient_accumulation_steps == 4
    assert float(np.array(again.clip_norm)) == 0.5
    assert float(np.array(again.ema)) == 0.75


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_average_is_of_the_weights_after_each_update(accumulation):
    """Without gradient and decay the weights stay where they are put; the share of w_s is as 0.8^(t - s)."""
    training = config(ema=0.8, weight_decay=0.0, batch_size=3, accumulation=accumulation)
    optimizer, variables, _ = make(training)
    path = np.random.default_rng(2).normal(size=(6, 3, 4))
    for update, place in enumerate(path):
        for _ in range(accumulation):  # an average at each micro-batch would be another
            variables[0].assign(place)
            apply(optimizer, [np.zeros((3, 4)), np.zeros(4)], variables)
        shares = 0.8 ** np.arange(update, -1, -1)
        expected = np.tensordot(shares / shares.sum(), path[: update + 1], axes=1)
        np.testing.assert_allclose(np.array(optimizer.averages[0]), expected, rtol=1e-5, atol=1e-6)


def test_a_long_average_starts_at_the_first_weights():
    """1 - ema^t has few digits in float32 where ema is near 1."""
    optimizer, variables, values = make(config(ema=0.99999, weight_decay=0.0))
    for _ in range(3):
        apply(optimizer, [np.zeros((3, 4)), np.zeros(4)], variables)
        for average, value in zip(optimizer.averages, values.values(), strict=True):
            np.testing.assert_allclose(np.array(average), value, rtol=1e-6)


def test_without_averaging_there_is_no_state_of_it():
    plain, averaged = (
        {variable.path for variable in make(config(ema=ema))[0].variables} for ema in (0.0, 0.9)
    )
    assert averaged - plain == {"optimizer/ema", "optimizer/matrix_average", "optimizer/vector_average"}
    assert plain < averaged


def test_four_quarter_batches_are_one_clipped_step_on_the_whole():
    from lab.training.build import build_learner
    from lab.training.variables import read_variables

    whole = batch(8, VOCAB)
    quarters = [{name: array[i : i + 2] for name, array in whole.items()} for i in range(0, 8, 2)]
    learners = {}
    for accumulation, batches in ((1, [whole]), (4, quarters)):
        training = {"batch_size": 8, "clip_norm": 0.05, "accumulation": accumulation, "warmup_steps": 0}
        learner = build_learner(tiny_config("dlm", {"training": training}), VOCAB)
        start = read_variables(learner.trainable_variables)
        fit(learner, batches)
        learners[accumulation] = learner
    one, four = (read_variables(learner.trainable_variables) for learner in learners.values())
    assert all(np.abs(one[path] - start[path]).max() > 1e-4 for path in start)
    # The first update of Adam has the size of the learning rate whatever the gradient's: one that is zero but
    # for rounding may go either way. The moments are compared as they are.
    moments = [
        {
            v.path: np.array(v)
            for v in learner.optimizer.variables
            if v.path.endswith(("momentum", "velocity"))
        }
        for learner in learners.values()
    ]
    assert moments[0].keys() == moments[1].keys()
    assert len(moments[0]) == 2 * len(start)
    for path, moment in moments[0].items():
        np.testing.assert_allclose(
            moments[1][path], moment, rtol=1e-4, atol=1e-6 * np.abs(moment).max(), err_msg=path
        )
    for path, value in one.items():
        slots = path.replace("/", "_")
        sure = np.abs(moments[0][f"optimizer/{slots}_momentum"]) > 1e-6
        np.testing.assert_allclose(four[path][sure], value[sure], rtol=0, atol=1e-6, err_msg=path)
    assert [int(np.array(learner.optimizer.iterations)) for learner in learners.values()] == [1, 1]


@pytest.fixture
def compilations():
    """The programs that JAX's compiler is given, as they come; always empty under other backends."""
    import keras

    found = []
    if keras.backend.backend() != "jax":
        yield found
        return
    from jax import monitoring

    def listen(event, duration, **about):
        if event.endswith("backend_compile_duration"):
            found.append(about)

    monitoring.register_event_duration_secs_listener(listen)
    yield found
    monitoring.unregister_event_duration_listener(listen)


# Another value of each number that the tiny configuration trains with.
OTHER = {
    "learning_rate": 0.02,
    "warmup_steps": 2,
    "final_learning_rate_share": 0.5,
    "weight_decay": 0.9,
    "weight_decay_warmup_steps": 3,
    "beta_1": 0.5,
    "beta_2": 0.5,
    "epsilon": 1e-3,
    "clip_norm": 0.01,
    "ema": 0.5,
}


def test_another_number_acts_and_compiles_nothing_again(compilations):
    """The objective is Python: under a compiled step it runs while the step is traced and never after."""
    import keras

    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs the objective's Python at every step")
    from lab.objectives.objective import Objective
    from lab.training.build import build_learner
    from lab.training.variables import assign_variables, read_variables

    class Counting(Objective):
        traced = 0

        def example(self, *arguments):
            Counting.traced += 1
            return super().example(*arguments)

    learner = build_learner(tiny_config("ar", {"training": {"ema": 0.9}}), VOCAB)
    learner.objective = Counting(**vars(learner.objective))
    learner.optimizer.set_decay(Decay(1, 9))
    start = read_variables(state_of(learner))

    def train(**numbers):
        changed = {f"optimizer/{name}": np.asarray(value) for name, value in numbers.items()}
        kinds = {path: array.astype(start[path].dtype) for path, array in changed.items()}
        assign_variables(state_of(learner), start | kinds)
        fit(learner, [batch(4, VOCAB)] * 3)
        return read_variables([*learner.trainable_variables, *learner.optimizer.averages])

    end = train()
    traced, compiled = Counting.traced, len(compilations)
    assert traced > 0
    assert compiled > 0 or keras.backend.backend() != "jax"
    assert differences(train(), end) == []
    for name, value in {**OTHER, "decay_start": 0, "decay_stop": 4}.items():
        changed = differences(train(**{name: value}), end)
        averages = [path for path in end if path.endswith("_average")]
        assert set(averages) <= set(changed), name
        assert (changed == averages) == (name == "ema"), name
    assert (Counting.traced, len(compilations)) == (traced, compiled)


def test_runs_that_differ_in_numbers_alone_are_one_program():
    import keras

    if keras.backend.backend() != "jax":
        pytest.skip("JAX alone keeps what it compiled for the next process")
    import jax

    from lab.training.build import build_learner

    def program(training, seed=0, dropout=DROPOUT):
        layers = {"training": {"ema": 0.9} | training, "model": dropout, "seed": seed}
        learner = build_learner(tiny_config("dlm", layers), VOCAB)
        variables = (
            *(learner.trainable_variables, learner.non_trainable_variables),
            *(learner.optimizer.variables, learner.metrics_variables),
        )
        state = tuple([variable.value for variable in group] for group in variables)
        return jax.jit(learner.train_step).lower(state, (batch(4, VOCAB),)).as_text()

    rates = {name: rate + 0.1 for name, rate in DROPOUT.items()}
    assert program(OTHER, seed=1, dropout=rates) == program({})
    assert program({"schedule": "cosine"}) != program({})
