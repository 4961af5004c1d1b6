"""Find code in frozen cells that could act otherwise when it is judged than when it runs as a job.

The text is read, not run. Names are followed through imports and plain assignments, over all frozen cells.
Code that a text hides from a reader, such as `exec` of a decoded string, is not found.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

_BINDING: Final = (
    ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.FunctionDef, ast.AsyncFunctionDef, ast.arg, ast.Call,
)  # fmt: skip
#: What a value is: a workspace, its context, an object of a workspace or a task, or a part of the package.
_Kind = Literal["workspace", "context", "object", "package"]
#: The description of a finding and its fix.
Conduct = tuple[str, str]

_SAME: Final = "let the task do the same wherever it runs"
_OWN: Final = "call a function of your own instead"
_GIVEN: Final = "let `inputs` bring the data: a job is given inputs and never what is expected"
_CONNECT: Final = frozenset({"workbench.connect", "workbench.workspace.connection.connect"})
_WORKSPACE: Final = frozenset({"workbench.Workspace", "workbench.workspace.workspace.Workspace"})
_TASK: Final = frozenset({"workbench.task", "workbench.experiments.task.task"})
#: What tells a job from other runs; the second form is read from any object, under whatever name it came.
_EXECUTION: Final = re.compile(
    r"(?:workbench\.config\.)?Execution\.current|workbench\.config\.EXECUTION_VARIABLE"
    r"|.+\.context\.purpose|.+\.execution\.(?:job|run|publish|mode|pins|tape|home|out|cases|journal|used|broken)"
)
#: Verbs of a workspace whose results have methods that a notebook could replace.
_HANDLES: Final = frozenset(
    {"experiment", "inputs", "memory", "model", "openai", "openai_async", "prompt", "window"}
)
#: Functions that show all of an object's fields, and so those that a task may not read.
_SHOWS_ALL: Final = frozenset(
    {"vars", "repr", "str", "format", "dataclasses.asdict", "dataclasses.astuple", "dataclasses.replace"}
)
_SETS: Final = re.compile(r"(?:.*\.)?(?:setattr|delattr|__setattr__|__delattr__)")
_PATCHES: Final = re.compile(r"(?:.*\.)?(?:patch(?:\.object|\.dict|\.multiple)?|setattr)")
_VARIABLE: Final = re.compile(r"WORKBENCH(?:_[A-Z_]*)?")
#: Functions that take a path: `Path("results")` names a folder, "results" alone does not.
_TAKES_PATH: Final = re.compile(
    r"(?:.*\.)?(?:open|(?:Pure)?Path|path\.\w+|joinpath|chdir|i?glob|rglob|listdir|scandir|walk|load|fromfile"
    r"|run_path|copy2|copyfile|copytree|(?:read|scan)_\w+)"
)
_JOINS: Final = re.compile(r"(?:.*\.)?(?:(?:Pure)?Path|path\.join)")
#: A part of a path that is computed, such as a variable.
_UNKNOWN: Final = "?"
_FOLDER: Final = re.compile(
    r"(?:.*/)?(?P<state>\.workbench|\.dvc|pipelines/+tapes)(?:/.*)?"
    r"|(?:file:/*)?(?:\?/|/|\.\.?/)*(?P<results>results)/.*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of the frozen cells: the full names of imports, and the kinds of other names.

    `parameters` holds the names of the parameters of each function. A name has one kind in all cells.
    """

    imports: Mapping[str, str]
    kinds: Mapping[str, _Kind]
    parameters: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, nodes: Iterable[ast.AST], imports: Mapping[str, str]) -> Names:
        """Return the names that imports, assignments, calls and tasks bind; a name keeps its first kind."""
        binding = [node for node in nodes if isinstance(node, _BINDING)]
        parameters = dict(found for node in binding for found in _parameters(node))
        kinds: dict[str, _Kind] = {}
        names, known = cls(imports=imports, kinds=kinds, parameters=parameters), -1
        while known != len(kinds):
            known = len(kinds)
            for node in binding:
                for name, kind in names._bound(node):
                    kinds.setdefault(name, kind)
        return names

    def dotted(self, node: ast.AST) -> str:
        """Return the full name of a name or attribute, with import aliases resolved; "" for other nodes."""
        match _plain(node):
            case ast.Name(id=name):
                return self.imports.get(name, name)
            case ast.Attribute(value=owner, attr=attr) if name := self.dotted(owner):
                return f"{name}.{attr}"
        return ""

    def kind(self, node: ast.AST) -> _Kind | None:
        """Return what an expression is, None when it is none of the workbench's."""
        match _plain(node):
            case ast.Name(id=name):
                return "package" if _is_package(self.imports.get(name, "")) else self.kinds.get(name)
            case ast.Attribute(value=owner, attr=attr):
                kind = self.kind(owner)
                if kind == "workspace":
                    return "context" if attr == "context" else "object"
                return "object" if kind == "context" else kind
            case ast.Call() as call:
                return self._returned(call)
        return None

    def _returned(self, call: ast.Call) -> _Kind | None:
        if self.dotted(call.func) in _CONNECT:
            return "workspace"
        match call:
            case ast.Call(func=ast.Attribute(value=owner, attr=verb)) if self.kind(owner) == "workspace":
                return "workspace" if verb == "bind" else "object" if verb in _HANDLES else None
            case ast.Call(func=ast.Name(id="type" | "vars"), args=[of]):
                return "object" if self.kind(of) else None
        return None

    def _bound(self, node: ast.AST) -> Iterator[tuple[str, _Kind]]:
        for name, value in _assigned(node):
            if kind := self.kind(value):
                yield name, kind
        match node:
            case ast.Call(func=ast.Name(id=function), args=args, keywords=keywords):
                takes = self.parameters.get(function, ())
                given = [*zip(takes, args, strict=False)]
                given += [(item.arg, item.value) for item in keywords if item.arg and item.arg in takes]
                yield from ((name, kind) for name, value in given if (kind := self.kind(value)))
            case ast.FunctionDef() | ast.AsyncFunctionDef() if self._is_task(node):
                yield node.name, "object"
                yield from ((arg.arg, "workspace") for arg in [*node.args.posonlyargs, *node.args.args][:1])
            case ast.arg(arg=name, annotation=ast.expr() as type_) if self.dotted(type_) in _WORKSPACE:
                yield name, "workspace"

    def _is_task(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        called = (item.func if isinstance(item, ast.Call) else item for item in node.decorator_list)
        return any(self.dotted(name) in _TASK for name in called)


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield each name that an assignment binds, with its value, also in a tuple."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                pairs = [(target, value)]
                if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
                    pairs = [*zip(target.elts, value.elts, strict=False)]
                yield from ((name.id, item) for name, item in pairs if isinstance(name, ast.Name))
        case ast.NamedExpr(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value


def _parameters(node: ast.AST) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name of a function that a node defines, with the names of its parameters."""
    match node:
        case ast.FunctionDef(name=name, args=args) | ast.AsyncFunctionDef(name=name, args=args):
            yield name, [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda(args=args)):
            yield name, [arg.arg for arg in (*args.posonlyargs, *args.args)]


def in_node(node: ast.AST, names: Names) -> Iterator[Conduct]:
    """Yield what a task may not do: ask where it runs, replace the workbench, read what is expected."""
    node = _plain(node)
    yield from _asked(node, names)
    yield from ((f"replaces `{name}`", _OWN) for name in _replaced(node, names))
    yield from ((f"uses `{name}`", _GIVEN) for name in _read(node, names))


def _asked(node: ast.AST, names: Names) -> Iterator[Conduct]:
    """Yield each question about the process that runs the code."""
    match node:
        case ast.Attribute(value=owner, attr=attr) if _tells(names.kind(owner), attr):
            yield f"asks where it runs: `{ast.unparse(node)}`", _SAME
        case ast.Attribute() | ast.Name() if _EXECUTION.fullmatch(names.dotted(node)):
            yield f"asks where it runs: `{ast.unparse(node)}`", _SAME
        case ast.Call(func=func, args=[shown, *_]) if names.dotted(func) in _SHOWS_ALL:
            if names.kind(shown) in {"workspace", "context"}:
                yield f"asks where it runs: `{ast.unparse(node)}`", _SAME
        case ast.FormattedValue(value=shown) if names.kind(shown) in {"workspace", "context"}:
            yield f"asks where it runs: the text of `{ast.unparse(shown)}`", _SAME
        case ast.Constant(value=str(text)) if _VARIABLE.fullmatch(text):
            yield f"asks where it runs: the variable `{text}`", _SAME


def _tells(kind: _Kind | None, attr: str) -> bool:
    """Whether an attribute of a workspace or of its context tells a job from other runs."""
    if kind not in {"workspace", "context"}:
        return False
    private = attr.startswith("_") and not attr.endswith("__")
    return private or attr in {"execution", "boundary", "purpose", "__dict__", "__getattribute__"}


def _replaced(node: ast.AST, names: Names) -> Iterator[str]:
    """Yield the names of what a node changes in the workbench."""
    match node:
        case ast.Attribute(ctx=ast.Store() | ast.Del(), value=owner) if names.kind(owner):
            yield ast.unparse(node)
        case ast.Subscript(ctx=ast.Store() | ast.Del(), value=owner) if _is_namespace(owner, names):
            yield ast.unparse(node)
        case ast.Call(func=ast.Attribute(value=owner, attr="update" | "setdefault" | "pop")):
            if _is_namespace(owner, names):
                yield ast.unparse(owner)
        case ast.Call(func=func, args=[first, *_]):
            called = names.dotted(func) or (func.attr if isinstance(func, ast.Attribute) else "")
            named = isinstance(first, ast.Constant) and _is_package(str(first.value))
            reloads = called == "importlib.reload" or _SETS.fullmatch(called) or _PATCHES.fullmatch(called)
            if reloads and (named or names.kind(first)):
                yield str(first.value) if isinstance(first, ast.Constant) else ast.unparse(first)
            if called == "sys.modules.get" and (named or not isinstance(first, ast.Constant)):
                yield "sys.modules"
    if any(names.dotted(child) == "sys.modules" for child in ast.iter_child_nodes(node)):
        yield from () if _is_harmless(node) else ("sys.modules",)


def _is_namespace(node: ast.AST, names: Names) -> bool:
    """Whether a node is the dictionary of names of a module, a class or an object of the workbench."""
    match node:
        case ast.Attribute(value=owner, attr="__dict__") | ast.Call(func=ast.Name(id="vars"), args=[owner]):
            return names.kind(owner) is not None
    return False


def _is_package(name: str) -> bool:
    return name == "workbench" or name.startswith("workbench.")


def _is_harmless(node: ast.AST) -> bool:
    """Whether a use of `sys.modules` looks up the name of a module outside the workbench."""
    match node:
        case ast.Attribute(attr="get"):
            return True  # the call is checked
        case (
            ast.Subscript(ctx=ast.Load(), slice=ast.Constant(value=name))
            | ast.Compare(left=ast.Constant(value=name))
        ):
            return not _is_package(str(name))
    return False


def _read(node: ast.AST, names: Names) -> Iterator[str]:
    """Yield the questions with their answers, and the folders of results and state, that a node names."""
    match node:
        case ast.Attribute(value=owner, attr="cases") if names.kind(owner) == "workspace":
            yield f"{ast.unparse(owner)}.cases"
        case ast.Attribute(value=owner, attr="from_file") if names.kind(owner) == "package":
            yield ast.unparse(node)
        case ast.Constant() | ast.JoinedStr() | ast.BinOp() | ast.Call():
            yield from _folder(node, names)


def _folder(node: ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call, names: Names) -> Iterator[str]:
    paths = [_path(node, names)]
    if isinstance(node, ast.Call):
        called = names.dotted(node.func) or getattr(node.func, "attr", "")
        takes = _TAKES_PATH.fullmatch(called)
        paths = [f"{_path(part, names)}/" for part in (node, *node.args)] if takes else []
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        paths[0] += "/"
    for path in paths:
        if not re.search(r"\s", path) and (found := _FOLDER.fullmatch(path)):
            yield found["state"] or "results/"


def _path(node: ast.AST, names: Names) -> str:
    """Return the path that an expression names, with "?" for each computed part."""
    separator, parts = "/", list[ast.expr]()
    match node:
        case ast.Constant(value=str(text)):
            return text.replace("\\", "/")
        case ast.JoinedStr(values=parts):
            separator = ""
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            separator, parts = "", [left, right]
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            parts = [left, right]
        case ast.Call(func=ast.Attribute(value=owner, attr="joinpath"), args=rest):
            parts = [owner, *rest]
        case ast.Call(func=func, args=rest) if _JOINS.fullmatch(names.dotted(func)):
            parts = rest
    return separator.join(_path(part, names) for part in parts) if parts else _UNKNOWN


def _plain(node: ast.AST) -> ast.AST:
    """Return `a.b` for `getattr(a, "b")` and `hasattr(a, "b")`, other nodes as they are."""
    match node:
        case ast.Call(
            func=ast.Name(id="getattr" | "hasattr"), args=[owner, ast.Constant(value=str(attr)), *_]
        ) if attr.isidentifier():
            return ast.copy_location(ast.Attribute(value=owner, attr=attr, ctx=ast.Load()), node)
    return node
