"""The house rules, as far as a machine can judge them."""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib.util
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "workbench").rglob("*.py"))
ALL = PACKAGE + sorted(p for room in ("tests", "benchmarks") for p in (ROOT / room).rglob("*.py"))
NAMED_AFTER_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core"}
#: Values that are not frozen, slotted and keyword-only. The list may only shrink.
OTHER_DATACLASSES = {"context.InvocationScope"}

#: Files with more than 12 public names, and why. The list may only shrink.
MANY_NAMES = {
    "workbench/cli/memory.py": "one function for each command",
    "workbench/errors.py": "the tree of errors",
    "workbench/layout.py": "one constant for each path of a repository",
    "workbench/registry.py": "the kinds of assets and the page of each",
    "workbench/testing/memory_items.py": "one strategy for each field of an item",
    "workbench/types.py": "the values that every room uses",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """The parsed modules; each worker imports this file, and one of them needs them."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def walk(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every class and function below `node` with its dotted name. No expression holds one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield prefix + child.name, child
            yield from walk(child, f"{prefix}{child.name}.")
        elif not isinstance(child, ast.expr | ast.arguments):
            yield from walk(child, prefix)


@functools.cache
def definitions() -> dict[Path, list[tuple[str, ast.AST]]]:
    """Every class and function of each module with its dotted name."""
    return {path: list(walk(tree)) for path, tree in trees().items()}


def functions() -> Iterator[tuple[str, Function]]:
    for path, found in definitions().items():
        for name, node in found:
            if isinstance(node, Function):
                yield f"{name_of(path)}:{name}", node


def length(node: Function) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


def decorators(node) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


def test_a_long_file_is_justified_in_the_map():
    long = {name_of(p) for p in ALL if len(p.read_text(encoding="utf-8").splitlines()) > 500}
    assert long == set(the_map().LONG)


def public_names(tree: ast.Module) -> set[str]:
    """Classes, functions and constants that a module defines for others."""
    found = set()
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {
                name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def test_a_file_has_at_most_12_public_names():
    many = {name_of(p): n for p, tree in trees().items() if (n := len(public_names(tree))) > 12}
    assert {name: n for name, n in many.items() if name not in MANY_NAMES} == {}
    assert set(MANY_NAMES) <= set(many), "MANY_NAMES names a file that has 12 names or fewer"


def test_no_class_name_stands_twice():
    homes: dict[str, list[str]] = {}
    for path, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(name_of(path))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def imports_of(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a module imports, anywhere in it and for type checking too."""
    found = set()
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "workbench":
            found |= {x if (x := f"{node.module}.{a.name}") in known else node.module for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
    return found


def test_no_two_modules_import_each_other_however_long_the_way():
    module_of = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE}
    known = {name.removesuffix(".__init__") for name in module_of.values()}
    # What a package's __init__ exports is for others: inside the room nobody imports it.
    graph = {module_of[path]: imports_of(path, known) for path in PACKAGE if path.name != "__init__.py"}
    circles = []
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    for name in list(graph):  # what only leads into a circle is not in one
        if not any(name in targets for targets in graph.values()):
            del graph[name]
    circles = sorted(graph)
    assert not circles


def test_a_function_has_at_most_40_lines_and_nine_of_ten_at_most_25():
    lengths = {name: length(node) for name, node in functions()}
    assert not {name: n for name, n in lengths.items() if n > 40}
    longer = {name: n for name, n in lengths.items() if n > 25}
    assert len(longer) <= len(lengths) / 10, f"{len(longer)} of {len(lengths)}: {longer}"


def test_a_function_takes_at_most_7_parameters():
    def count(node: Function) -> int:
        a = node.args
        names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)] + [
            p.arg for p in (a.vararg, a.kwarg) if p
        ]
        return len([n for n in names if n not in {"self", "cls"}])

    assert not {name: n for name, node in functions() if (n := count(node)) > 7}


def test_a_name_says_what_the_file_holds():
    bad = [name_of(p) for p in PACKAGE if NAMED_AFTER_NOTHING & set(re.split(r"[_/.]", name_of(p)))]
    assert not bad


