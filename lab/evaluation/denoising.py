"""Sampling with a dense arm in a chosen number of passes: compute at test time as a dial."""

import re
from collections.abc import Sequence

import numpy as np

from lab import threefry
from lab.evaluation.canvas import Canvas, StopCondition, Watch
from lab.evaluation.scorer import SlotScorer
from lab.threefry import Stream


def denoise(
    scorer: SlotScorer,
    prompts: Sequence[np.ndarray] | np.ndarray,
    new_tokens: int,
    sampler: str,
    steps: int,
    seed: int,
    stop: StopCondition | None = None,
    row_ids: np.ndarray | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    suffixes: Sequence[np.ndarray] | None = None,
    earlier: Sequence[np.ndarray] | None = None,
    watch: Watch | None = None,
) -> list[np.ndarray]:
    """Continue prompts by unmasking the continuation in `steps` passes.

    A pass gives the distribution of every masked token given the revealed ones; the tokens unmasked in it
    are sampled independently of each other. With n tokens to sample and T passes, pass t unmasks
    floor((t + 1) n / T) - floor(t n / T) of them, which ones depends on the sampler:

    - `ancestral`: in a random order, fresh for each row. At T = n this is the chain rule in that order.
    - `confidence`: those whose most likely token has the highest probability. The order alone follows the
      confidence; the tokens are still sampled.
    - `blocks:B`: blocks of B tokens left to right, in a random order within a block. A pass stays within a
      block where n / T divides B. `blocks:1` at T = n is `sample_left_to_right`.

    At T = 1 all samplers are one: every token is sampled given the prompt alone. What the window has room for
    after the n tokens, and after a suffix, stays masked.

    A temperature, or `top_p`, changes the distribution that each token is sampled from, and nothing else,
    whatever the sampler: `confidence` ranks by the model's own probabilities, as at temperature 1, and the
    orders of `ancestral` and `blocks` have no part in it. Tokens that were sampled at it change what later
    passes see.

    A row ends before its n tokens where `stop` holds of a part of it that has no gap from the prompt on; what
    lies after is left out. The n tokens are planned all the same: a row is whole early, and its passes are
    saved, only where tokens are unmasked roughly left to right.

    Args:
        scorer: a dense arm.
        prompts: an int array for each row, of any lengths, 0 too (`Canvas`).
        new_tokens: n, tokens to sample for each prompt, at most.
        sampler: `ancestral`, `confidence` or `blocks:B`.
        steps: T, in 1..n.
        seed: of the random numbers.
        stop: when a continuation ends before its n tokens.
        row_ids: which random numbers each prompt has.
        temperature: >= 0, of each token's distribution; at 0 the most likely token is taken.
        top_p: share of it that tokens are sampled from.
        suffixes: what stands behind each continuation and is seen from the start, by default nothing.
        earlier: what was written of each continuation before.
        watch: told after each pass.

    Returns:
        Each prompt with its continuation and suffix, (length,) int32.

    Raises:
        ValueError: if the arm is causal, or a number or the sampler is none of the above; or if the arm is of
            blocks and a token would be written before the blocks before its own are whole.

    References: Sahoo et al. 2024, arXiv:2406.07524 (ancestral); Chang et al. 2022, arXiv:2202.04200, section
    3.2, and Nie et al. 2025, arXiv:2502.09992, section 2.4 (confidence, there with the most likely tokens);
    Arriola et al. 2025, arXiv:2503.09573 (blocks).
    """
    if scorer.causal:
        raise ValueError("`denoise` needs a dense arm, but got a causal one: see `sample_left_to_right`.")
    block = parse_sampler(sampler)
    canvas = Canvas(
        scorer, prompts, new_tokens, seed, stop, row_ids, temperature, top_p, suffixes, earlier, watch
    )
    per_pass = unmasked_per_pass(new_tokens, steps)
    # When each token is unmasked.
    ranks = None if block is None else np.argsort(_order(seed, canvas.ids, new_tokens, block), axis=1)
    if scorer.block_size:
        _require_blocks_in_order(scorer.block_size, canvas.first, ranks, per_pass, sampler)
    for done, count in zip(np.cumsum(per_pass) - per_pass, per_pass, strict=True):
        if not len(canvas.open):
            break
        rows, masked = canvas.open, canvas.continuations() == scorer.transformer.mask_id
        slots = canvas.slots(rows, np.arange(new_tokens))
        for some, logits in scorer.logits(canvas.example(), slots, canvas.batch_size):
            if ranks is None:
                chosen = _most_confident(logits, masked[some], count)
            else:
                chosen = (ranks[rows[some]] >= done) & (ranks[rows[some]] < done + count)
            row, offset = np.nonzero(chosen)
            canvas.reveal(rows[some[row]], offset, logits[row, offset])
        canvas.close()
    return canvas.rows()


