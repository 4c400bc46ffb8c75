import hashlib
import random
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from lab.config import DataConfig
from lab.data.budget import budget
from lab.data.dataset import prepare
from lab.data.functions import (
    INPUTS,
    LISTS,
    MOST_STEPS,
    REDUCTIONS,
    Function,
    Step,
    _joined,
    count_structures,
    functions_of,
    make_functions,
    problems,
    run,
)
from lab.data.held_out import held_out_room
from lab.data.splits import SPLITS

FIRST = '''def f(xs):
    """drop every other, put in order"""
    xs = xs[::2]
    return sorted(xs)'''
TWO = '''def g(ns):
    """keep the odd, add up"""
    ns = [n for n in ns if n % 2]
    return sum(ns)'''


@pytest.fixture(scope="module")
def made():
    """2,000 functions and the groups of their structures."""
    return list(make_functions(2000))


@pytest.fixture(scope="module")
def functions(made):
    return [function for function, _ in made]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def config_of(**values):
    return DataConfig(**{"corpus": "functions", "functions": 2000, "length": 32, **values})


def texts_of(dataset, split):
    array = np.asarray(getattr(dataset, split))
    ends = np.flatnonzero(array == dataset.tokenizer.end_id) + 1
    assert ends[-1] == len(array)
    return [dataset.tokenizer.decode(part) for part in np.split(array, ends)[:-1]]


def executed(text, calls):
    """What Python itself makes of a text of this corpus."""
    names = {}
    exec(text, names)
    return [names[call.name](*map(list, call.arguments)) for call in calls]


