import re

import pytest

from lab.models.architecture import Architecture
from lab.models.block import Block
from lab.models.sizes import SIZES

UNITS = {"m": 1e6, "b": 1e9}


def parameters_outside_embeddings(layers, width, heads, ffn_width):
    """Query, key, value and output maps; gate, up and down maps. Nothing else has weights."""
    return layers * (4 * width**2 + 3 * width * ffn_width)


@pytest.mark.parametrize(
    ("name", "expected"), [("paper_1b", 995_950_592), ("paper_coder_1_7b", 1_526_726_656)]
)
def test_the_papers_sizes(name, expected):
    assert parameters_outside_embeddings(**SIZES[name]) == expected


@pytest.mark.parametrize("name", ["paper_2b", "paper_4b", "paper_8b"])
def test_the_papers_unpublished_sizes_have_the_ratios_of_its_1b(name):
    published, derived = SIZES["paper_1b"], SIZES[name]
    heads = derived["heads"]
    assert derived["width"] == 128 * heads
    assert derived["layers"] == round(heads * published["layers"] / published["heads"])
    ffn_width = derived["width"] * published["ffn_width"] / published["width"]
    assert derived["ffn_width"] == 128 * round(ffn_width / 128)
    billions = float(name.removeprefix("paper_").removesuffix("b"))
    assert parameters_outside_embeddings(**derived) == pytest.approx(billions * 1e9, rel=0.06)


@pytest.mark.parametrize("name", [name for name in SIZES if not name.startswith("paper")])
def test_a_name_says_the_parameters_outside_the_embeddings(name):
    number, unit = re.fullmatch(r"([0-9.]+)([mb])", name).groups()
    assert parameters_outside_embeddings(**SIZES[name]) == pytest.approx(float(number) * UNITS[unit], rel=0.2)


@pytest.mark.parametrize("name", SIZES)
def test_rope_can_turn_pairs_in_every_head(name):
    assert SIZES[name]["width"] % (2 * SIZES[name]["heads"]) == 0


@pytest.mark.backend
def test_the_arithmetic_is_the_blocks_own():
    shape = SIZES["0.1m"]
    block = Block(Architecture(vocab_size=2, length=4, **shape))
    block.build((None, 4, shape["width"]))
    assert shape["layers"] * block.count_params() == parameters_outside_embeddings(**shape)
