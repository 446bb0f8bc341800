"""Examples as modules, for tests that look into a program."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from servers import Database

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Gives the example of a name as a module of its own, on the test's database."""

    def load(name: str) -> ModuleType:
        monkeypatch.setenv("DATABASE_URL", database.dsn)
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
