import sys

import pytest
from scheduling_bench import Bench

import lab.config


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(lab.config, "PRESETS_DIR", lab.config.PRESETS_DIR)  # put back afterwards
    return Bench(tmp_path)


@pytest.fixture
def ablation_folder(tmp_path, monkeypatch):
    """A folder whose modules count as ablations."""
    import ablations

    folder = tmp_path / "more_ablations"
    folder.mkdir()
    monkeypatch.setattr(ablations, "__path__", [*ablations.__path__, str(folder)])
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("ablations."):
            del sys.modules[name]


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server of the tests' own, for tests that are marked as needing the extra.

    Skips where there is none and none can be installed.
    """
    from postgres_server import PostgresServer, find_binaries

    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed, and cannot be without root and apt")
    server = PostgresServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()
