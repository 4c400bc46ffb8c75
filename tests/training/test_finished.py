import numpy as np
import pytest

from lab.data.dataset import prepare
from lab.tracking.records import read_json, write_json


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_the_loaded_arm_measures_as_the_run_said_at_its_best_stop(arm, undisturbed):
    from lab.evaluation.yardstick import Yardstick
    from lab.training.finished import load_finished

    run = undisturbed(arm)
    dataset = prepare(run.config.data, run.cache)
    loaded = load_finished(run.logdir, dataset.tokenizer.vocab_size)
    assert loaded.config == run.config
    (reading, best), *_ = run.result["best"].items()
    assert loaded.stop == {"reading": reading, **{n: best[n] for n in ("step", "tokens_seen", "epoch")}}
    measured = Yardstick(run.config, dataset).measure(loaded.scorer, "test")
    assert measured["nll"] == pytest.approx(best["test"]["nll"], rel=1e-6)
    assert loaded.sampler.transformer is loaded.scorer.transformer
    assert loaded.sampler.causal == (arm == "ar")


def test_a_run_without_weights_says_what_to_do(undisturbed, tmp_path):
    from lab.training.finished import load_finished

    run = undisturbed("ar")
    (tmp_path / "config.yaml").write_bytes((run.logdir / "config.yaml").read_bytes())
    write_json(tmp_path / "result.json", read_json(run.logdir / "result.json"))
    with pytest.raises(
        ValueError, match=r"expected the weights of the best stop at .* to train the run again"
    ):
        load_finished(tmp_path, 257)


@pytest.mark.backend
def test_the_weights_are_not_the_initial_ones(undisturbed):
    from lab.training.build import build_transformer
    from lab.training.finished import load_finished

    run = undisturbed("ar")
    fresh = build_transformer(run.config, 257).trainable_variables
    loaded = load_finished(run.logdir, 257).scorer.transformer.trainable_variables
    assert any((np.array(one) != np.array(other)).any() for one, other in zip(fresh, loaded, strict=True))
