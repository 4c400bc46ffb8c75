"""A finished run on any text: its NLL and the rest of the yardstick, and what counting gives beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.ablation import dotted_keys
from lab.config import DataConfig, RunConfig, Values, make_config
from lab.data.held_out import Room, held_out_room
from lab.data.other_text import OtherText, seen_share, with_other_text
from lab.data.shortage import counted
from lab.evaluation.baselines import measure_baselines
from lab.evaluation.measurements import CHOICE, NLL_EXACT, measure, yardstick
from lab.evaluation.task_windows import LEAST
from lab.metrics import METRICS
from lab.results import Baseline, Measured, Stop
from lab.training.finished import corpus_of, find_stop, finished_result, load_arm

OF_READING = ("data.document_characters", "data.text_field")  # settings by which a text is read


class TextResult(NamedTuple):
    """What a run makes of a text.

    Attributes:
        config: the run's, with what was measured how.
        stop: whose weights.
        text: what was measured.
        seen_share: of its tokens that the training split holds too.
        rows: what was measured.
        baselines: what counting the run's unique tokens gives on the same windows.
        notes: what to know of it.
    """

    config: RunConfig
    stop: Stop
    text: OtherText
    seen_share: float
    rows: tuple[Measured, ...]
    baselines: tuple[Baseline, ...]
    notes: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """Metric, or its standard error -> value."""
        return {key: value for row in self.rows for key, value in row.values.items() if value is not None}


def measure_other_text(
    run: Path, which: str, data: Sequence[str], overrides: Values, cache_dir: Path
) -> TextResult:
    """Measure a stop of a finished run on a text, with the run's own tokenizer.

    All windows that the text has room for are measured, at all places, but for what the overrides say. Choice
    takes the run's number of items, or as many as the text has room for.

    Args:
        run: its folder; its corpus must be there, of which the n-gram counts the run's unique tokens.
        which: `best` or `last`.
        data: files, folders or globs.
        overrides: a layer of `evaluation`, and of how the text is read (`OF_READING`).
        cache_dir: where tokenized corpora are kept.

    Raises:
        ValueError: if there is no such run or stop, its corpus is not what it was, a file cannot be read, the
            text is too short, or a setting is none of these.
    """
    result = finished_result(run)
    stop = find_stop(result, which)
    _require_settings(overrides)
    own = result.config.model_dump(mode="json", exclude_none=True)
    functions = DataConfig.model_fields["functions"].default
    reading = {
        "corpus": "text",
        "paths": list(data),
        "quality": "",
        "quality_field": "",
        "functions": functions,
    }
    read = make_config(own, {"data": {**reading, **overrides.get("data", {})}}).data
    text = with_other_text(corpus_of(run, result.config, cache_dir), read)
    config = _fitting(own, overrides.get("evaluation", {}), text)
    no_choice = _items(config, text) < LEAST
    seen = seen_share(text, cache_dir)
    notes = {
        f"{seen:.1%} of the tokens lie in strings of 32 bytes that the training split holds too: there it "
        "measures memory": seen > 0,
        "one document gives no standard error: --set data.document_characters=N cuts it into several": (
            _room(config, text).documents == 1
        ),
        "too short for multiple choice": no_choice,
        text.left_out: bool(text.left_out),
    }
    arm = load_arm(run, result.reference(stop), text.dataset.tokenizer.vocab_size, config)
    left_out = {NLL_EXACT} | ({CHOICE} if no_choice else set())
    tasks = [task for task in yardstick(config, "test") if task.measurement not in left_out]
    rows = tuple(measure(task, [arm], text.dataset) for task in tasks)
    baselines = measure_baselines(config, text.dataset, cache_dir)
    said = tuple(note for note, holds in notes.items() if holds)
    return TextResult(config, stop, text, seen, rows, baselines, said)


def _require_settings(overrides: Values) -> None:
    """Refuse a setting that is not of how a text is read or measured."""
    if wrong := [
        key for key in dotted_keys(overrides) if key not in OF_READING and not key.startswith("evaluation.")
    ]:
        raise ValueError(
            f"an override must be of evaluation, or one of {' and '.join(OF_READING)}: a finished run is "
            f"measured as it was trained, but got {', '.join(wrong)}."
        )


def _fitting(own: Values, asked: Values, text: OtherText) -> RunConfig:
    """The configuration that measures as much of a text as there is, or as is asked for."""
    asked = {"test_positions": 0, **asked}
    config = make_config(own, {"evaluation": asked})
    length, windows, items = config.data.length, _room(config, text).windows, _items(config, text)
    size = f"{counted(len(text.dataset.test), 'token')} in {counted(text.documents, 'document')}"
    if windows < LEAST:
        raise ValueError(
            f"the text must have room for {LEAST} windows of {length} tokens, as one document of "
            f"{3 * length - 1} tokens has, or two of {length}, but it has {size}."
        )
    for key, most in {"test_windows": windows, "choice_items": items}.items():
        if key in asked and getattr(config.evaluation, key) > most:
            raise ValueError(
                f"`evaluation.{key}` must be <= {most}, for which the text has room, "
                f"but got {asked[key]}: it has {size}."
            )
    items = max(LEAST, min(items, config.evaluation.choice_items))
    return make_config(own, {"evaluation": {"test_windows": windows, "choice_items": items, **asked}})


def _room(config: RunConfig, text: OtherText) -> Room:
    return held_out_room(text.dataset, "test", config.data.length)


def _items(config: RunConfig, text: OtherText) -> int:
    """The most multiple-choice items that a text has room for, with a wrong option besides."""
    span = config.evaluation.choice_context_tokens + config.evaluation.choice_option_tokens
    return max(0, len(text.dataset.test) // span - 1)


def describe(result: TextResult) -> tuple[list[str], list[list[str]]]:
    """A table: the names of its columns, and a row for each metric."""
    stop, evaluation = result.stop, result.config.evaluation
    columns = [
        f"{evaluation.test_windows:,} windows of {result.config.data.length} tokens",
        f"{result.config.arm}\n{stop.reading} stop {stop.step}",
    ]
    columns += [
        f"{one.name}\norder {one.settings['order']}" if "order" in one.settings else one.name
        for one in result.baselines
    ]
    known = [result.values, *(one.values["test"] for one in result.baselines)]
    rows = []
    for key, metric in METRICS.items():
        if key in result.values:
            unit = ", ".join(filter(None, [metric.unit, "a bound" if metric.bound else ""]))
            rows.append([f"{metric.name}{f' ({unit})' if unit else ''}", *(_cell(key, one) for one in known)])
    return columns, rows


def _cell(key: str, values: Mapping[str, float]) -> str:
    """A value with its standard error over the held-out examples."""
    metric = METRICS[key]
    if key not in values:
        return ""
    # Of a bound the second is the noise of its masks alone.
    error = values.get(metric.errors[0]) if metric.errors else None
    return metric.shown(values[key]) + ("" if error is None else f" ± {metric.shown(error)}")


def as_json(run: Path, result: TextResult) -> dict[str, Any]:
    """All of it as JSON values."""
    stop, text = result.stop, result.text
    return {
        "run": str(run),
        "arm": result.config.arm,
        "stop": {"reading": stop.reading, "step": stop.step, "epoch": stop.epoch},
        "text": {
            "documents": text.documents,
            "tokens": len(text.dataset.test),
            "bytes": text.bytes,
            "seen_share": result.seen_share,
        },
        "tasks": [row.task.model_dump() for row in result.rows],
        "values": result.values,
        "baselines": {
            one.name: {"settings": one.settings, "values": one.values["test"]} for one in result.baselines
        },
        "notes": list(result.notes),
    }
