import pytest
from scheduling_bench import Bench

import lab.config


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(lab.config, "PRESETS_DIR", lab.config.PRESETS_DIR)  # put back afterwards
    return Bench(tmp_path)


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
