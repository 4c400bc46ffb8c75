"""Vocabulary 3, length 3: every order, every count and every mask enumerated.

The model is a table: for each set of revealed positions and each value of the tokens there, an explicit
distribution of every other token. Nothing makes the distributions agree with one another, as nothing does in
a network. All sums below are over such tables, in NumPy, independent of the code under test.
"""

import itertools
import math

import numpy as np
import pytest
from factors_bench import objective_of
from keras import ops
from namespaces import host

from lab.objectives import window_draws
from lab.objectives.corruption import dense_example
from lab.objectives.draws import Draw, draw
from lab.objectives.losses import weighted_nll
from lab.objectives.noise import LEVELS, noise_table
from lab.threefry import Stream

VOCAB = LENGTH = 3
MASK_ID = VOCAB
ORDERS = list(itertools.permutations(range(LENGTH)))
SEQUENCES = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)), np.int32)  # all 27


def revealed_sets():
    for size in range(LENGTH):
        yield from itertools.combinations(range(LENGTH), size)


def random_table():
    """(revealed positions, their tokens) -> (LENGTH, VOCAB) log-probabilities."""
    rng = np.random.default_rng(0)
    table = {}
    for places in revealed_sets():
        for values in itertools.product(range(VOCAB), repeat=len(places)):
            table[places, values] = np.log(rng.dirichlet(np.full(VOCAB, 0.7), LENGTH))
    return table


def table_of(joint):
    """The conditionals of one joint distribution: (VOCAB, VOCAB, VOCAB) probabilities."""
    table = {}
    for places in revealed_sets():
        for values in itertools.product(range(VOCAB), repeat=len(places)):
            known = dict(zip(places, values, strict=True))
            rows = np.zeros((LENGTH, VOCAB))
            for sequence in SEQUENCES:
                if all(sequence[place] == value for place, value in known.items()):
                    for place in range(LENGTH):
                        rows[place, sequence[place]] += joint[tuple(sequence)]
            with np.errstate(divide="ignore"):  # at the revealed places themselves
                table[places, values] = np.log(rows / rows.sum(axis=1, keepdims=True))
    return table


TABLE = random_table()


def log_probability(table, sequence, place, revealed):
    places = tuple(sorted(revealed))
    return table[places, tuple(int(sequence[i]) for i in places)][place, sequence[place]]


def chain_nll(table, sequence, order):
    """-log p(sequence | order), nats."""
    return -sum(log_probability(table, sequence, place, order[:before]) for before, place in enumerate(order))


def any_order_nll(table, sequence):
    """Mean over all orders of the chain rule's NLL, nats/token."""
    return sum(chain_nll(table, sequence, order) for order in ORDERS) / len(ORDERS) / LENGTH


def table_logits(table, example, causal):
    """What the table predicts at each slot: (rows, LENGTH, VOCAB), reading only what the example lets it."""
    logits = np.zeros((*example.tokens.shape, VOCAB))
    positions, target_positions = (
        np.broadcast_to(values, example.tokens.shape)
        for values in (example.positions, example.target_positions)
    )
    for row, slot in np.ndindex(example.tokens.shape):
        seen = slot + 1 if causal else LENGTH
        known = {
            int(place) - 1: int(token)
            for place, token in zip(positions[row, :seen], example.tokens[row, :seen], strict=True)
            if token != MASK_ID
        }
        places = tuple(sorted(known))
        if len(places) < LENGTH:
            values = tuple(known[place] for place in places)
            logits[row, slot] = table[places, values][target_positions[row, slot] - 1]
    return logits


def losses(example, causal=False, table=TABLE):
    """The loss of each row under the table, nats/token."""
    logits = table_logits(table, example, causal)
    nll = -np.take_along_axis(logits, example.targets[..., None].astype(int), -1)[..., 0]
    return (example.weights * np.where(example.weights > 0, nll, 0)).sum(axis=1)


