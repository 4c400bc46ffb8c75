"""Made-up result trees, written to a temporary folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_trees import FakeSweep, FakeTree
from report_pages import one_picture


@pytest.fixture
def fake_sweep(tmp_path: Path) -> Callable[..., FakeSweep]:
    """Make a written tree of a sweep: `fake_sweep(seeds=(0, 1))`."""

    def make(**values: Any) -> FakeSweep:
        return FakeSweep(tmp_path / "results" / "ar-noise" / "laptop", **values).write()

    return make


@pytest.fixture
def fake_tree(tmp_path: Path) -> Callable[..., FakeTree]:
    """Make a written tree: `fake_tree(seeds=(0, 1, 2))`."""

    def make(**values: Any) -> FakeTree:
        return FakeTree(tmp_path / "results" / "crossover" / "laptop", **values).write()

    return make


@pytest.fixture
def no_pictures() -> Iterator[None]:
    """Every panel of a report is the same picture."""
    with one_picture():
        yield
