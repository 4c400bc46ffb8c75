import shutil
from pathlib import Path

import numpy as np
import pytest

from lab.config import make_config
from lab.data.dataset import prepare
from lab.evaluation.measurements import measure, yardstick


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_the_loaded_arm_measures_as_the_run_said_at_its_best_stop(arm, undisturbed):
    from lab.training.finished import load_arm

    run = undisturbed(arm)
    dataset = prepare(run.config.data, run.cache)
    best = run.result.best()
    loaded = load_arm(run.logdir, run.result.reference(best), dataset.tokenizer.vocab_size, run.config)
    assert loaded.config == run.config
    assert loaded.stop == run.result.reference(best)
    task, *_ = yardstick(run.config, "test")
    measured = measure(task, [loaded], dataset)
    assert measured.values["nll"] == pytest.approx(best.test["nll"], rel=1e-6)
    assert measured.key in {row.key for row in best.measured}
    assert loaded.scorer.causal == (arm == "ar")


def test_a_configuration_that_asks_for_more_measures_the_same_weights(undisturbed):
    from lab.training.finished import load_arm

    run = undisturbed("ar")
    more = make_config(
        run.config.model_dump(mode="json", exclude_none=True), {"evaluation": {"batch_size": 5}}
    )
    loaded = load_arm(run.logdir, run.result.reference(run.result.end()), 257, more)
    assert (loaded.config, loaded.scorer.batch_size) == (more, 5)


def test_a_run_without_weights_or_with_damaged_ones_says_what_to_do(undisturbed, tmp_path):
    from lab.training.checkpoint import stop_weights_path
    from lab.training.finished import load_arm

    run = undisturbed("ar")
    shutil.copytree(run.logdir, tmp_path / "run")
    stop = run.result.reference(run.result.best())
    path = stop_weights_path(tmp_path / "run", stop.reading, stop.step)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=rf"{path}: not weights as the lab writes them"):
        load_arm(tmp_path / "run", stop, 257, run.config)
    path.unlink()
    with pytest.raises(ValueError, match=rf"expected the weights of a stop at {path}, .* to train it again"):
        load_arm(tmp_path / "run", stop, 257, run.config)


def test_the_weights_of_another_run_are_refused(undisturbed, tmp_path):
    from lab.training.finished import load_arm

    run = undisturbed("ar")
    stop = run.result.reference(run.result.best()).model_copy(update={"run": "another"})
    with pytest.raises(ValueError, match=rf"must hold the run another, but it holds {run.result.run}\."):
        load_arm(run.logdir, stop, 257, run.config)
    with pytest.raises(ValueError, match=r"must hold the run another, but it holds None\."):
        load_arm(tmp_path, stop, 257, run.config)


def test_the_weights_are_not_the_initial_ones(undisturbed):
    from lab.training.build import build_transformer
    from lab.training.finished import load_arm

    run = undisturbed("ar")
    fresh = build_transformer(run.config, 257).trainable_variables
    arm = load_arm(run.logdir, run.result.reference(run.result.best()), 257, run.config)
    loaded = arm.scorer.transformer.trainable_variables
    assert any((np.array(one) != np.array(other)).any() for one, other in zip(fresh, loaded, strict=True))


def test_a_stop_of_a_run_is_the_best_or_the_last(undisturbed):
    from lab.training.finished import find_stop

    result = undisturbed("ar").result
    assert (find_stop(result, "best"), find_stop(result, "last")) == (result.best(), result.end())
    with pytest.raises(ValueError, match=r"`stop` must be best or last, but got stop='first'\."):
        find_stop(result, "first")


def test_what_is_no_finished_run_says_what_it_is(undisturbed, tmp_path):
    from lab.training.finished import finished_result

    tree = tmp_path / "tree"
    (tree / "runs").mkdir(parents=True)
    (tree / "plan.json").write_text("{}")
    wrong = {
        tmp_path / "none": "there is none",
        tmp_path: r"it has no result\.json",
        tree / "plan.json": "it is a file",
        tree: "it is a result tree without one",
    }
    for folder, reason in wrong.items():
        with pytest.raises(ValueError, match=f"{folder} must be the folder of a finished run, but {reason}"):
            finished_result(folder)
    measured = tree / "runs" / "ar" / "measurements" / "seed=0-yardstick"
    measured.mkdir(parents=True)
    (measured / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"it is a result tree without one\."):
        finished_result(tree)
    shutil.copytree(undisturbed("ar").logdir, tree / "runs" / "ar" / "seed=0")
    message = f"it is a result tree, which holds {tree / 'runs' / 'ar' / 'seed=0'}"
    with pytest.raises(ValueError, match=message):
        finished_result(tree)


def test_the_tokenizer_of_a_run_needs_its_corpus_where_it_was_trained_on_it(undisturbed, tmp_path):
    from lab.training.finished import corpus_of, tokenizer_of

    run = undisturbed("ar")
    assert tokenizer_of(run.logdir, run.config, tmp_path / "unread").name == "bytes"
    assert not (tmp_path / "unread").exists()
    assert corpus_of(run.logdir, run.config, run.cache).hash == prepare(run.config.data, run.cache).hash
    (tmp_path / "text").mkdir()
    for path in list(Path(run.config.data.paths[0]).glob("*.txt"))[:-1]:
        shutil.copy(path, tmp_path / "text")
    layer = {"data": {"paths": [str(tmp_path / "text")], "tokenizer": "bpe:260"}}
    other = make_config(run.config.model_dump(mode="json", exclude_none=True), layer)
    with pytest.raises(
        ValueError, match=f"{run.logdir} must be measured on the corpus that it was trained on"
    ):
        tokenizer_of(run.logdir, other, tmp_path / "cache")
