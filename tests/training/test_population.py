"""Runs that one process trains together: each has the numbers, the files and the end that it has alone."""

import io
import os
from contextlib import contextmanager, redirect_stdout

import numpy as np
import pytest
from training_bench import DROPOUT, differences, numbers_of, tiny_config

from lab.scheduling.outcomes import EXIT_CODES, Outcome, exit_code_of
from lab.training.ending import DroppedError, PreemptedError

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="runs are trained together under JAX alone"
)

VOCAB, PLACES = 5, 3
# As the tests compile (tests/conftest.py) two programs round the same sum in other ways; as a user's runs are
# compiled, one run after the other has each bit that it has alone.
UNFUSED = "optimization_level=0" in os.environ.get("XLA_FLAGS", "")
TOKENS = np.random.default_rng(0).integers(0, VOCAB, 1000).astype(np.int32)


def population(how="map"):
    from lab.training.population import Population

    return Population(PLACES, how)


def finish(together, wanted=lambda: False):
    """Let all runs come to their ends; returns their exit codes in the order in which they ended."""
    codes = []
    while together.members:
        codes += [member.code for member in together.round(wanted)]
    return codes


# --- Parts of a run: an engine that is trained, with no folder. ---


def config_of(seed, **training):
    return tiny_config("dlm", {"seed": seed, "model": DROPOUT, "training": training})


class Trained:
    """Engines that are trained as members, by name: the states that they end with, and what ended others."""

    def __init__(self, together):
        self.together, self.states, self.errors = together, {}, {}

    def add(self, name, config, steps, callbacks=(), before=lambda member: None, **around):
        from lab.training.engine import Engine
        from lab.training.kind import kind_of
        from lab.training.population import Member

        def act(member):
            member.run, member.kind = name, kind_of(config)
            before(member)
            try:
                engine = Engine(config, TOKENS, VOCAB, member.fit)
                for first, last in zip([0, *steps], steps, strict=False):
                    engine.fit(first, last, callbacks)
            except Exception as error:
                self.errors[name] = error
                return 1
            self.states[name] = engine.state()
            return 0

        member = Member(act, **around)
        self.together.add(member)
        return member


@pytest.fixture(scope="module")
def calm():
    """`calm(config, steps)`: the state after so many updates in a joint step, without a population."""
    from lab.training.engine import Engine
    from lab.training.kind import kind_of

    steps = {}

    def make(config, count):
        engine, kind = Engine(config, TOKENS, VOCAB), kind_of(config)
        step = steps.setdefault(kind, engine.learner.joint_step(PLACES, "map"))
        step.begin([engine.learner])
        for (inputs,) in engine._micro_batches(0, count):
            step([inputs])
        step.end()
        return engine.state()

    return make


def failing(at, error):
    """A callback that raises at a micro-batch."""
    import keras

    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == at:
                raise error

    return Failing()


def test_runs_come_and_go_and_each_is_trained_as_without_the_others(calm, capsys):
    """More of them than places and of two kinds, each with an end of its own, some later than others."""
    configs = {seed: config_of(seed, learning_rate=0.01 * (1 + seed)) for seed in range(5)}
    other = config_of(5, accumulation=2)
    together = population()
    trained, calls = Trained(together), []

    def wanted():
        calls.append(1)
        return len(calls) % 3 == 0

    entries = []

    @contextmanager
    def lost_log():
        entries.append(1)
        if len(entries) == 2:
            raise OSError("no log")
        yield

    def raises(member):
        raise SystemExit("by itself")

    trained.add(0, configs[0], [4, 12])
    trained.add(1, configs[1], [9])
    trained.add("failing", configs[2], [12], [failing(2, OSError("disk full"))])
    trained.add("lost", configs[2], [12], around=lost_log)
    trained.add("raises", configs[2], [12], before=raises)
    dropped = trained.add("dropped", configs[2], [12])
    ended = together.round(wanted)
    assert [member.code for member in ended] == [1]
    assert "SystemExit: by itself" in capsys.readouterr().err
    for _ in range(3):
        ended += together.round(wanted)
    trained.add(2, configs[2], [12])
    dropped.drop()
    trained.add(5, other, [4])
    codes = finish(together, wanted)
    assert sorted([*codes, *(member.code for member in ended)]) == [0] * 4 + [1] * 4
    assert str(trained.errors.pop("failing")) == "disk full"
    assert str(trained.errors.pop("lost")) == "no log"
    assert isinstance(trained.errors.pop("dropped"), DroppedError)
    assert trained.errors == {}
    for name, config, steps in ((0, configs[0], 12), (1, configs[1], 9), (2, configs[2], 12), (5, other, 4)):
        assert differences(trained.states[name], calm(config, steps)) == [], name


