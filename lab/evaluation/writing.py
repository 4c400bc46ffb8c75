"""Writing text with an arm: beyond a window, into a gap, by whatever way of sampling the arm has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lab.evaluation.arm import Arm
from lab.evaluation.canvas import Canvas, StopCondition, Watch
from lab.evaluation.chain_rule import span_nll
from lab.evaluation.denoising import parse_sampler
from lab.evaluation.generation import LEFT_TO_RIGHT
from lab.evaluation.sampling import sample

# Told after each pass what has been written of each sample so far: arrays of ids, the mask id where nothing.
Drafts = Callable[[list[np.ndarray]], None]


@dataclass(frozen=True)
class Sampling:
    """How text is sampled.

    Attributes:
        sampler: `left_to_right`, or of a dense arm one of `denoise`; empty for the arm's own (`own_sampler`).
        passes: of a sampler of `denoise` for all tokens; one for each token if None.
        temperature: see `Canvas`.
        top_p: see `Canvas`.
        seed: of the random numbers, in [0, 2**31).
        samples: how many texts.
    """

    sampler: str = ""
    passes: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    samples: int = 1


class Room(NamedTuple):
    """How a text is laid into windows.

    Attributes:
        pieces: tokens written in one window after the other.
        seen: tokens of the prompt, its last ones, that the first piece sees.
    """

    pieces: tuple[int, ...]
    seen: int


def own_sampler(arm: Arm) -> str:
    """The sampler that an arm has been trained for: in any order, or left to right."""
    return "ancestral" if arm.config.sees_both_sides and not arm.scorer.causal else LEFT_TO_RIGHT


def require_sampling(arm: Arm, sampling: Sampling) -> str:
    """The sampler that an arm is to write with.

    Raises:
        ValueError: if there is no such sampler, or the arm cannot follow it or be given a number of passes.
    """
    sampler = sampling.sampler or own_sampler(arm)
    if sampler != LEFT_TO_RIGHT and arm.scorer.causal:
        raise ValueError(
            f"`sampler` must be {LEFT_TO_RIGHT} for {arm.config.arm}, a causal arm, which predicts one token "
            f"after the other, but got sampler={sampler!r}."
        )
    if sampler == LEFT_TO_RIGHT and sampling.passes is not None:
        raise ValueError(
            f"`passes` must not be given where {arm.config.arm} writes {LEFT_TO_RIGHT}, a token a pass, "
            f"but got passes={sampling.passes}."
        )
    if sampler != LEFT_TO_RIGHT:
        parse_sampler(sampler)
    return sampler


def lay_out(prompt: int, tokens: int | None, length: int, sampler: str) -> Room:
    """Lay a text into windows.

    What fits behind the prompt, or half a window of it, is written in one window. Left to right and by blocks
    more can be written: half a window at a time, behind the last tokens that there is room for.

    Args:
        prompt: its tokens.
        tokens: to write; None for as many as one window has room for.
        length: L, tokens of a window.
        sampler: see `Sampling`.

    Raises:
        ValueError: if they do not fit, and the sampler fills one window.
    """
    half = length // 2
    most = length - min(prompt, length - half)
    tokens = most if tokens is None else tokens
    if tokens <= most:
        return Room((tokens,), min(prompt, length - tokens))
    if not (sampler == LEFT_TO_RIGHT or parse_sampler(sampler)):
        raise ValueError(
            f"`tokens` must be <= {most}, for which a window of {length} has room behind "
            f"{min(prompt, length - half)} tokens of the prompt, but got tokens={tokens}: sampler={sampler} "
            f"fills one window; blocks:B and {LEFT_TO_RIGHT} go on beyond it."
        )
    pieces = [half] * (tokens // half) + [tokens % half] * (tokens % half > 0)
    return Room(tuple(pieces), min(prompt, length - half))


def continue_text(
    arm: Arm,
    prompt: np.ndarray,
    room: Room,
    sampling: Sampling,
    stop: StopCondition | None = None,
    watch: Drafts | None = None,
) -> list[np.ndarray]:
    """Write what comes after a prompt.

    A text that fits into one window is that of `sample_left_to_right` or `denoise`.

    Args:
        arm: which writes.
        prompt: (n,) int.
        room: what is written in which window (`lay_out`).
        sampling: how.
        stop: when a text ends before its tokens; it sees all that is written of it.
        watch: told after each pass.

    Returns:
        What was written of each sample, (n,) int32.

    Raises:
        ValueError: as `require_sampling`, `Canvas` and `denoise`, or if there are more passes than tokens, or
            fewer than windows.
    """
    total = sum(room.pieces)
    _require_passes(sampling.passes, total)
    if sampling.passes is not None and sampling.passes < len(room.pieces):
        raise ValueError(
            f"`passes` must be >= {len(room.pieces)}, one for each window that {total} tokens go into, "
            f"but got passes={sampling.passes}."
        )
    length = arm.config.data.length
    written = [np.zeros(0, np.int32)] * sampling.samples
    open_rows, before = list(range(sampling.samples)), 0
    for number, tokens in enumerate(room.pieces):
        kept = [_last(np.concatenate([prompt, written[row]]), length - tokens) for row in open_rows]
        rows = _write(
            arm,
            kept,
            tokens,
            sampling,
            _share(sampling.passes, before, tokens, total),
            stop=stop,
            row_ids=np.array(open_rows, np.int32) + sampling.samples * number,
            earlier=[written[row] for row in open_rows],
            watch=watch and _watching(watch, written, open_rows),
        )
        for row, made, context in zip(open_rows, rows, kept, strict=True):
            written[row] = np.concatenate([written[row], made[len(context) :]])
        before += tokens
        open_rows = [
            row for row in open_rows if len(written[row]) == before and not _ends(stop, written[row])
        ]
        if not open_rows:
            break
    return written


def fill_gap(
    arm: Arm,
    left: np.ndarray,
    right: np.ndarray,
    tokens: int,
    sampling: Sampling,
    watch: Drafts | None = None,
) -> list[np.ndarray]:
    """Write what stands between two sides, with an arm that sees both (`RunConfig.sees_both_sides`).

    Args:
        arm: which writes.
        left: (n,) int, before the gap.
        right: (n,) int, behind it; all three fit in the window.
        tokens: of the gap.
        sampling: how.
        watch: told after each pass.

    Returns:
        What was written of each sample, (tokens,) int32.

    Raises:
        ValueError: as `require_sampling`, `Canvas` and `denoise`, or if there are more passes than tokens.
    """
    _require_passes(sampling.passes, tokens)
    count = sampling.samples
    suffixes = [np.asarray(right, np.int32)] * count
    told = watch and _watching(watch, [np.zeros(0, np.int32)] * count, range(count))
    rows = _write(arm, [left] * count, tokens, sampling, sampling.passes, suffixes=suffixes, watch=told)
    return [row[len(left) : len(left) + tokens] for row in rows]


def choose_gap(
    arm: Arm, left: np.ndarray, right: np.ndarray, tokens: int, sampling: Sampling, candidates: int
) -> list[np.ndarray]:
    """Write what stands between two sides with an arm that sees the left one alone: prompt and rerank.

    Of some continuations of the left side the one that, with the right side behind it, has the lowest NLL.

    Args:
        arm: as all that follows, see `fill_gap`.
        candidates: continuations that each sample is chosen from, >= 1.

    Returns:
        The chosen one of each sample, (tokens,) int32.

    Raises:
        ValueError: as `require_sampling`, `Canvas` and `denoise`, or if there are more passes than tokens.
    """
    _require_passes(sampling.passes, tokens)
    count = sampling.samples * candidates
    rows = np.stack(_write(arm, [left] * count, tokens, sampling, sampling.passes))
    windows = np.zeros((count, arm.config.data.length), np.int32)
    end = rows.shape[1] + len(right)
    windows[:, :end] = np.concatenate([rows, np.tile(right, (count, 1))], axis=1)
    nll = span_nll(arm.scorer, windows, np.full(count, len(left)), np.full(count, end))
    best = np.array([each.sum() for each in nll]).reshape(sampling.samples, candidates).argmin(axis=1)
    chosen = rows.reshape(sampling.samples, candidates, -1)[np.arange(sampling.samples), best]
    return list(chosen[:, len(left) :])


def fit_sides(left: int, right: int, tokens: int, length: int) -> tuple[int, int]:
    """How many tokens of two sides, those next to the gap, a window has room for; as equal as they allow.

    Raises:
        ValueError: if the gap leaves no room for a token on each side.
    """
    room = length - tokens
    if room < 2:
        raise ValueError(
            f"`tokens` must be <= {length - 2}, which leaves a token on each side in the window of {length}, "
            f"but got tokens={tokens}."
        )
    seen = min(right, max(room // 2, room - left))
    return min(left, room - seen), seen


def _write(
    arm: Arm,
    prompts: Sequence[np.ndarray],
    tokens: int,
    sampling: Sampling,
    passes: int | None,
    **options: Any,
) -> list[np.ndarray]:
    """Fill windows behind prompts; the options are those of `Canvas`."""
    how = (require_sampling(arm, sampling), passes or tokens, sampling.seed)
    options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return sample(arm.scorer, prompts, tokens, *how, **options)


def _require_passes(passes: int | None, tokens: int) -> None:
    if passes is not None and not 1 <= passes <= tokens:
        raise ValueError(f"`passes` must be in 1..{tokens}, the tokens to write, but got passes={passes}.")


def _share(passes: int | None, before: int, tokens: int, total: int) -> int | None:
    """The passes of a piece: its share of all, one at least where there are as many as pieces."""
    if passes is None:
        return None
    return passes * (before + tokens) // total - passes * before // total


def _last(ids: np.ndarray, count: int) -> np.ndarray:
    return ids[max(0, len(ids) - count) :]


def _ends(stop: StopCondition | None, written: np.ndarray) -> bool:
    return stop is not None and stop(written)


def _watching(watch: Drafts, written: Sequence[np.ndarray], rows: Sequence[int]) -> Watch:
    """Tell of all samples where a canvas has some of them, behind what is written already."""

    def tell(canvas: Canvas) -> None:
        drafts = list(written)
        for row, draft in zip(rows, canvas.drafts(), strict=True):
            drafts[row] = np.concatenate([written[row], draft])
        watch(drafts)

    return tell