def examples_of(tokens, views, seed=5, first=0, windows="fixed", **factors):
    """The examples of rows at views of windows number `first`, which are not at the edge of a block."""
    places = np.broadcast_to(first, len(tokens))[:, None] * LENGTH + np.arange(LENGTH)
    views = np.broadcast_to(views, len(tokens))
    inputs = (np.asarray(each, np.int32) for each in (tokens, places, views, np.arange(len(tokens))))
    objective = objective_of(LENGTH, MASK_ID, windows, **factors)
    return objective.example(*inputs, seed, np)


BOTH_WINDOWS = pytest.mark.parametrize("windows", ["fixed", "jittered"])


def every_draw(monkeypatch, sequence, order, compute, orders):
    """The example of each (order, count), made by the objective from draws that are given to it."""
    draws = list(itertools.product(orders, range(1, LENGTH + 1)))
    drawn = Draw(np.array([order for order, _ in draws], np.int32), np.array([k for _, k in draws], np.int32))
    monkeypatch.setattr(window_draws, "draw", lambda *_: drawn)
    return examples_of(np.tile(sequence, (len(draws), 1)), 0, order=order, compute=compute)


@pytest.mark.parametrize("compute", ["dense", "causal"])
def test_mean_over_all_draws_is_the_mean_nll_over_all_orders(compute, monkeypatch):
    for sequence in SEQUENCES:
        example = every_draw(monkeypatch, sequence, "any", compute, ORDERS)
        found = losses(example, causal=compute == "causal").mean()
        assert abs(found - any_order_nll(TABLE, sequence)) < 1e-6


def test_a_causal_loss_is_the_nll_under_its_order(monkeypatch):
    for sequence in SEQUENCES:
        found = losses(every_draw(monkeypatch, sequence, "any", "causal", ORDERS), causal=True)
        expected = [chain_nll(TABLE, sequence, order) / LENGTH for order in ORDERS for _ in range(LENGTH)]
        assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_ar_is_the_chain_rule():
    found = losses(examples_of(SEQUENCES, 0, order="left_to_right", compute="causal"), causal=True)
    for sequence, loss in zip(SEQUENCES, found, strict=True):
        chain = sum(log_probability(TABLE, sequence, place, tuple(range(place))) for place in range(LENGTH))
        assert abs(loss + chain / LENGTH) < 1e-6


