"""What the schema helper reads from MLflow's files: right, and refused if they look different."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HEAD = 'revision = "r3"\ndown_revision = "r2"\n'


@pytest.fixture
def package(schema: ModuleType, tmp_path: Path) -> Path:
    """Return a folder that looks like an installed MLflow, as far as tracking goes."""
    versions = tmp_path / "store/db_migrations/versions"
    versions.mkdir(parents=True)
    (tmp_path / "version.py").write_text('VERSION = "9.8.7"\n', encoding="utf-8")
    (versions / "a.py").write_text('revision = "r1"\ndown_revision = None\n', encoding="utf-8")
    (versions / "b.py").write_text(
        'revision: str = "r2"\ndown_revision: str | None = ("r1",)\n', encoding="utf-8"
    )
    (versions / "c.py").write_text(f"import none_such\n{HEAD}", encoding="utf-8")
    (versions / "__init__.py").touch()
    models = tmp_path / schema.TRACKING.models[0]
    models.parent.mkdir(parents=True)
    models.write_text(
        "".join(
            f'class T{i}(Base):\n    __tablename__ = "{name}"\n'
            for i, name in enumerate(sorted(schema.INITIAL_TABLES))
        ),
        encoding="utf-8",
    )
    return tmp_path


def test_head_revisions_and_tables_are_read(schema: ModuleType, package: Path) -> None:
    scripts = schema.read_scripts(package, schema.TRACKING)
    assert scripts.head == "r3"
    assert scripts.known == {"r1", "r2", "r3"}
    assert scripts.tables == schema.INITIAL_TABLES


def test_two_heads_are_refused(schema: ModuleType, package: Path) -> None:
    path = package / "store/db_migrations/versions/d.py"
    path.write_text('revision = "r4"\ndown_revision = "r2"\n', encoding="utf-8")
    with pytest.raises(schema.ShapeError, match=r"MLflow 9\.8\.7 has 2 heads"):
        schema.read_scripts(package, schema.TRACKING)


def test_other_folders_are_refused(schema: ModuleType, package: Path) -> None:
    with pytest.raises(schema.ShapeError, match=r"MLflow 9\.8\.7 has 0 heads"):
        schema.read_scripts(package, schema.AUTH)
    (package / schema.TRACKING.models[0]).unlink()
    with pytest.raises(schema.ShapeError, match="does not define experiments"):
        schema.read_scripts(package, schema.TRACKING)


def test_an_inner_function_of_another_shape_is_refused(schema: ModuleType) -> None:
    assert schema.private("json", "loads", 9 - 1) is not None
    with pytest.raises(schema.ShapeError, match=r"json\.loads of MLflow .* takes 8 arguments"):
        schema.private("json", "loads", 1)
    for module, name in (("json", "none_such"), ("none_such.module", "f"), ("json", "__name__")):
        with pytest.raises(schema.ShapeError, match="has no usable"):
            schema.private(module, name, 1)


def test_the_installed_mlflow_is_read_right(schema: ModuleType) -> None:
    """The files say what Alembic says; tests/integration asks MLflow itself, which is slow."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("MLflow is not installed")
    package = schema.package_dir()
    for one in (schema.TRACKING, schema.AUTH):
        scripts = schema.read_scripts(package, one)
        files = list((package / one.script_dir / "versions").glob("*_*.py"))
        assert len(scripts.known) == len([f for f in files if not f.name.startswith("__")])
        assert scripts.head in scripts.known
    known = {"3.16.1": "b7e2c1a4d9f3", "3.17.2": "dc11669786a5"}
    version = schema.version(package)
    if version in known:
        assert schema.read_scripts(package, schema.TRACKING).head == known[version]
