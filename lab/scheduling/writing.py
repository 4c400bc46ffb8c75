"""Text of a finished run, as it is written: what the command `generate` does.

On a terminal every pass is shown; elsewhere there is the text alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from lab.data.characters import BROKEN, decode_behind, safe_text
from lab.data.tokenizers import Tokenizer
from lab.evaluation.arm import Arm
from lab.evaluation.stop_conditions import StopStrings
from lab.evaluation.writing import (
    Drafts,
    Sampling,
    choose_gap,
    continue_text,
    fill_gap,
    fit_sides,
    lay_out,
    require_sampling,
)
from lab.training.finished import find_stop, finished_result, load_arm, tokenizer_of

GAP = "[MASK]"
CANDIDATES = 16  # that an arm which sees the left side alone chooses from
GAP_TOKENS = 16
BETWEEN = "---"  # a line between two texts
MASKS = "▒_"  # what is not revealed yet; the second where a console has no such character

Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
        before: the prompt, or what stands before the gap.
        after: what stands behind the gap; None where there is none, and text goes on.
        tokens: to write; None for as many as a window has room for, of a gap `GAP_TOKENS`.
        stops: strings at which a text ends.
        candidates: for a gap, of an arm that sees the left side alone; `CANDIDATES` if None.
        sampling: how.
    """

    before: str = ""
    after: str | None = None
    tokens: int | None = None
    stops: Sequence[str] = ()
    candidates: int | None = None
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen)


class Written(NamedTuple):
    """A text: what was written, between what was given."""

    before: str
    text: str
    after: str

    def whole(self) -> str:
        """All of it."""
        return f"{self.before}{self.text}{self.after}"


def parse_gap(text: str) -> tuple[str, str]:
    """The two sides of a gap.

    Raises:
        ValueError: if it has not one gap, with text on both sides.
    """
    before, *rest = text.split(GAP)
    if len(rest) != 1 or not before or not rest[0]:
        raise ValueError(
            f"`infill` must have one {GAP}, with text on both sides, but got infill={text!r}"
            f"{': give --prompt for what comes before' if rest == [''] and before else ''}."
        )
    return before, rest[0]


def write_here(
    run: Path, stop: str, order: Order, cache_dir: Path, console: Console, say: Say
) -> list[Written]:
    """Write text with the weights of a finished run's stop.

    Args:
        run: its folder.
        stop: `best` or `last`.
        order: what is to be written.
        cache_dir: where tokenized corpora are kept, for a tokenizer that was trained.
        console: shows each pass, if it is a terminal.
        say: is told what is done with a text that does not fit into a window.

    Raises:
        ValueError: if there is no such run or stop, or the text cannot be written so.
    """
    result = finished_result(run)
    reference = result.reference(find_stop(result, stop))
    tokenizer = tokenizer_of(run, result.config, cache_dir)
    before = _encode(tokenizer, order.before)
    after = None if order.after is None else _encode(tokenizer, order.after)
    arm = load_arm(run, reference, tokenizer.vocab_size, result.config)
    with _shown(console, tokenizer, order) as drafts:
        if after is not None:
            return _infilled(arm, tokenizer, order, before, after, drafts, say)
        return _continued(arm, tokenizer, order, before, drafts, say)


def printable(text: str, encoding: str) -> str:
    """A text as an encoding can hold it: what it cannot is a question mark."""
    return text.encode(encoding, errors="replace").decode(encoding)


def draft_text(tokenizer: Tokenizer, draft: np.ndarray, mask: str) -> str:
    """The text of ids of which some, at `vocab_size`, are not revealed; so are characters not yet whole."""
    parts = (
        mask * len(list(ids)) if hidden else tokenizer.decode(list(ids)).replace(BROKEN, mask)
        for hidden, ids in groupby(draft.tolist(), lambda number: number == tokenizer.vocab_size)
    )
    return "".join(parts)


def _continued(
    arm: Arm, tokenizer: Tokenizer, order: Order, prompt: np.ndarray, drafts: Drafts | None, say: Say
) -> list[Written]:
    if order.candidates is not None:
        raise ValueError(f"`candidates` are for a gap, but got candidates={order.candidates} and none.")
    length, sampler = arm.config.data.length, require_sampling(arm, order.sampling)
    room = lay_out(len(prompt), order.tokens, length, sampler)
    if room.seen < len(prompt):
        say(
            f"the prompt has {len(prompt):,} tokens, of which {arm.config.arm} sees the last {room.seen} "
            f"in its window of {length}"
        )
    if len(room.pieces) > 1:
        say(
            f"{sum(room.pieces):,} tokens go beyond the window of {length}: {room.pieces[0]} are written "
            "at a time, behind the last tokens that there is room for"
        )
    ends = StopStrings(tokenizer, order.stops)
    rows = continue_text(arm, prompt, room, order.sampling, ends, drafts)
    return [Written(order.before, ends.text(row, prompt), "") for row in rows]


def _infilled(
    arm: Arm,
    tokenizer: Tokenizer,
    order: Order,
    before: np.ndarray,
    after: np.ndarray,
    drafts: Drafts | None,
    say: Say,
) -> list[Written]:
    length, tokens = arm.config.data.length, order.tokens or GAP_TOKENS
    if order.stops:
        raise ValueError(
            f"`stop` must not be given with a gap, whose length is `tokens`, but got {order.stops}."
        )
    left, right = fit_sides(len(before), len(after), tokens, length)
    if (left, right) != (len(before), len(after)):
        say(
            f"the sides have {len(before):,} and {len(after):,} tokens, of which {arm.config.arm} sees the "
            f"{left} and {right} next to the gap in its window of {length}"
        )
    sides = before[len(before) - left :], after[:right]
    if arm.config.sees_both_sides:
        if order.candidates is not None:
            raise ValueError(
                f"`candidates` must not be given for {arm.config.arm}, which sees both sides, "
                f"but got candidates={order.candidates}."
            )
        rows = fill_gap(arm, *sides, tokens, order.sampling, drafts)
    else:
        candidates = order.candidates or CANDIDATES
        say(
            f"{arm.config.arm} sees the left side alone: of {candidates} continuations of it, the one with "
            "the lowest NLL, that of the right side behind it included"
        )
        rows = choose_gap(arm, *sides, tokens, order.sampling, candidates)
    return [Written(order.before, decode_behind(tokenizer, before, row), str(order.after)) for row in rows]


def _encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of what a user gave.

    Raises:
        ValueError: if it is no Unicode text, as where a terminal hands on other bytes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a prompt must be Unicode text, but got {text!r} ({error.reason}).") from None
    return tokenizer.encode(text)


@contextmanager
def _shown(console: Console, tokenizer: Tokenizer, order: Order) -> Iterator[Drafts | None]:
    """Drafts as they are written, on a terminal."""
    if not console.is_terminal:
        yield None
        return
    mask = MASKS[0] if printable(MASKS[0], console.encoding) == MASKS[0] else MASKS[1]
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda drafts: live.update(
            texts(
                [
                    Written(order.before, draft_text(tokenizer, one, mask), order.after or "")
                    for one in drafts
                ],
                console.encoding,
            ),
            refresh=True,
        )


def texts(written: Sequence[Written], encoding: str) -> Text:
    """Texts for a terminal: what was given is dim, and nothing in them controls it."""
    shown = Text()
    for number, one in enumerate(written):
        parts = [(f"\n{BETWEEN}\n", "bold") if number else ("", "")]
        parts += [(one.before, "dim"), (one.text, ""), (one.after, "dim")]
        for part, style in parts:
            shown.append(printable(safe_text(part), encoding), style)
    return shown