def test_a_suffix_denoiser_predicts_each_hidden_token_from_the_prefix(monkeypatch):
    for sequence in SEQUENCES:
        example = every_draw(monkeypatch, sequence, "left_to_right", "dense", [(0, 1, 2)])
        expected = [
            -sum(
                log_probability(TABLE, sequence, place, range(LENGTH - k))
                for place in range(LENGTH - k, LENGTH)
            )
            / k
            for k in (1, 2, 3)
        ]
        assert np.allclose(losses(example), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_bernoulli_expectation_is_the_mean_nll_over_all_orders(schedule):
    """All masks at all noise levels, each with its exact probability: one number for both schedules."""
    probability, weight = (values.astype(float) for values in noise_table(schedule))
    masks = np.array(list(itertools.product((False, True), repeat=LENGTH)))
    counts = masks.sum(axis=1)[:, None]
    # (masks,): the mean over noise levels of weight times the chance of the mask.
    share = (weight * probability**counts * (1 - probability) ** (LENGTH - counts)).mean(axis=1)
    per_token = np.full(len(masks), 1 / LENGTH, "float32")
    for sequence in SEQUENCES:
        rows = np.tile(sequence, (len(masks), 1))
        found = share @ losses(dense_example(rows, masks, MASK_ID, per_token, np))
        assert abs(found - any_order_nll(TABLE, sequence)) < 1e-5


def test_the_share_of_each_mask_is_a_beta_function():
    """Integral of t**(k - 1) (1 - t)**(L - k), the weight 1/t included: (k - 1)! (L - k)! / L!."""
    probability, weight = (values.astype(float) for values in noise_table("linear"))
    for k in (1, 2, 3):
        share = (weight * probability**k * (1 - probability) ** (LENGTH - k)).mean()
        exact = math.factorial(k - 1) * math.factorial(LENGTH - k) / math.factorial(LENGTH)
        assert abs(share - exact) < 1 / LEVELS**2 + 1e-6


@BOTH_WINDOWS
@pytest.mark.parametrize(
    "factors",
    [
        {"order": "any", "compute": "causal"},
        {"order": "any", "compute": "dense"},
        {"order": "any", "compute": "dense", "estimator": "bernoulli"},
        {"order": "any", "compute": "dense", "estimator": "bernoulli", "noise_schedule": "cosine"},
    ],
    ids=lambda factors: "_".join(str(value) for value in factors.values()),
)
def test_real_draws_average_to_the_enumerated_number(factors, windows):
    """End to end, through the generator: all four estimators estimate one number."""
    count = 6000
    sequence = np.array([2, 0, 1], np.int32)
    example = examples_of(np.tile(sequence, (count, 1)), np.arange(count), windows=windows, **factors)
    found = losses(example, factors["compute"] == "causal")
    error = found.std() / math.sqrt(count)
    assert abs(found.mean() - any_order_nll(TABLE, sequence)) < 4 * error
    assert error < 0.05


def suffix_nll(table, sequence, order):
    """Mean over k of the mean NLL of the last k of an order, each from those before them alone."""
    means = []
    for k in range(1, LENGTH + 1):
        revealed, hidden = order[: LENGTH - k], order[LENGTH - k :]
        means.append(-np.mean([log_probability(table, sequence, place, revealed) for place in hidden]))
    return np.mean(means)


def orders_of(level, seed):
    """The orders of a level, each with its share of the draws."""
    forward, backward = (0, 1, 2), (2, 1, 0)
    kind, _, number = level.partition(":")
    if kind == "right_to_left":
        return {forward: 1 - float(number), backward: float(number)}
    if kind == "fixed":
        ids = np.arange(200, dtype=np.int32)
        drawn = draw(seed, Stream.TRAINING_DRAWS, ids, ids, LENGTH, level, np).order
        rows = sorted({tuple(row) for row in drawn.tolist()})
        assert len(rows) == int(number)
        return {row: 1 / len(rows) for row in rows}
    return {order: 1 / len(ORDERS) for order in ORDERS} if kind == "any" else {forward: 1.0}


@BOTH_WINDOWS
@pytest.mark.parametrize("compute", ["causal", "dense"])
@pytest.mark.parametrize("level", ["left_to_right", "fixed:1", "fixed:3", "right_to_left:0.25", "any"])
def test_the_draws_of_every_order_level_average_to_its_enumerated_number(level, compute, windows):
    """Through the generator. Every loss is one that the level allows; their mean is the level's."""
    count, seed = 6000, 5
    sequence = np.array([2, 0, 1], np.int32)
    rows = np.tile(sequence, (count, 1))
    example = examples_of(rows, np.arange(count), seed, windows=windows, order=level, compute=compute)
    found = losses(example, compute == "causal")
    orders = orders_of(level, seed)
    one = chain_nll if compute == "causal" else suffix_nll
    scale = LENGTH if compute == "causal" else 1
    expected = sum(share * one(TABLE, sequence, order) for order, share in orders.items()) / scale
    if compute == "causal":
        allowed = [chain_nll(TABLE, sequence, order) / LENGTH for order in orders]
        assert np.abs(found[:, None] - allowed).min(axis=1).max() < 1e-6
        assert (np.abs(found[:, None] - allowed).min(axis=0) < 1e-6).all()
    error = found.std() / math.sqrt(count)
    assert abs(found.mean() - expected) < 4 * error + 1e-6
    if level == "any":
        assert abs(expected - any_order_nll(TABLE, sequence)) < 1e-9


@pytest.mark.parametrize("level", ["left_to_right", "fixed:3", "right_to_left:0.25", "any"])
def test_enumerated_draws_of_a_level_have_its_dense_number(level, monkeypatch):
    """Every order of the level with every count, by its share: exact."""
    orders = orders_of(level, 5)
    for sequence in SEQUENCES[::4]:
        example = every_draw(monkeypatch, sequence, level, "dense", orders)
        found = losses(example).reshape(len(orders), LENGTH).mean(axis=1) @ list(orders.values())
        expected = sum(share * suffix_nll(TABLE, sequence, order) for order, share in orders.items())
        assert abs(found - expected) < 1e-6


@pytest.mark.parametrize("draws", ["inf", 2])
@pytest.mark.parametrize("place", [0, 1])
def test_each_of_a_complementary_pair_estimates_the_any_order_nll(place, draws):
    """Over many sequences at one visit, so that two frozen draws a sequence serve as well."""
    count = 6000
    sequence = np.array([2, 0, 1], np.int32)
    factors = {"order": "any", "compute": "dense", "complementary": True, "draws": draws}
    example = examples_of(np.tile(sequence, (count, 1)), 4 + place, first=np.arange(count), **factors)
    found = losses(example)
    # The loss is a function of the hidden set; its mean over all sets, each with its chance, is the number.
    hidden = (example.weights > 0) @ np.array([1, 2, 4])
    by_set = {key: np.unique(found[hidden == key].round(6)).tolist() for key in np.unique(hidden).tolist()}
    assert [len(values) for values in by_set.values()] == [1] * 7
    exact = sum(values[0] / LENGTH / math.comb(LENGTH, key.bit_count()) for key, values in by_set.items())
    assert abs(exact - any_order_nll(TABLE, sequence)) < 1e-5
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(count)


def mixture_nll(table, sequence):
    """-log of the mean over all orders of p(sequence | order), nats/token."""
    return -math.log(np.mean([math.exp(-chain_nll(table, sequence, order)) for order in ORDERS])) / LENGTH


def test_the_bound_is_above_the_mixture_over_orders(monkeypatch):
    gaps = []
    for sequence in SEQUENCES:
        bound = losses(every_draw(monkeypatch, sequence, "any", "dense", ORDERS)).mean()
        gaps.append(bound - mixture_nll(TABLE, sequence))
    assert min(gaps) > -1e-6
    assert np.mean(gaps) > 0.01  # this table's conditionals disagree


def test_the_mixture_over_orders_is_a_distribution():
    total = sum(math.exp(-LENGTH * mixture_nll(TABLE, sequence)) for sequence in SEQUENCES)
    assert abs(total - 1) < 1e-9


def test_the_bound_is_tight_if_one_joint_gives_the_conditionals(monkeypatch):
    joint = np.random.default_rng(1).dirichlet(np.full(VOCAB**LENGTH, 0.5)).reshape((VOCAB,) * LENGTH)
    table = table_of(joint)
    for sequence in SEQUENCES:
        exact = -math.log(joint[tuple(sequence)]) / LENGTH
        dense, causal = (
            losses(every_draw(monkeypatch, sequence, "any", compute, ORDERS), compute == "causal", table)
            for compute in ("dense", "causal")
        )
        assert abs(dense.mean() - exact) < 1e-5
        assert np.allclose(causal, exact, rtol=1e-5, atol=0)  # under every order alone
        assert abs(mixture_nll(table, sequence) - exact) < 1e-9


@pytest.mark.backend
@pytest.mark.parametrize("compute", ["dense", "causal"])
def test_the_backend_computes_the_enumerated_number(compute, monkeypatch):
    sequence = SEQUENCES[11]
    example = every_draw(monkeypatch, sequence, "any", compute, ORDERS)
    logits = table_logits(TABLE, example, causal=compute == "causal").astype("float32")
    found = host(weighted_nll(*map(ops.convert_to_tensor, (logits, example.targets, example.weights))))
    assert abs(found.mean() - any_order_nll(TABLE, sequence)) < 1e-6
