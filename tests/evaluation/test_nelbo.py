from itertools import combinations, permutations

import numpy as np
import pytest
from evaluation_bench import RiggedScorer, example_of, log_softmax, scorer_of, windows_of

from lab.evaluation import nelbo as module
from lab.evaluation.nelbo import nelbo

WINDOWS = np.array([[0, 1, 2], [2, 2, 0], [1, 0, 1], [0, 0, 2]], np.int32)  # vocab 3, length 3


class CountingScorer(RiggedScorer):
    """Scores every slot 1 nat, and keeps how many tokens each row hides."""

    def nll(self, example, slots):
        return np.ones_like(super().nll(example, slots))

    def hidden_counts(self):
        mask_id = self.transformer.mask_id
        return np.array([(example.tokens == mask_id).sum(axis=1) for example in self.examples])


@pytest.mark.parametrize(("length", "num_draws"), [(8, 2), (8, 6), (7, 8), (3, 16), (16, 4)])
def test_counts_of_a_half_lie_one_in_each_part_of_1_to_l(length, num_draws):
    scorer = CountingScorer(False, lambda previous, target: 1.0, length=length)
    nelbo(scorer, windows_of(200, length=length), num_draws)
    half = num_draws // 2
    counts = scorer.hidden_counts()
    assert counts.shape == (num_draws, 200)
    for number, found in enumerate(counts):
        stratum = number % half
        lowest, highest = np.floor(stratum * length / half) + 1, np.ceil((stratum + 1) * length / half)
        assert lowest <= found.min()
        assert found.max() <= highest


@pytest.mark.parametrize(("length", "num_draws"), [(8, 6), (7, 8), (3, 16)])
def test_over_the_strata_each_count_is_equally_likely(length, num_draws, monkeypatch):
    """Every k of 1 .. L put into every stratum gives every count equally often."""
    from lab.objectives.draws import Draw

    def every_count(seed, stream, ids, numbers, length, order, xp):
        return Draw(np.tile(np.arange(length, dtype=np.int32), (len(ids), 1)), ids % length + 1)

    monkeypatch.setattr(module, "draw", every_count)
    scorer = CountingScorer(False, lambda previous, target: 1.0, length=length)
    nelbo(scorer, windows_of(length, length=length), num_draws)
    counts = np.bincount(scorer.hidden_counts()[: num_draws // 2].ravel(), minlength=length + 1)
    np.testing.assert_array_equal(counts, [0] + [num_draws // 2] * length)


def test_draws_differ_between_halves_windows_and_draws():
    scorer = CountingScorer(False, lambda previous, target: 1.0)
    nelbo(scorer, windows_of(6, length=16), 4)
    patterns = {bytes(row == 1000) for example in scorer.examples for row in example.tokens}
    assert len(patterns) == 24


@pytest.mark.parametrize("num_draws", [-2, 0, 1, 3])
def test_an_odd_number_of_draws_is_refused(num_draws):
    message = rf"`num_draws` must be even and >= 2, but got num_draws={num_draws}\."
    with pytest.raises(ValueError, match=message):
        nelbo(CountingScorer(False, lambda previous, target: 1.0), windows_of(2, length=16), num_draws)


@pytest.mark.parametrize("causal", [True, False])
def test_one_nat_a_token_gives_one_nat_without_error(causal):
    scorer = CountingScorer(causal, lambda previous, target: 1.0)
    found = nelbo(scorer, windows_of(5, length=16), 4)
    assert found == pytest.approx((1.0, 0.0, 0.0), abs=1e-6)


def exact_dense(transformer):
    """Of each window: the mean over k of the mean over all sets of k hidden tokens of their mean NLL."""
    positions = np.arange(1, 4, dtype=np.int32)[None]
    total = np.zeros(len(WINDOWS))
    for k in (1, 2, 3):
        subsets = list(combinations(range(3), k))
        for subset in subsets:
            hidden = np.isin(np.arange(3), subset)
            tokens = np.where(hidden, 3, WINDOWS).astype(np.int32)
            inputs = example_of(tokens, positions, positions)
            log_probs = log_softmax(transformer(inputs, causal=False))
            nll = -np.take_along_axis(log_probs, WINDOWS[..., None], axis=-1)[..., 0]
            total += nll[:, hidden].mean(axis=1) / len(subsets) / 3
    return total


def exact_causal(transformer):
    """Of each window: the mean over the six orders of the mean NLL of its tokens in that order."""
    total = np.zeros(len(WINDOWS))
    for order in permutations(range(3)):
        order = np.array(order, np.int32)
        stream = np.concatenate([np.full((len(WINDOWS), 1), 3), WINDOWS[:, order[:2]]], axis=1).astype(
            np.int32
        )
        inputs = example_of(stream, np.array([[0, *(order[:2] + 1)]], np.int32), order[None] + 1)
        log_probs = log_softmax(transformer(inputs, causal=True))
        total -= np.take_along_axis(log_probs, WINDOWS[:, order, None], axis=-1)[..., 0].mean(axis=1) / 6
    return total


@pytest.mark.backend
@pytest.mark.parametrize(("arm", "exact"), [("dlm", exact_dense), ("any_order_ar", exact_causal)])
def test_it_estimates_the_enumerated_bound_and_knows_its_error(arm, exact, monkeypatch):
    scorer = scorer_of(arm, vocab_size=3, length=3, batch_size=2000)
    expected = exact(scorer.transformer)
    assert expected.std() > 0.05

    many = nelbo(scorer, np.repeat(WINDOWS, 500, axis=0), 4)
    assert many.mask_standard_error < 0.02
    assert abs(many.nelbo - expected.mean()) < 4 * many.mask_standard_error
    # The windows differ and masks add to that; copies of four windows know nothing of other text.
    assert many.example_standard_error == pytest.approx(
        np.sqrt((expected.var() + 2000 * many.mask_standard_error**2) / 2000), rel=0.1
    )

    few = np.repeat(WINDOWS, 20, axis=0)
    found = []
    for seed in range(30):
        monkeypatch.setattr(module, "_SEED", seed)
        found.append(nelbo(scorer, few, 4))
    spread = np.std([estimate.nelbo for estimate in found], ddof=1)
    claimed = np.sqrt(np.mean([estimate.mask_standard_error**2 for estimate in found]))
    assert claimed / 2 < spread < 2 * claimed


def test_windows_of_one_document_count_once(monkeypatch):
    """By hand, of estimates by draw and window: three documents, of one, two and one windows."""
    drawn = np.array([[1.0, 2.0, 4.0, 6.0], [3.0, 2.0, 5.0, 6.0]])
    monkeypatch.setattr(module, "_draw_nll", lambda scorer, windows, number, half: drawn[number])
    found = nelbo(None, WINDOWS[:4], 2, np.array([0, 1, 1, 2]))
    means = np.array([2.0, (2.0 + 4.5) / 2, 6.0])
    assert found.nelbo == pytest.approx(means.mean())
    assert found.example_standard_error == pytest.approx(means.std(ddof=1) / np.sqrt(3))
    # The halves differ by 2, 0, 1 and 0; the windows have the weights 1/3, 1/6, 1/6 and 1/3.
    assert found.mask_standard_error == pytest.approx(np.sqrt((2 / 3) ** 2 / 4 + (1 / 6) ** 2 / 4))


@pytest.mark.backend
def test_every_call_uses_the_same_draws():
    scorer = scorer_of("dlm", vocab_size=3, length=3)
    assert nelbo(scorer, WINDOWS, 4) == nelbo(scorer, WINDOWS, 4)