def test_an_error_of_the_joint_step_ends_each_that_waits_for_it_and_no_other(calm, monkeypatch):
    from lab.training.joint_jax import JointStep

    together = population()
    trained, made = Trained(together), JointStep.__call__
    calls = []

    def step(self, inputs):
        calls.append(len(inputs))
        if len(inputs) == 2 and len(calls) == 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return made(self, inputs)

    monkeypatch.setattr(JointStep, "__call__", step)
    members = [trained.add(seed, config_of(seed), [5]) for seed in range(2)]
    trained.add(5, config_of(5, accumulation=2), [4])
    assert finish(together) == [1, 1, 0]
    for error in trained.errors.values():
        assert exit_code_of(error, on_cpu=False) == EXIT_CODES[Outcome.DEVICE_MEMORY]
    assert trained.errors.keys() == {0, 1}
    assert differences(trained.states[5], calm(config_of(5, accumulation=2), 4)) == []
    assert [member.population for member in members] == [(0, 1), (0, 1)]


def test_what_a_run_says_goes_where_it_speaks_and_each_knows_who_was_with_it():
    together = population()
    trained, logs = Trained(together), {name: io.StringIO() for name in "abc"}

    def say(name):
        import keras

        class Saying(keras.callbacks.Callback):
            def on_train_end(self, logs=None):
                print(name, "ended")

        return Saying()

    members = [
        trained.add(
            name,
            config_of(seed, batch_size=8 if name == "c" else 4),
            [2 + seed],
            [say(name)],
            lambda member, name=name: print(name, "begins"),
            around=lambda name=name: redirect_stdout(logs[name]),
        )
        for seed, name in enumerate(logs)
    ]
    assert [member.population for member in members] == [()] * 3
    assert sorted(finish(together)) == [0] * 3
    assert {name: log.getvalue() for name, log in logs.items()} == {
        name: f"{name} begins\n{name} ended\n" for name in logs
    }
    assert [member.population for member in members] == [("a", "b"), ("a", "b"), ()]


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_passes_are_made_together_and_a_notice_is_obeyed_where_the_run_may_be_left(how):
    from lab.evaluation.arm import make_scorer
    from lab.objectives.corruption import dense_example
    from lab.training.build import build_transformer
    from lab.training.population import Member

    configs = [config_of(seed) for seed in range(3)]
    scorers = [make_scorer(build_transformer(config, VOCAB), config) for config in configs]
    windows = TOKENS[:640].reshape(-1, 16)
    example = dense_example(windows, windows > 2, scorers[0].transformer.mask_id, np.ones(40, np.float32), np)
    slots = np.array([1, 5])
    expected = [scorer.nll(example, slots) for scorer in scorers]
    said, ends = {}, {}
    together = population(how)

    def act(number):
        def measure(member):
            scorers[number].predict_on_batch = lambda batch: member.predict(scorers[number], batch)
            member.notice.given = number == 1  # what is asked for at another place is had
            said[number] = scorers[number].nll(example, slots)
            member.notice.given = False
            try:
                with member.notice.at_once():
                    member.notice.given = number == 1
                    scorers[number].nll(example, slots)
            except PreemptedError:
                return 75
            return 0

        return measure

    for number in range(3):
        ends[number] = Member(act(number))
        together.add(ends[number])
    finish(together)
    assert [ends[number].code for number in range(3)] == [0, 75, 0]
    for number in range(3):
        np.testing.assert_allclose(said[number], expected[number], rtol=0, atol=2e-6)


