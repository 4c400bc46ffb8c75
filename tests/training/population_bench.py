"""How far the runs of a population are from the same runs by themselves.

    JAX_PLATFORMS=cpu python tests/training/population_bench.py steps     # six updates, in seven settings
    JAX_PLATFORMS=cpu python tests/training/population_bench.py runs ar   # or dlm: eight whole runs, by vmap

Of steps it prints the largest difference of any number of the state, by `map` and by `vmap`. Of runs, of the
`laptop` preset with 10,000 unique tokens and 200,000 tokens seen, the differences of the test NLL at the
last stop: of the population from separate runs, and of twins whose initial weights differ by one part in a
million.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from lab.arms import arm_values
from lab.config import make_config, read_preset
from lab.training.engine import Engine
from lab.training.memory import keep_freed_memory
from lab.training.population import Member, Population
from lab.training.run import train_run

UPDATES, RUNS = 6, 8
SMALL = {
    "model": {"size": "0.1m"},
    "training": {"batch_size": 8, "total_steps": 100, "warmup_steps": 5},
}
SETTINGS = (
    ("dlm", {"model": {"dtype": "mixed_bfloat16", "attention_dropout": 0.1}}),
    ("ar", {"model": {"dtype": "mixed_bfloat16"}, "training": {"accumulation": 2, "ema": 0.99}}),
    ("dlm", {"factors": {"passes": 2}}),
    ("dlm", {"factors": {"block": 8}}),
    ("dlm", {"factors": {"ar_share": 0.5}}),
    ("ar", {"model": {"feed_forward": "token_choice", "experts": 4, "experts_per_token": 2}}),
    ("ar", {"training": {"rematerialise": True}}),
)


def steps():
    tokens = np.random.default_rng(0).integers(0, 256, 20_000).astype(np.uint16)
    for arm, layer in SETTINGS:
        seeds = [{"seed": seed, "training": {"learning_rate": 1e-3 * (seed + 1)}} for seed in range(3)]
        configs = [make_config(SMALL, arm_values(arm), seed, layer) for seed in seeds]
        alone = [Engine(config, tokens, 257) for config in configs]
        for engine in alone:
            engine.fit(0, UPDATES)
        for how in ("map", "vmap"):
            joint = [Engine(config, tokens, 257) for config in configs]
            step = joint[0].learner.joint_step(4, how)
            step.begin([engine.learner for engine in joint])
            batches = [engine._micro_batches(0, UPDATES) for engine in joint]
            for _ in range(UPDATES * configs[0].training.accumulation):
                step([next(own)[0] for own in batches])
            step.end()
            differences = [
                np.abs(one.astype(np.float64) - other).max()
                for left, right in zip(alone, joint, strict=True)
                for one, other in zip(left.state().values(), right.state().values(), strict=True)
            ]
            print(arm, layer, how, max(differences), flush=True)


def config_of(arm, seed, **training):
    own = {"seed": seed, "data": {"unique_tokens": 10_000}, "evaluation": {"stops": 2}}
    return make_config(
        read_preset("laptop"), arm_values(arm), own, {"training": {"total_tokens": 200_000, **training}}
    )


def last_nll(result):
    annealed = [
        stop.test["nll"] for stop in result.stops if stop.reading == "annealed" and "nll" in stop.test
    ]
    return annealed[-1]


def runs(arm):
    with tempfile.TemporaryDirectory() as name:
        folder, cache, together = Path(name), Path(".cache"), {}

        def act(member, seed):
            config = config_of(arm, seed)
            together[seed] = last_nll(train_run(config, folder / f"together {seed}", cache, member=member))
            return 0

        population = Population(RUNS, "vmap")
        for seed in range(RUNS):
            population.add(Member(lambda member, seed=seed: act(member, seed)))
        while population.members:
            population.round()

        def alone(label, **training):
            configs = [config_of(arm, seed, **training) for seed in range(RUNS)]
            found = [last_nll(train_run(one, folder / f"{label} {one.seed}", cache)) for one in configs]
            return np.array(found)

        by_themselves = alone("alone")
        others = {
            "population": np.array([together[seed] for seed in range(RUNS)]),
            "twins": alone("twin", perturbation=1e-6),
        }
        for label, found in others.items():
            differences = found - by_themselves
            print(
                f"{arm}: {label}: mean {differences.mean():.1e}, standard deviation "
                f"{differences.std(ddof=1):.1e}, largest {np.abs(differences).max():.1e} nats/token",
                flush=True,
            )


if __name__ == "__main__":
    keep_freed_memory()
    {"steps": steps, "runs": runs}[sys.argv[1]](*sys.argv[2:])
