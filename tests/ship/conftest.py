"""The archive is built once for all tests."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.tests.ship.galaxy import Installed, install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The archive of this checkout, installed into an empty folder."""
    return install(tmp_path_factory.mktemp("galaxy"))