# --- Whole runs. ---

RUN = {
    "data": {"unique_tokens": 640},
    "model": DROPOUT,
    "training": {"total_steps": 16, "checkpoint_steps": 8, "log_steps": 4},
    "evaluation": {
        **{"stops": 2, "validation_windows": 4, "test_windows": 4, "exact_windows": 2, "sample_tokens": 2},
        **{"choice_items": 2, "validation_positions": 2, "test_positions": 4},
    },
}
# Of one kind, but for the last.
LAYERS = (
    *({"seed": seed, "training": {"learning_rate": 0.01 * (1 + seed % 3)}} for seed in range(6)),
    {"seed": 6, "model": {"mlp_dropout": 0.4}, "training": {"total_steps": 12, "weight_decay": 1.0}},
    {"seed": 7, "data": {"unique_tokens": 320}, "training": {"beta_2": 0.99, "warmup_steps": 2}},
)
DLM = 8  # the place of the run of another kind


class Runs:
    """Whole runs in a population, by number: their results, and the members that trained them."""

    def __init__(self, how, folder, corpus, cache):
        self.together, self.folder, self.cache = population(how), folder, cache
        self.corpus, self.results, self.members = corpus, {}, {}

    def config(self, number):
        arm, layer = ("dlm", {}) if number == DLM else ("ar", LAYERS[number])
        return tiny_config(arm, RUN, layer, corpus=self.corpus)

    def add(self, number, config=None):
        from lab.training.population import Member
        from lab.training.run import train_run

        config = config or self.config(number)

        def act(member):
            try:
                self.results[number] = train_run(config, self.folder / str(number), self.cache, member=member)
            except (PreemptedError, ValueError) as error:
                return exit_code_of(error, on_cpu=True)
            return 0

        self.members[number] = Member(act)
        self.together.add(self.members[number])
        return self.members[number]


@pytest.fixture(scope="module")
def alone_runs(tmp_path_factory, corpus, cache):
    """`alone_runs(number)`: the result of a run by itself."""
    from lab.training.run import train_run

    made, runs = {}, Runs("map", tmp_path_factory.mktemp("alone"), corpus, cache)

    def make(number):
        if number not in made:
            made[number] = train_run(runs.config(number), runs.folder / str(number), cache)
        return made[number]

    return make


@pytest.fixture(scope="module")
def runs_together(tmp_path_factory, corpus, cache):
    """`runs_together(how)`: all of them, of which each finds a place in its turn."""
    made = {}

    def make(how):
        if how not in made:
            made[how] = runs = Runs(how, tmp_path_factory.mktemp(how), corpus, cache)
            for number in range(len(LAYERS)) if how == "vmap" else (0, 6):
                runs.add(number)
            runs.add(DLM)
            assert set(finish(runs.together)) == {0}
        return made[how]

    return make


def measured(result):
    """All values by stop and task."""
    return {
        (stop.reading, stop.step, row.key, name): value
        for stop in result.stops
        for row in stop.measured
        for name, value in row.values.items()
        if value is not None
    }


def numbers_but_for_company(result):
    numbers = numbers_of(result)
    return {**numbers, "process": {**numbers["process"], "population": []}}


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_whole_runs_are_as_they_are_alone_but_for_rounding(runs_together, alone_runs, how):
    """Of two kinds and of other numbers: all that is measured; one after the other, all that is recorded.

    Adam makes much of the rounding of a small gradient: 16 updates at a learning rate of 0.03 make 2e-5 nats.
    """
    for number, result in runs_together(how).results.items():
        if how == "map" and not UNFUSED:
            assert numbers_but_for_company(result) == numbers_of(alone_runs(number))
        found, expected = measured(result), measured(alone_runs(number))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, abs=1e-4), (number, key)


