import doctest

import pytest

from lab.objectives import corruption, draws, input_noise, noise, place_draws

EXAMPLES = {
    corruption: {"block_example", "causal_example", "dense_example"},
    draws: {"draw", "complement"},
    noise: {"bernoulli_hidden"},
    input_noise: {"add_input_noise"},
    place_draws: {"PlaceDraws"},
}


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_print_what_the_docstrings_say(module):
    """If draws are meant to change, print the examples anew."""
    tests = {test.name.rpartition(".")[2]: test for test in doctest.DocTestFinder().find(module)}
    assert {name for name, test in tests.items() if test.examples} == EXAMPLES[module]
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)