def changed(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


def test_the_same_functions_on_every_machine(functions):
    """Golden: if it changes, so does every result on this corpus; say so where they are reported."""
    assert functions[0].text == FIRST
    digest = hashlib.sha256("\0".join(function.text for function in functions).encode()).hexdigest()
    assert digest[:16] == "29d937fddb66241c"


def test_more_functions_begin_with_fewer_and_all_differ(functions):
    fewer = [function for function, _ in make_functions(70)]
    assert functions[:70] == fewer
    assert len({function.text for function in functions}) == len(functions) == 2000


def test_what_python_makes_of_a_body_is_what_its_calls_expect(functions):
    """Code and meaning of an operation are written down apart. Every number of each is among these."""
    used = set()
    for function in functions:
        problem = function.problem()
        found = executed(problem.prompt + problem.body, problem.calls)
        expected = [call.expected for call in problem.calls]
        assert found == expected
        assert [*map(type, found)] == [*map(type, expected)]
        used |= {(step.operation.name, step.number) for step in function.steps}
    numbers = {(one.name, k) for one in (*LISTS, *REDUCTIONS) for k in one.numbers or [0]}
    assert used == numbers


def test_calls_are_lists_of_both_signs_with_repeats():
    assert len(INPUTS) >= 5
    for xs in INPUTS:
        assert min(xs) < 0 < max(xs)
        assert {x % 2 for x in xs} == {0, 1}
        assert sorted(xs) != list(xs)
    assert sum(len(set(xs)) < len(xs) for xs in INPUTS) >= 5


def test_calls_take_their_own_lists():
    one, other = (problems([TWO])[0].calls for _ in range(2))
    one[0].arguments[0].clear()
    assert other == problems([TWO])[0].calls


def test_calls_tell_structures_apart(functions):
    draw = random.Random(0)
    results = [repr([call.expected for call in function.problem().calls]) for function in functions]
    pairs = [draw.sample(range(len(functions)), 2) for _ in range(40_000)]
    pairs = [(a, b) for a, b in pairs if functions[a].structure != functions[b].structure]
    assert len(pairs) > 35_000
    assert sum(results[a] == results[b] for a, b in pairs) < len(pairs) / 1000


def test_every_step_of_a_function_matters_and_no_result_is_constant(functions):
    for function in functions[:500]:
        expected = [run(function.steps, xs) for xs in INPUTS]
        assert len({repr(value) for value in expected}) >= 4
        for place in range(len(function.steps)):
            others = function.steps[:place] + function.steps[place + 1 :]
            assert [run(others, xs) for xs in INPUTS] != expected
        assert all(one.operation != other.operation for one, other in pairwise(function.steps))


def test_a_document_is_its_prompt_and_its_body_and_short(functions):
    sizes = [len(function.text) for function in functions]
    assert max(sizes) <= 256
    assert np.mean(sizes) < 150
    for function in functions:
        assert function.text == function.prompt + function.body
        assert function.prompt.endswith('"""')
        assert function.body.startswith("\n    ")
        assert function.body.count("\n") == len(function.steps) <= MOST_STEPS
    assert {len(function.steps) for function in functions} == {1, 2, 3, 4}


def test_a_problem_is_rebuilt_from_the_text_alone(functions):
    texts = [function.text for function in functions]
    assert functions_of(texts) == functions
    assert problems(texts[:200]) == [function.problem() for function in functions[:200]]
    assert count_structures(texts) == len({function.structure for function in functions})


NOT_OF_THE_CORPUS = {
    "nothing": "",
    "a prompt alone": TWO.partition("\n    ns")[0],
    "a part": TWO[:-1],
    "more than one": f"{TWO}\n{FIRST}",
    "a line break at the end": f"{TWO}\n",
    "another body": changed(TWO, "if n % 2", "if n % 2 == 0"),
    "other words": changed(TWO, "keep the odd", "keep all that is odd"),
    "another name": changed(TWO, "def g", "def k"),
    "another variable": TWO.replace("ns", "ms").replace("n ", "m "),
    "a step behind a number": Function(
        "f", "xs", tuple(Step(one, 0, 0) for one in (REDUCTIONS[0], LISTS[-1]))
    ).text,
    "a number that is none of the operation's": Function("f", "xs", (Step(LISTS[0], 10, 0),)).text,
    "too many steps": Function("f", "xs", tuple(Step(one, 0, 0) for one in 5 * LISTS[-1:])).text,
}


@pytest.mark.parametrize("text", NOT_OF_THE_CORPUS.values(), ids=NOT_OF_THE_CORPUS.keys())
def test_what_is_no_function_of_the_corpus_is_left_out_or_refused(text):
    assert [function.text for function in functions_of([TWO, text, FIRST])] == [TWO, FIRST]
    for read in (problems, count_structures):
        with pytest.raises(ValueError, match="`texts` must be whole functions of corpus=functions, but got "):
            read([TWO, text])


def test_functions_that_compute_the_same_share_a_group(made):
    """By Python, on other lists than those by which the corpus groups."""
    draw = random.Random(1)
    lists = [[draw.randint(-30, 30) for _ in range(draw.randint(3, 15))] for _ in range(40)]
    groups = defaultdict(set)
    for function, group in made:
        names = {}
        exec(function.text, names)
        results = [names[function.name](list(xs)) for xs in (*INPUTS, *lists)]
        groups[repr(results)].add((function.structure, group))
    joined = [found for found in groups.values() if len({structure for structure, _ in found}) > 1]
    assert len(joined) > 30  # commuting filters, additions that merge
    assert all(len({group for _, group in found}) == 1 for found in groups.values())


def test_a_structure_is_in_one_group_named_after_its_first(made):
    groups = defaultdict(set)
    for function, group in made:
        groups[function.structure].add(group)
    assert all(len(found) == 1 and min(found) <= structure for structure, found in groups.items())
    assert max(np.unique([" ".join(group) for _, group in made], return_counts=True)[1]) < 100


def test_chains_of_structures_join():
    a, b, c, d, e = (tuple(name) for name in "abcde")
    expected = {a: a, b: a, c: a, d: d, e: a}
    for sets in ([{b, c}, {d}, {a, e}, {c, e}], [{c, e}, {a, e}, {d}, {b, c}]):
        assert _joined(sets) == expected


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:400"])
def test_splits_share_no_structure_and_nothing_that_computes_the_same(tokenizer, made, cache):
    dataset = prepare(config_of(tokenizer=tokenizer), cache)
    group = {function.text: group for function, group in made}
    texts = {split: texts_of(dataset, split) for split in SPLITS}
    assert sorted(text for each in texts.values() for text in each) == sorted(group)
    structures = {split: {one.structure for one in functions_of(each)} for split, each in texts.items()}
    for kind in (structures, {split: {group[text] for text in each} for split, each in texts.items()}):
        assert len(set.union(*kind.values())) == sum(map(len, kind.values()))
        assert min(map(len, kind.values())) > 50
    assert dataset.statistics["structures"] == {split: len(found) for split, found in structures.items()}
    assert dataset.statistics["documents"] == {split: len(each) for split, each in texts.items()}
    sizes = np.unique([" ".join(name) for name in group.values()], return_counts=True)[1]
    assert dataset.statistics["near_duplicate_groups"] == (sizes > 1).sum()
    assert dataset.statistics["near_duplicate_documents"] == sizes[sizes > 1].sum()
    assert dataset.statistics["exact_duplicates_removed"] == dataset.statistics["files"] == 0


def test_nothing_held_out_is_left_out_for_being_made_of_the_same_lines(cache):
    dataset = prepare(config_of(), cache)
    for split in ("validation", "test"):
        assert len(dataset.seen[split]) == len(getattr(dataset, split))
        assert not dataset.seen[split].any()
        assert dataset.statistics["seen"][split] > 0.5  # which would have left out most windows
        documents = dataset.statistics["documents"][split]
        assert held_out_room(dataset, split, 32).documents == documents


def test_budgets_are_exact_and_parts_of_functions_are_told_from_whole_ones(cache):
    dataset = prepare(config_of(), cache)
    for unique_tokens in (1, 50_000, 123_457, len(dataset.train)):
        assert len(budget(dataset.train, unique_tokens, 32, 0)) == unique_tokens
    tokens = np.asarray(budget(dataset.train, 50_000, 32, 0)[np.arange(50_000)])
    ends = np.flatnonzero(tokens == dataset.tokenizer.end_id) + 1
    spans = [dataset.tokenizer.decode(span) for span in np.split(tokens, ends)]
    trained = set(texts_of(dataset, "train"))
    found = [function.text for function in functions_of(spans)]
    assert len(spans) // 3 < len(found) < len(spans)
    assert set(found) <= trained


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:400"])
def test_no_token_crosses_from_the_prompt_into_the_body(tokenizer, functions, cache):
    encode = prepare(config_of(tokenizer=tokenizer), cache).tokenizer.encode
    for function in functions[:300]:
        parts = [encode(function.prompt), encode(function.body)]
        np.testing.assert_array_equal(np.concatenate(parts), encode(function.text))


def test_another_number_of_functions_is_another_corpus(cache):
    one, other = (prepare(config_of(functions=number), cache) for number in (500, 501))
    assert one.key != other.key
    assert sum(other.statistics["documents"].values()) == 501
    assert prepare(config_of(functions=500), cache).hashes == one.hashes


def test_too_few_functions_say_what_helps(cache):
    with pytest.raises(ValueError, match=r"got none: .*2 documents, made by rule .*raise data\.functions"):
        prepare(config_of(functions=2), cache)
    with pytest.raises(ValueError, match=r"hold one window of length=32767 .*raise data\.functions"):
        prepare(config_of(functions=500, length=32767), cache)


REFUSED = {
    "none": ({"functions": 0}, "functions"),
    "fewer than none": ({"functions": -5}, "functions"),
    "too many": ({"functions": 200_001}, "functions"),
    "half a function": ({"functions": 10.5}, "functions"),
    "text": ({"functions": "1000"}, "expected a whole number, but got '1000'"),
    "true": ({"functions": True}, "expected a whole number, but got true"),
    "no number": ({"functions": float("nan")}, "functions"),
    "pieces": ({"document_characters": 50}, "`document_characters` must be 0 where corpus=functions"),
    "a tier": ({"quality": "low"}, "`quality` must be '' where corpus=functions"),
    "a field": ({"quality_field": "stars"}, "`quality_field` must be '' where corpus=functions"),
    "files": ({"paths": ("a.txt",)}, "`paths` must name files for corpus=text and be empty for any other"),
    "no use": ({"corpus": "packages"}, "`functions` must be 20000 where corpus=packages has no use for it"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_without_meaning_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        config_of(**values)
