"""One small run under several layouts of four simulated devices, in a process of its own.

Usage: python distribution_runs.py FOLDER CORPUS CACHE
"""

import sys
from pathlib import Path

from training_bench import DROPOUT, MIXTURE, tiny_config

STEPS = 16
LAYOUTS = {
    "one": {},
    "data": {"parallel": "data"},
    "model_2": {"parallel": "model", "model_parallel": 2},
    "model_4": {"parallel": "model", "model_parallel": 4},
}
SMALL = {
    "model": {"width": 32, "heads": 4, **DROPOUT},
    "data": {"unique_tokens": 960},
    "factors": {"passes": 2},
    "training": {
        "batch_size": 8,
        "accumulation": 2,
        "total_steps": STEPS,
        "log_steps": 2,
        "checkpoint_steps": 4,
    },
    "evaluation": {"stops": 2, "choice_items": 4, "sample_tokens": 2},
}


def config_of(layout, corpus):
    """The run: masked diffusion, dropout, two passes a step, two micro-batches of four sequences."""
    return tiny_config("dlm", SMALL, {"training": LAYOUTS[layout]}, corpus=corpus)


# Of a mixture too, whose experts lie on devices of their own; in fewer steps.
MIXED = ("one", "data", "model_2")


def mixed_config_of(layout, corpus):
    """The run with experts that the text chooses, some of it in vain."""
    fewer = {"training": {"total_steps": 4}, "evaluation": {"stops": 1}}
    return tiny_config("dlm", SMALL, MIXTURE, fewer, {"training": LAYOUTS[layout]}, corpus=corpus)


class StoppedError(Exception):
    """The end of an attempt in the middle of its run."""


def main(folder, corpus, cache):
    from lab.training.run import Run, train_run

    for layout in LAYOUTS:
        train_run(config_of(layout, corpus), folder / layout, cache)

    for layout in MIXED:
        train_run(mixed_config_of(layout, corpus), folder / f"mixed_{layout}", cache)

    save = Run._save

    def save_and_stop(self):
        save(self)
        if self.step == STEPS // 2:
            raise StoppedError

    moved = folder / "moved"
    Run._save = save_and_stop
    try:
        train_run(config_of("model_4", corpus), moved, cache)
    except StoppedError:
        Run._save = save
        train_run(config_of("data", corpus), moved, cache)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
