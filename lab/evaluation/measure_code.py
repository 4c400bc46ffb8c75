"""Measure the code that an arm writes by running it: bodies of functions, or of published problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lab.data.documents import documents_of
from lab.data.functions import functions_of
from lab.data.ngram import MAX_ORDER, fit
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.asked_problems import Asked, asked_problems, judge_of
from lab.evaluation.code_problems import Problem
from lab.evaluation.documents import standard_error
from lab.evaluation.inference_flops import InferenceCounter
from lab.evaluation.ngram_bodies import sample_bodies
from lab.evaluation.pass_at_k import pass_at_k
from lab.evaluation.retrieval import retrieve_bodies
from lab.evaluation.sampling import sample
from lab.evaluation.sandbox import Sandbox
from lab.evaluation.stop_conditions import StopStrings
from lab.evaluation.training_windows import unique_tokens
from lab.results import Examples, Task, Text

if TYPE_CHECKING:
    from lab.data.dataset import Dataset

KEPT_TEXTS = 2  # bodies, to be looked at


class _Gap(NamedTuple):
    """A part of a function that is to be written.

    Attributes:
        problem: whose it is.
        left: what stands before the gap.
        right: what stands behind it.
        tokens: how many are written, at most.
    """

    problem: Problem
    left: str
    right: str
    tokens: int


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm, or what needs none.

    The problems are the same for every arm of a replicate. A body ends where its document does, one of a
    published problem before its `stops` too. It passes if each of its function's hidden calls returns what it
    should, or the problem's test finds nothing wrong (lab/evaluation/sandbox.py).

    Args:
        task: `code`, whose settings say how many `problems` of which `sample`, or of files of which `form`,
            how many `samples` of each, of at most how many `new_tokens`, at which `temperature`, by which
            `sampler`; `code_infilling`, the same of the last but one line of bodies that have two, all else
            given, in as many tokens as it has; or `code_baselines`, of bodies that are looked up, and that
            the n-gram writes.
        arms: one. Of `code_baselines` its configuration alone counts.
        dataset: its corpus.

    Returns:
        `pass_at_1`, `pass_at_k`, k = `samples`, and `code_parses`, the share of bodies that are Python, means
        over problems with their standard errors; of infilling `infilling_pass_at_1`, of the baselines
        `ngram_pass_at_1`, on the corpus `functions` `retrieval_pass_at_1`, and of files
        `reference_pass_at_1`, which is what can be reached. Of `code` the costs `flops` and `flops_computed`
        a token, and of files `code_problems`, how many were asked, and the share `code_left_out` of those
        whose prompt does not fit.

    Raises:
        ValueError: as `asked_problems` and `Sandbox.require`.
    """
    (arm,) = arms
    asked, judge = asked_problems(arm.config, dataset), judge_of(arm.config)
    judge.require()  # before anything is written
    if task.measurement == "code_baselines":
        return _baselines(task, arm, dataset, list(asked.problems.values()), judge)
    if task.measurement == "code_infilling":
        return _infilling(task, arm, dataset, list(asked.problems.values()), judge)
    return _bodies(task, arm, dataset, asked, judge)


def _bodies(task: Task, arm: Arm, dataset: Dataset, found: Asked, judge: Sandbox) -> Finding:
    asked = list(found.problems.values())
    samples, new_tokens = task.settings["samples"], task.settings["new_tokens"]
    bodies = _write(task, arm, dataset, [_Gap(one, one.prompt, "", new_tokens) for one in asked])
    outcomes = _outcomes(asked, bodies, judge)
    one, several = (pass_at_k(samples, (outcomes == "passed").sum(axis=1), k) for k in (1, samples))
    scorer, tokenizer = arm.scorer, dataset.tokenizer
    counter = InferenceCounter(
        arm.config.model, arm.config.data.length, tokenizer.vocab_size, scorer.causal, scorer.block_size
    )
    prompt_tokens = round(float(np.mean([len(tokenizer.encode(problem.prompt)) for problem in asked])))
    cost = counter.per_generated_token(prompt_tokens, new_tokens, new_tokens)
    left_out = {"code_left_out": found.left_out / (len(asked) + found.left_out)}
    return Finding(
        {
            **_mean("pass_at_1", one),
            **_mean("pass_at_k", several),
            **_mean("code_parses", (outcomes != "syntax").mean(axis=1)),
            **({"code_problems": len(asked), **left_out} if "form" in task.settings else {}),
        },
        Examples(metric="pass_at_1", values=tuple(one.tolist()), documents=tuple(found.problems)),
        tuple(Text(prompt=asked[place].prompt, text=bodies[place][0]) for place in range(KEPT_TEXTS)),
        {"flops": cost.needed, "flops_computed": cost.computed},
    )