def test_eight_runs_all_at_once_have_the_final_nll_that_they_have_alone(runs_together, alone_runs):
    """What rounding gives has no direction: the mean difference is within 5.4 standard errors of none.

    So is that of 999 in 1000 samples of eight normal numbers; a bias in all runs would stand out.
    """
    runs = runs_together("vmap")
    found, expected = (
        np.array([source(number).end().test["nll"] for number in range(8)])
        for source in (runs.results.__getitem__, alone_runs)
    )
    paired = found - expected
    assert len(set(expected)) == 8
    assert abs(paired.mean()) < 5.4 * paired.std(ddof=1) / np.sqrt(8), paired
    assert np.abs(paired).max() < 1e-4


def test_a_result_names_those_that_were_trained_together(runs_together, alone_runs):
    from lab.training.run import CODE_HASH
    from lab.version import Version

    for how, kind in (("map", (0, 6)), ("vmap", range(8))):
        runs = runs_together(how)
        digests = {
            number: Version(result.version.values, CODE_HASH).digest()
            for number, result in runs.results.items()
        }
        for number in kind:
            own = runs.results[number].process.population
            assert list(own) == sorted(own)
            assert digests[number] in own
            assert set(own) <= {digests[other] for other in kind}
            assert len(own) >= 2
        assert runs.results[DLM].process.population == ()
    assert set(runs_together("map").results[0].process.population) == {
        runs_together("map").members[number].run for number in (0, 6)
    }
    assert alone_runs(0).process.population == ()


def test_a_run_that_diverges_ends_alone(runs_together, tmp_path, corpus, cache):
    runs = Runs("vmap", tmp_path, corpus, cache)
    layer = {"training": {"learning_rate": 1e15, "warmup_steps": 0}}
    lost = runs.add("lost", tiny_config("ar", RUN, layer, corpus=corpus))
    runs.add(0)
    finish(runs.together)
    assert (lost.code, runs.members[0].code) == (EXIT_CODES[Outcome.DIVERGED], 0)
    assert lost.run in runs.results[0].process.population
    expected = runs_together("vmap").results[0]
    assert numbers_but_for_company(runs.results[0]) == numbers_but_for_company(expected)


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_a_run_that_is_asked_to_end_goes_on_later_to_the_same_numbers(
    runs_together, tmp_path, corpus, cache, how
):
    """In another population, with runs that are at other steps, and alone."""
    from lab.training.checkpoint import Checkpoints
    from lab.training.run import train_run
    from lab.version import read_version

    runs, asked = Runs(how, tmp_path, corpus, cache), []
    runs.add(0), runs.add(6)

    def give_notice():  # after so many micro-batches, as a signal would
        asked.append(1)
        for member in runs.members.values():
            member.notice.given |= len(asked) == 5
        return False

    assert finish(runs.together, give_notice) == [EXIT_CODES[Outcome.PREEMPTED]] * 2
    for number in (0, 6):
        folder = tmp_path / str(number)
        step, _ = Checkpoints(folder / "checkpoints", read_version(folder)).load()
        assert 0 < step < 12
        assert not (folder / "result.json").exists()
    expected = runs_together(how).results
    again = Runs(how, tmp_path, corpus, cache)
    again.add(0), again.add(DLM)
    if how == "vmap":
        again.add(6), again.add(2)
    assert set(finish(again.together)) == {0}
    for number, result in again.results.items():
        assert numbers_but_for_company(result) == numbers_but_for_company(expected[number]), number
    if how == "map":
        found, whole = measured(train_run(runs.config(6), tmp_path / "6", cache)), measured(expected[6])
        assert found == (pytest.approx(whole, abs=1e-4) if UNFUSED else whole)
