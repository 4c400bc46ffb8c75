import os
from types import SimpleNamespace

import pytest
from training_bench import CAUSAL_MECHANISMS, DROPOUT, tiny_config, write_corpus


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """PyTorch's threads wait for one another in a busy loop, which takes minutes on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start
        if os.environ["KERAS_BACKEND"] == "torch":
            import torch

            torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder for tokenized corpora, which the first run fills."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, corpus, cache):
    """The run of an arm from start to end in one go, with dropout: made once a session for each arm.

    The arm `causal_mechanisms` is `any_order_ar` with every mechanism that it can have.
    Its configuration, logdir, cache and result, and the values of each update of its progress.
    """
    made = {}

    def run(arm):
        if arm not in made:
            from lab.training import records
            from lab.training.progress import ProgressFile
            from lab.training.run import train_run

            name, mechanisms = {"causal_mechanisms": ("any_order_ar", CAUSAL_MECHANISMS)}.get(arm, (arm, {}))
            config = tiny_config(
                name,
                mechanisms,
                {"model": DROPOUT, "data": {"unique_tokens": 960}, "training": {"total_steps": 200}},
                {"evaluation": {"stops": 4}},
                corpus=corpus,
            )
            logdir = tmp_path_factory.mktemp("undisturbed") / arm
            updates = []

            def update(self, force=False, **values):
                updates.append(values)
                written(self, force, **values)

            written = ProgressFile.update
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ProgressFile, "update", update)
                patch.setattr(records, "SHOW_SECONDS", 0.0)
                result = train_run(config, logdir, cache)
            made[arm] = SimpleNamespace(
                config=config, logdir=logdir, cache=cache, result=result, updates=updates
            )
        return made[arm]

    return run