def _infilling(task: Task, arm: Arm, dataset: Dataset, asked: Sequence[Problem], judge: Sandbox) -> Finding:
    """The last but one line; an arm that reads left to right alone sees what stands before it."""
    gaps = []
    for problem in asked:
        lines = problem.reference.split("\n")  # the first is empty: a body begins with a line break
        if len(lines) > 2:
            left, right = problem.prompt + "\n".join(lines[:-2]), f"\n{lines[-1]}"
            gaps.append(_Gap(problem, left, right, len(dataset.tokenizer.encode(f"\n{lines[-2]}"))))
    if not gaps:
        return Finding({"infilling_pass_at_1": None, "infilling_pass_at_1_standard_error": None})
    bodies = _write(task, arm, dataset, gaps)
    outcomes = _outcomes([gap.problem for gap in gaps], bodies, judge)
    return Finding(_mean("infilling_pass_at_1", (outcomes == "passed").mean(axis=1)))


def _write(task: Task, arm: Arm, dataset: Dataset, gaps: Sequence[_Gap]) -> list[list[str]]:
    """The bodies that an arm writes, `samples` for each gap. Those with equally many tokens go together."""
    settings, tokenizer, seed = task.settings, dataset.tokenizer, arm.config.training_seed
    samples, temperature = settings["samples"], settings["temperature"]
    sees_right = arm.config.sees_both_sides
    stop = StopStrings(tokenizer, gaps[0].problem.stops)  # which all problems of a form share

    def text(prompt: np.ndarray, tokens: np.ndarray) -> str:
        ends = np.flatnonzero(tokens == tokenizer.end_id)  # behind which a suffix may stand
        return stop.text(tokens[: ends[0]] if len(ends) else tokens, prompt)

    bodies: dict[int, list[str]] = {}
    for tokens in sorted({gap.tokens for gap in gaps}):
        places = [place for place, gap in enumerate(gaps) if gap.tokens == tokens]
        repeated = [gaps[place] for place in places for _ in range(samples)]
        prompts = [tokenizer.encode(gap.left) for gap in repeated]
        suffixes = [tokenizer.encode(gap.right) for gap in repeated] if sees_right else None
        ids = np.array([place * samples + number for place in places for number in range(samples)])
        how = (settings["sampler"], tokens, seed)
        options = {"stop": stop, "row_ids": ids, "temperature": temperature, "suffixes": suffixes}
        rows = sample(arm.scorer, prompts, tokens, *how, **options)
        written = [
            gap.left[len(gap.problem.prompt) :] + text(prompt, row[len(prompt) :][:tokens]) + gap.right
            for gap, prompt, row in zip(repeated, prompts, rows, strict=True)
        ]
        bodies |= {place: written[number * samples :][:samples] for number, place in enumerate(places)}
    return [bodies[place] for place in range(len(gaps))]


def _outcomes(asked: Sequence[Problem], bodies: Sequence[Sequence[str]], judge: Sandbox) -> np.ndarray:
    """How each body does that was written for a problem: (problems, samples) of `Outcome`."""
    programs = [problem.program(body) for problem, own in zip(asked, bodies, strict=True) for body in own]
    return np.array([verdict.outcome for verdict in judge.run(programs)]).reshape(len(asked), -1)


def _baselines(task: Task, arm: Arm, dataset: Dataset, asked: Sequence[Problem], judge: Sandbox) -> Finding:
    """What looking up gives, and what the n-gram writes, of the tokens that the run trained on."""
    tokens, settings = unique_tokens(arm.config, dataset), task.settings
    prompts = [problem.prompt for problem in asked]
    model = fit(tokens, dataset.tokenizer.vocab_size, MAX_ORDER)
    stop = StopStrings(dataset.tokenizer, asked[0].stops)
    repeated = [prompt for prompt in prompts for _ in range(settings["samples"])]
    how = (settings["new_tokens"], arm.config.replicate)
    written = [stop.cut(body) for body in sample_bodies(model, dataset.tokenizer, repeated, *how)]
    bodies = {"ngram": np.reshape(np.array(written, object), (len(asked), -1)).tolist()}
    if arm.config.data.corpus == "functions":
        known = [(one.prompt, one.body) for one in functions_of(documents_of(tokens, dataset.tokenizer))]
        retrieved = retrieve_bodies(prompts, known) if known else [""] * len(asked)
        bodies["retrieval"] = [[body] for body in retrieved]
    if "form" in settings:
        bodies["reference"] = [[problem.reference] for problem in asked]
    values: dict[str, float | None] = {}
    for name, own in bodies.items():
        passed = _outcomes(asked, own, judge) == "passed"
        values |= _mean(f"{name}_pass_at_1", passed.mean(axis=1))
    return Finding(values)


def _mean(name: str, by_problem: np.ndarray) -> dict[str, float | None]:
    """A mean over problems with its standard error."""
    return {name: float(by_problem.mean()), f"{name}_standard_error": standard_error(by_problem)}
