"""lm-evaluation-harness over a finished run: its own command line, with the run as the model."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datasets.exceptions import DatasetsError
from jinja2 import TemplateError
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml import YAMLError

from lab.config import make_config
from lab.evaluation.harness_model import HarnessModel
from lab.training.finished import find_stop, finished_result, load_arm, tokenizer_of

NAME = "ablation-lab"


class ModelArgs(BaseModel):
    """What `--model_args` may say, and what the harness adds.

    Attributes:
        run: folder of a finished run.
        stop: best or last.
        draws: see `HarnessModel`, as of the three that follow.
        sampler: by default the arm's own.
        passes: by default one a token.
        seed: of samples.
        batch_size: rows a pass; `auto` for the run's own.
        max_batch_size: of no meaning here, and neither is `device`, which the backend chooses.
        device: see there.
        cache: where tokenized corpora are kept, for a tokenizer that was trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Path
    stop: Literal["best", "last"] = "best"
    draws: int = Field(default=0, ge=0)
    sampler: str = ""
    passes: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    batch_size: Literal["auto"] | int = "auto"
    max_batch_size: Any = None
    device: Any = None
    cache: Path = Path(".cache")


@register_model(NAME)
class RunModel(HarnessModel):
    """A finished run as a model of the harness, by its folder.

    Raises:
        ValueError: if an argument is none of `ModelArgs`, or there is no such run.
    """

    def __init__(self, **arguments: Any) -> None:
        try:
            asked = ModelArgs.model_validate(arguments)
        except ValidationError as error:
            problems = (f"{one['loc'][0]}: {one['msg']}, but got {one['input']!r}" for one in error.errors())
            raise ValueError(f"`model_args` are not valid: {'; '.join(problems)}.") from None
        result = finished_result(asked.run)
        config = result.config
        if asked.batch_size != "auto":
            own = config.model_dump(mode="json", exclude_none=True)
            config = make_config(own, {"evaluation": {"batch_size": asked.batch_size}})
        tokenizer = tokenizer_of(asked.run, config, asked.cache)
        stop = result.reference(find_stop(result, asked.stop))
        arm = load_arm(asked.run, stop, tokenizer.vocab_size, config)
        super().__init__(arm, tokenizer, asked.draws, asked.sampler, asked.passes, asked.seed)


def run_harness(run: Path, options: Sequence[str], cache_dir: Path) -> None:
    """Run the harness' own command `lm_eval run` on a finished run.

    Args:
        run: its folder.
        options: of that command, all but `--model`; `--model_args` may say more (`ModelArgs`).
        cache_dir: where tokenized corpora are kept.

    Raises:
        ValueError: if there is no such run, an option is wrong, or a task or its file cannot be read.
        SystemExit: as of the command, where it knows an option not, with 2.
    """
    finished_result(run)
    own = json.dumps({"run": str(run), "cache": str(cache_dir)})
    before = sys.argv
    sys.argv = ["lm_eval", "run", "--model", NAME, "--batch_size", "auto", *options, "--model_args", own]
    try:
        cli_evaluate()
    except (LookupError, NotImplementedError, OSError, DatasetsError, TemplateError, YAMLError) as error:
        raise ValueError(f"lm-evaluation-harness: {type(error).__name__}: {error}") from error
    finally:
        sys.argv = before
