"""
The sizes that keep the code readable, and the words that every module says about itself.

The numbers are ceilings; the medians are printed with `pytest -s`.
"""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "orchestrator"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 350, 50
MEDIAN_MODULE, MEDIAN_FUNCTION = 150, 10

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: Function) -> int:
    """Lines from `def` to the end, without decorators and docstring."""
    last = function.end_lineno or function.lineno
    first = function.body[0]
    told = ast.get_docstring(function, clean=False) is not None
    return last - function.lineno + 1 - ((first.end_lineno or 0) - first.lineno + 1 if told else 0)


def lines(module: Path) -> int:
    return len(module.read_text(encoding="utf-8").splitlines())


def sized() -> list[tuple[str, int]]:
    return [
        (f"{module.relative_to(ROOT)}:{function.lineno} {function.name}", length(function))
        for module in MODULES
        for function in functions(ast.parse(module.read_text(encoding="utf-8")))
    ]


def test_the_ruler_measures_without_docstring_and_decorator() -> None:
    source = "@wrapped\ndef f(a,\n      b):\n    '''One.\n\n    Two.\n    '''\n    c = a\n    return c\n"
    (function,) = functions(ast.parse(source))
    assert length(function) == 4


def test_no_module_is_too_long() -> None:
    too_long = {str(module.relative_to(ROOT)): lines(module) for module in MODULES if lines(module) > LONGEST_MODULE}
    assert not too_long


def test_no_function_is_too_long() -> None:
    assert not [(name, size) for name, size in sized() if size > LONGEST_FUNCTION]


def test_most_of_it_is_much_shorter() -> None:
    module = statistics.median(lines(module) for module in MODULES if lines(module))
    function = statistics.median(size for _, size in sized())
    print(f"median module {module:.0f} lines, median function {function:.0f} lines")
    assert module <= MEDIAN_MODULE
    assert function <= MEDIAN_FUNCTION


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_says_what_it_owns(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, "a module begins with what it owns"
    assert len(docstring.split()) >= 8
