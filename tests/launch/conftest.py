"""The graph of tests/graph, for tests of the launch files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_specification = importlib.util.spec_from_file_location(
    "graph_fixtures", Path(__file__).parents[1] / "graph" / "conftest.py"
)
assert _specification is not None
assert _specification.loader is not None
_fixtures = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_fixtures)
graph = _fixtures.graph
