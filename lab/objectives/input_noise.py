"""Noise on what a causal pass reads: inputs masked or replaced, and slots hidden from attention."""

from typing import Any

import numpy as np

from lab import threefry
from lab.factors import parse_input_noise
from lab.objectives.corruption import Example
from lab.objectives.draws import Draw, draw_keys, hidden_positions, single_word
from lab.threefry import Stream

Array = Any

_COUNT = 0  # the purpose of the single word of a noise
_PLACES, _TOKENS = 0, 2  # the series of its rows of words; 1 is that of single words


def add_input_noise(
    example: Example,
    seed: Array | int,
    sequence_ids: Array,
    draw_numbers: Array,
    input_noise: str,
    loss_on: str,
    mask_id: int,
    xp: Any,
) -> Example:
    """Alter k of a window's tokens wherever the stream reads them; the targets stay clean.

    Every set of k places is equally likely, whatever the order of the stream. The token that comes last in
    the order is never read, so k - 1 inputs change where it is among them.

    Args:
        example: a causal example.
        seed: the run's seed, an int or a () int32 array.
        sequence_ids: (batch,) int32.
        draw_numbers: (batch,) int32.
        input_noise: `mask` or `replace` with a ratio, such as `mask:0.3` or `mask:0-1`.
        loss_on: `all` targets (1 / L each), or the `hidden` ones, the k altered tokens (1 / k each).
        mask_id: what a masked token becomes; a replaced one becomes any of the ids below, equally likely.
        xp: `numpy` or `keras.ops`.

    Reference: Ni et al. 2025, arXiv:2511.03276 (masked inputs, fixed ratio); Gao et al. 2025,
    arXiv:2510.04071 (ratio uniform on (0, 1)).

    Example: half of six tokens masked or replaced where they are read, left to right.
        >>> from lab.objectives.corruption import causal_example
        >>> tokens = np.array([[10, 11, 12, 13, 14, 15]], np.int32)
        >>> clean = causal_example(tokens, np.array([[0, 1, 2, 3, 4, 5]], np.int32), 99, np)
        >>> zero = np.int32([0])
        >>> for noise in ("mask:0.5", "replace:0.5"):
        ...     example = add_input_noise(clean, 0, zero, zero, noise, "hidden", 99, np)
        ...     print(example.tokens)
        [[99 10 99 12 99 99]]
        [[99 10 44 12 84 16]]
        >>> print(example.targets)
        [[10 11 12 13 14 15]]
        >>> print(example.weights.round(3))
        [[0.    0.333 0.    0.333 0.333 0.   ]]
    """
    length = example.targets.shape[-1]
    kind, ratio, count_drawn = parse_input_noise(input_noise)
    keys = draw_keys(seed, Stream.INPUT_NOISE, sequence_ids, draw_numbers, xp)
    highest = max(1, round(ratio * length))
    counts = xp.zeros_like(keys[0]) + np.int32(highest)
    if count_drawn:
        counts = threefry.below(single_word(keys, _COUNT, xp), highest, xp) + np.int32(1)
    places = threefry.permutation(threefry.words(keys, length, xp, _PLACES), xp)
    altered = hidden_positions(Draw(places, counts), xp)
    slots = xp.take_along_axis(altered, example.target_positions - np.int32(1), axis=-1)
    noise = np.int32(mask_id)
    if kind == "replace":
        noise = threefry.below(threefry.words(keys, length - 1, xp, _TOKENS), mask_id, xp)
    # Slot i + 1 reads what slot i predicts.
    inputs = xp.where(slots[:, :-1], noise, example.tokens[:, 1:])
    weights = example.weights
    if loss_on == "hidden":
        each = np.float32(1) / threefry.to_float32(counts, xp)
        weights = xp.where(slots, xp.expand_dims(each, -1), np.float32(0))
    tokens = xp.concatenate([example.tokens[:, :1], inputs], axis=-1)
    return example._replace(tokens=tokens, weights=weights)


def visible_slots(
    seed: Array | int, sequence_ids: Array, draw_numbers: Array, length: int, rate: float, xp: Any
) -> Array:
    """Attention-mask dropout: the slots that the attention of other slots still sees.

    Unlike masked inputs, nothing tells the model that a slot is missing; unlike attention dropout, a slot is
    gone from all heads, blocks and queries at once.

    Args:
        seed: the run's seed, an int or a () int32 array.
        sequence_ids: (batch,) int32.
        draw_numbers: (batch,) int32.
        length: L.
        rate: chance of each slot to be hidden, in [0, 1).
        xp: `numpy` or `keras.ops`.

    Returns:
        (batch, L) bool.

    Reference: Prabhudesai et al. 2025, arXiv:2507.15857 (their "token masking").
    """
    keys = draw_keys(seed, Stream.ATTENTION_MASK, sequence_ids, draw_numbers, xp)
    return threefry.uniform(threefry.words(keys, length, xp), xp) >= np.float32(rate)
