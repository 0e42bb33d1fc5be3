# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of bad input."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.mlops.mlflow.tests.bad_input.fake_cluster import FakeCluster, Site, serve


@pytest.fixture
def cluster() -> t.Iterator[FakeCluster]:
    """Serve a cluster that is not there."""
    with serve(FakeCluster()) as fake:
        yield fake


@pytest.fixture
def site(cluster: FakeCluster, tmp_path: pathlib.Path) -> Site:
    """Return a playbook run that is aimed at the fake cluster."""
    return Site(cluster, tmp_path)