def _require_blocks_in_order(
    size: int, first: np.ndarray, ranks: np.ndarray | None, per_pass: np.ndarray, sampler: str
) -> None:
    """Refuse to write a token of a block in a pass before the last of the block before, or in the same.

    Args:
        size: tokens of a block of the arm.
        first: (rows,) int, where each continuation begins.
        ranks: (rows, n) int, when each token is unmasked; None where it is not known beforehand.
        per_pass: (T,) int, tokens unmasked in each pass.
        sampler: for the message.
    """

    def in_order(first: np.ndarray) -> bool:
        if ranks is None:
            return False
        when = np.searchsorted(np.cumsum(per_pass), ranks, side="right")
        blocks = (first[:, None] + np.arange(ranks.shape[1])) // size
        later = blocks[:, :, None] > blocks[:, None, :]
        return not (later & (when[:, :, None] <= when[:, None, :])).any()

    if in_order(first):
        return
    if in_order(first - first % size):
        raise ValueError(
            f"a prompt must end at a block's edge, behind a multiple of {size} tokens, if an arm of blocks "
            f"writes by sampler={sampler!r}, but got one of {first[first % size > 0][0]} tokens; "
            "left_to_right continues any."
        )
    raise ValueError(
        f"`sampler` must write block by block for an arm of blocks of {size} tokens, in passes that stay "
        f"within one, but got sampler={sampler!r} with {len(per_pass)} passes."
    )


def unmasked_per_pass(tokens: int, steps: int) -> np.ndarray:
    """How many tokens each pass unmasks: (steps,) int64, as even as whole numbers allow, in sum `tokens`.

    Raises:
        ValueError: if `steps` is not in 1..tokens.
    """
    if not 1 <= steps <= tokens:
        raise ValueError(f"`steps` must be in 1..{tokens}, the tokens to sample, but got steps={steps}.")
    return np.diff(np.arange(steps + 1) * tokens // steps)


def parse_sampler(sampler: str) -> int | None:
    """A sampler's block length; 0 for `ancestral`, which is all one block, None for `confidence`.

    Raises:
        ValueError: for any other text.
    """
    if sampler == "confidence":
        return None
    if sampler == "ancestral":
        return 0
    if match := re.fullmatch(r"blocks:([1-9][0-9]{0,8})", sampler):
        return int(match[1])
    raise ValueError(
        "`sampler` must be ancestral, confidence or blocks:B with B >= 1 and < 10**9, "
        f"but got sampler={sampler!r}."
    )


def _order(seed: int, ids: np.ndarray, tokens: int, block: int) -> np.ndarray:
    """The order in which each row's tokens are unmasked: (rows, tokens) int32."""
    key = (np.full(1, seed, np.int32), np.full(1, Stream.SAMPLES, np.int32))
    # Negative second counters: the words of the tokens themselves have the row's id, from 0 on.
    counter = (np.arange(tokens, dtype=np.int32)[None], ~ids[:, None])
    order = threefry.permutation(threefry.threefry2x32(key, counter, np)[0], np)
    if block == 0:
        return np.asarray(order)
    # A stable sort by block keeps the random order inside each.
    by_block = np.argsort(order // block, axis=1, kind="stable")
    return np.take_along_axis(order, by_block, axis=1)


def _most_confident(logits: np.ndarray, masked: np.ndarray, count: int) -> np.ndarray:
    """True at the `count` masked tokens whose most likely token has the highest probability; first wins ties.

    Args:
        logits: (rows, n, vocab) float64.
        masked: (rows, n) bool, at least `count` True a row.
        count: how many.
    """
    highest = logits.max(axis=-1)
    log_confidence = -np.log(np.exp(logits - highest[..., None]).sum(axis=-1))
    order = np.argsort(np.where(masked, -log_confidence, np.inf), axis=1, kind="stable")
    chosen = np.zeros_like(masked)
    np.put_along_axis(chosen, order[:, :count], True, axis=1)
    return chosen
