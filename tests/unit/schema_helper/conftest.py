"""The schema helper as a module: it is a script in the Kustomize tree, and no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "kustomize" / "base" / "schema.py"


@pytest.fixture(scope="session")
def schema() -> ModuleType:
    """Return kustomize/base/schema.py as a module."""
    spec = importlib.util.spec_from_file_location("mlops_mlflow_schema", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
