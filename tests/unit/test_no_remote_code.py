"""No text from afar is ever run: nothing in `src` unpickles, evaluates, loads arbitrary YAML or asks a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
    "joblib",
    "code",
    "codeop",
    "commands",
    "pty",
}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "os.system", "os.popen", "os.spawnl", "os.spawnv", "subprocess.getoutput", "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "yaml.unsafe_load_all", "yaml.full_load_all", "numpy.load", "np.load",
}  # fmt: skip


def problems(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for name in [module or "", *(alias.name for alias in node.names)]:
                if name.partition(".")[0] in MODULES and not (isinstance(node, ast.ImportFrom) and name != module):
                    yield f"line {node.lineno}: imports {name}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in NAMES or called in CALLS:
                yield f"line {node.lineno}: calls {called}"
            for keyword in node.keywords:
                if keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield f"line {node.lineno}: asks a shell"
                if keyword.arg == "allow_pickle" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield f"line {node.lineno}: allows pickle"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("builtins.eval", "builtins.exec"):
            yield f"line {node.lineno}: names {ast.unparse(node)}"


def test_nothing_in_the_tree_runs_what_it_is_given() -> None:
    assert len(SOURCES) > 100
    found = [f"{path.name} {problem}" for path in SOURCES for problem in problems(ast.parse(path.read_bytes()))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import joblib.numpy_pickle", "eval('1')", "exec(text)",
        "subprocess.run(text, shell=True)", "subprocess.Popen(text, shell=remote)", "os.system(text)",
        "yaml.load(text)", "asyncio.create_subprocess_shell(text)", "numpy.fromfile(file, allow_pickle=True)",
        "__import__(text)",
    ],
)  # fmt: skip
def test_each_way_is_found(text: str) -> None:
    assert list(problems(ast.parse(text)))


def test_what_is_harmless_is_not() -> None:
    text = "import subprocess, re\nsubprocess.run(words)\nre.compile('a')\nyaml.safe_load(text)\nmodel.eval()"
    assert list(problems(ast.parse(text))) == []
