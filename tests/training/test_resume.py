"""Going on from a checkpoint gives bit for bit what going straight on would have given."""

import pytest
from test_optimizer import OTHER
from training_bench import (
    CAUSAL_MECHANISMS,
    DENSE_MECHANISMS,
    DROPOUT,
    MIXTURE,
    batch,
    differences,
    fit,
    state_of,
    tiny_config,
)

from lab.version import Version

pytestmark = pytest.mark.backend

VOCAB = 5
HALF = 6  # steps
VERSION = Version({"seed": 0}, "c0de")


@pytest.mark.parametrize(
    ("arm", "mechanisms"),
    [("ar", {}), ("dlm", {}), ("ar_masked", CAUSAL_MECHANISMS), ("dlm", DENSE_MECHANISMS), ("dlm", MIXTURE)],
    ids=["ar", "dlm", "causal_mechanisms", "dense_mechanisms", "mixture"],
)
def test_half_save_restore_half_is_the_whole(arm, mechanisms, tmp_path):
    from lab.training.build import build_learner
    from lab.training.checkpoint import Checkpoints
    from lab.training.schedule import Decay
    from lab.training.variables import assign_variables, read_variables

    config = tiny_config(arm, mechanisms, {"model": DROPOUT, "training": {"accumulation": 2, "ema": 0.9}})
    batches = [batch(2, VOCAB, seed) for seed in range(4 * HALF)]
    straight = build_learner(config, VOCAB)
    straight.optimizer.set_decay(Decay(3, 4 * HALF))
    start = read_variables(state_of(straight))
    fit(straight, batches)
    end = read_variables(state_of(straight))
    assert len(differences(end, start)) >= len(straight.trainable_variables) + 1  # dropout's generators too

    assign_variables(state_of(straight), start)
    fit(straight, batches[: 2 * HALF + 1])  # an accumulation is open
    Checkpoints(tmp_path, VERSION).save(HALF, read_variables(state_of(straight)))
    del straight

    resumed = build_learner(config, VOCAB)
    step, arrays = Checkpoints(tmp_path, VERSION).load()
    assert step == HALF
    assign_variables(state_of(resumed), arrays)
    fit(resumed, batches[2 * HALF + 1 :])
    assert differences(read_variables(state_of(resumed)), end) == []


def test_a_checkpoint_holds_slots_step_window_and_generators(tmp_path):
    from lab.training.build import build_learner
    from lab.training.checkpoint import Checkpoints
    from lab.training.variables import assign_variables, read_variables

    config = tiny_config("dlm", {"model": DROPOUT, "seed": 3})
    learner = build_learner(config, VOCAB)
    found = read_variables(state_of(learner))
    weights = {variable.path for variable in learner.trainable_variables}
    generators = [path for path in found if path.endswith("seed_generator_state")]
    assert len(generators) == 2
    numbers = ("iteration", "decay_start", "decay_stop", *OTHER.keys() - {"ema"})
    others = {f"optimizer/{name}" for name in numbers}
    slots = {path for path in found if path.endswith(("momentum", "velocity"))}
    assert len(slots) == 2 * len(weights)
    draw_seed = {path for path in found if path.endswith("draw_seed")}
    assert [int(found[path]) for path in draw_seed] == [3]
    dropout_rates = {path for path in found if path.endswith("_dropout/rate")}
    assert len(dropout_rates) == 2
    assert set(found) == weights | set(generators) | others | slots | draw_seed | dropout_rates
    Checkpoints(tmp_path, VERSION).save(1, found)
    larger = build_learner(tiny_config("dlm", {"model": {"layers": 2}}), VOCAB)
    before = read_variables(state_of(larger))
    with pytest.raises(ValueError, match=r"must hold \['.*block_1.*\], but it holds \["):
        assign_variables(state_of(larger), Checkpoints(tmp_path, VERSION).load()[1])
    assert differences(read_variables(state_of(larger)), before) == []