def test_init_files_only_export():
    """A docstring, imports, `__all__` and `__version__`, a table of lazy names and its `__getattr__`."""
    allowed = {"__getattr__", "__dir__"}
    for path, tree in trees().items():
        if path.name != "__init__.py":
            continue
        for node in tree.body:
            fine = isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign)
            fine |= isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            fine |= isinstance(node, ast.FunctionDef) and node.name in allowed
            fine |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            assert fine, f"{name_of(path)}:{node.lineno} does more than export"


def test_a_dataclass_is_frozen_slotted_and_keyword_only():
    other = set()
    for path, found in definitions().items():
        module = ".".join(path.relative_to(ROOT / "workbench").with_suffix("").parts)
        for name, node in found:
            made = [d for d in decorators(node) if re.match(r"(dataclasses\.)?dataclass\b", d)]
            wanted = ("frozen=True", "slots=True", "kw_only=True")
            if isinstance(node, ast.ClassDef) and made and not all(word in made[0] for word in wanted):
                other.add(f"{module}.{name}")
    assert other == OTHER_DATACLASSES


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def test_what_is_public_has_a_docstring():
    bare = []
    for path, tree in trees().items():
        assert ast.get_docstring(tree), f"{name_of(path)} does not say what it holds"
        found = definitions()[path]
        inside = tuple(f"{name}." for name, node in found if isinstance(node, Function))
        for name, node in found:
            exempt = any("overload" in d or d.endswith(".setter") for d in decorators(node))
            exempt |= "_contract.py" in path.name and ".test_" in name  # its name is the sentence
            if is_public(name) and not name.startswith(inside) and not exempt and not ast.get_docstring(node):
                bare.append(f"{name_of(path)}:{name}")
    assert not bare


def test_an_async_twin_takes_what_its_sync_verb_takes():
    apart = []
    for path, found in definitions().items():
        named = {name: node for name, node in found if isinstance(node, Function)}
        for name, node in named.items():
            twin = named.get(f"{name}_async")
            if twin is not None and ast.unparse(twin.args) != ast.unparse(node.args):
                apart.append(f"{name_of(path)}:{name}")
    assert not apart


def test_twins_that_are_made_have_the_names_of_the_method_they_are_made_of():
    """`add, add_async = _sync.twins(_add)`: a copied line with one name left is a wrong verb."""
    made = [
        (name_of(path), ast.unparse(node.targets[0]), ast.unparse(node.value.args[0]).removeprefix("_"))
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "_sync.twins"
    ]
    assert made
    assert not [each for each in made if each[1].strip("()") != f"{each[2]}, {each[2]}_async"]


def the_map():
    spec = importlib.util.spec_from_file_location("workbench_map", ROOT / "docs" / "map.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_map_is_what_the_docstrings_say():
    made, page = the_map(), ROOT / "docs" / "map.md"
    assert page.read_text(encoding="utf-8") == made.page(), "python docs/map.py writes it anew"
    assert {name_of(path) for path in PACKAGE if path.name != "__init__.py"} <= set(page.read_text().split())
    assert all((ROOT / where).exists() for where in made.QUESTIONS.values())


def commands(group, prefix="workbench") -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:  # a former name
            continue
        yield f"{prefix} {name}"
        yield from commands(command, f"{prefix} {name}") if hasattr(command, "commands") else ()


def test_every_command_is_documented():
    from workbench.cli.app import cli

    pages = [ROOT / "README.md", ROOT / "docs" / "cli.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if page.exists())
    known = list(commands(cli))
    assert known
    assert not [name for name in known if not re.search(rf"\b{name}\b", text)]


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "docs/why.md", "docs/map.md", "docs/glossary.md"]
)
def test_the_pages_a_newcomer_looks_for_exist(page):
    assert (ROOT / page).read_text(encoding="utf-8").strip()


def test_a_unit_test_cannot_reach_the_network_and_an_event_loop_still_works():
    with socket.socket() as mine:
        for reach in (mine.connect, mine.connect_ex, mine.bind, lambda address: socket.getaddrinfo(*address)):
            with pytest.raises(pytest.fail.Exception, match="reached for the network"):
                reach(("127.0.0.1", 9))
    assert asyncio.run(asyncio.to_thread(lambda: 42)) == 42


def test_no_two_files_of_tests_have_one_name():
    """Pytest imports them by their names alone."""
    homes: dict[str, list[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name not in {"conftest.py", "__init__.py"}:
            homes.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in homes.items() if len(files) > 1}
