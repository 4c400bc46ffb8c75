"""The yardstick: exact left-to-right chain-rule NLL, for causal and dense arms alike."""

import numpy as np

from lab.evaluation.scorer import Scorer, score_slots
from lab.objectives.corruption import causal_example


def chain_rule_nll(
    scorer: Scorer, windows: np.ndarray, first: int = 0, last: int | None = None
) -> np.ndarray:
    """-log p(x_i | x_1 .. x_(i-1)) of each token from position `first` up to `last`.

    A causal arm gives all of them in one pass in identity order. A dense arm reveals one token at a time: a
    row for each token, with the token and all after it hidden.

    Args:
        scorer: the arm.
        windows: (count, L) int32.
        first: tokens before it are context, not scored; in [0, L).
        last: tokens from it on are never seen; in (first, L], by default L.

    Returns:
        (count, last - first) float64, nats.
    """
    places = np.arange(first, windows.shape[1] if last is None else last, dtype=np.int32)
    return _one_pass(scorer, windows, places) if scorer.causal else _one_token_a_pass(scorer, windows, places)


def _one_pass(scorer: Scorer, windows: np.ndarray, places: np.ndarray) -> np.ndarray:
    count, length = windows.shape
    identity = np.tile(np.arange(length, dtype=np.int32), (count, 1))
    example = causal_example(windows, identity, scorer.transformer.mask_id, np)
    return score_slots(scorer, example, places)


def _one_token_a_pass(scorer: Scorer, windows: np.ndarray, places: np.ndarray) -> np.ndarray:
    length = windows.shape[1]
    slots = np.arange(length, dtype=np.int32)
    hidden = slots >= places[:, None]  # (places, L): the token at each place, and all after it
    chunk = max(1, scorer.batch_size // len(places))  # windows at once: there is a row for each place
    scores = []
    for start in range(0, len(windows), chunk):
        some = windows[start : start + chunk]
        tokens = np.where(hidden, np.int32(scorer.transformer.mask_id), some[:, None, :]).reshape(-1, length)
        positions = np.tile(slots + np.int32(1), (len(tokens), 1))
        rows = {
            "tokens": tokens,
            "positions": positions,
            "target_positions": positions,
            "scored": np.tile(places, len(some))[:, None],
            "targets": some[:, places].reshape(-1, 1),
        }
        scores.append(scorer.score(rows).reshape(len(some), len(places)))
    return np.concatenate(scores)
