"""Sampling with a dense arm in a chosen number of passes: compute at test time as a dial."""

import re

import numpy as np

from lab import threefry
from lab.evaluation.generation import (
    SlotLogits,
    batches,
    masked_rows,
    predict,
    sample_tokens,
    sampling_uniforms,
)
from lab.threefry import Stream


def denoise(
    model: SlotLogits,
    prompts: np.ndarray,
    total_tokens: int,
    sampler: str,
    steps: int,
    seed: int,
    batch_size: int = 128,
) -> np.ndarray:
    """Continue prompts by unmasking the continuation in `steps` passes, tokens sampled at temperature 1.

    A pass gives the distribution of every masked token given the revealed ones; the tokens unmasked in it
    are sampled independently of each other. With n tokens to sample and T passes, pass t unmasks
    floor((t + 1) n / T) - floor(t n / T) of them, which ones depends on the sampler:

    - `ancestral`: in a random order, fresh for each row. At T = n this is the chain rule in that order.
    - `confidence`: those whose most likely token has the highest probability. The order alone follows the
      confidence; the tokens are still sampled at temperature 1.
    - `blocks:B`: blocks of B tokens left to right, in a random order within a block. A pass stays within a
      block where n / T divides B. `blocks:1` at T = n is `sample_left_to_right`.

    At T = 1 all samplers are one: every token is sampled given the prompt alone.

    Args:
        model: a dense arm.
        prompts: (count, p) int32, count >= 1, 0 <= p < total_tokens.
        total_tokens: length of the result, at most L; what the window has room for after it stays masked.
        sampler: `ancestral`, `confidence` or `blocks:B`.
        steps: T, in 1..total_tokens - p.
        seed: of the random words.
        batch_size: rows a pass.

    Returns:
        (count, total_tokens) int32, the prompts and their continuations.

    Raises:
        ValueError: if the arm is causal, or a number or the sampler is none of the above.

    References: Sahoo et al. 2024, arXiv:2406.07524 (ancestral); Chang et al. 2022, arXiv:2202.04200, section
    3.2, and Nie et al. 2025, arXiv:2502.09992, section 2.4 (confidence, there with the most likely tokens);
    Arriola et al. 2025, arXiv:2503.09573 (blocks).
    """
    if model.causal:
        raise ValueError("`denoise` needs a dense arm, but got a causal one: see `sample_left_to_right`.")
    block = parse_sampler(sampler)
    tokens = masked_rows(model, prompts, total_tokens)
    first = prompts.shape[1]
    per_pass = unmasked_per_pass(total_tokens - first, steps)
    uniforms = sampling_uniforms(seed, len(prompts), total_tokens)[:, first:]
    order = None if block is None else _order(seed, len(prompts), total_tokens - first, block)
    slots = np.arange(tokens.shape[1], dtype=np.int32)
    for rows, index in batches(len(tokens), batch_size):
        positions = np.broadcast_to(slots + np.int32(1), (len(index), len(slots)))
        batch = {
            "positions": positions,
            "target_positions": positions,
            "scored": np.broadcast_to(slots[first:total_tokens], (len(index), total_tokens - first)),
        }
        ranks = None if order is None else np.argsort(order[rows], axis=1)  # when each token is unmasked
        done = 0
        for count in per_pass.tolist():
            logits = predict(model, {**batch, "tokens": tokens[index]})[: len(rows)]
            if ranks is None:
                masked = tokens[rows, first:total_tokens] == model.transformer.mask_id
                chosen = _most_confident(logits, masked, count)
            else:
                chosen = (ranks >= done) & (ranks < done + count)
            row, place = np.nonzero(chosen)
            tokens[rows[row], first + place] = sample_tokens(logits[row, place], uniforms[rows[row], place])
            done += count
    return tokens[:, :total_tokens]


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
    if found := re.fullmatch(r"blocks:([1-9][0-9]*)", sampler):
        return int(found[1])
    raise ValueError(
        f"`sampler` must be ancestral, confidence or blocks:B with B >= 1, but got sampler={sampler!r}."
    )


def _order(seed: int, count: int, tokens: int, block: int) -> np.ndarray:
    """The order in which each row's tokens are unmasked: (count, tokens) int32."""
    key = (np.full(1, seed, np.int32), np.full(1, Stream.SAMPLES, np.int32))
    # Negative second counters: the words of the tokens themselves have the row, from 0 on.
    counter = (np.arange(tokens, dtype=np.int32)[None], ~np.arange(count, dtype=np.int32)[:, None])
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
