"""Screen a frozen notebook for secrets, personal data, local paths, and code that a job may not run.

Such code calls around the boundary, or could act otherwise in a job than when it is judged. A finding
refuses a promotion, so each pattern is narrow and prefers a miss to a false alarm. A finding names kind and
place and never repeats the value. The audit hook in the clean run's kernel (`workbench.records.egress`)
reports the calls that no text shows.
"""

from __future__ import annotations

import ast
import contextlib
import html
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench.notebooks import canonical as notebooks
from workbench.notebooks import inspection
from workbench.notebooks.conduct import Names, in_node
from workbench.notebooks.patterns import Found, in_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreeningFinding:
    """Content that may not be frozen: its place, its description, and its fix."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n  -> {self.fix}"


#: The nodes of a cell's syntax tree, each with its line in the cell as written.
_Nodes = list[tuple[int, ast.AST]]


def screen(
    notebook: inspection.Notebook, *, lock: bytes, executed: Path | None = None
) -> list[ScreeningFinding]:
    """Return the findings that prevent freezing a notebook, in the order of its cells.

    Cells tagged `explore` are not frozen and not screened. In the `executed` copy every source and
    every output is screened, because papermill writes parameters into it.
    """
    frozen = [(n, source) for n, source, tags in notebook.cells if inspection.EXPLORE_TAG not in tags]
    code = [list(_nodes(source)) for _, source in frozen]
    imports = {name: origin for nodes in code for _, node in nodes for name, origin in _bound(node)}
    names = Names.of((node for nodes in code for _, node in nodes), imports)
    imported = {name for nodes in code for _, node in nodes for name in _imported(node, names)}
    unlocked = _unlocked({name.partition(".")[0] for name in imported if not _way_through(name)[1]}, lock)
    findings = []
    for (number, source), nodes in zip(frozen, code, strict=True):
        found = [*in_text(_lines(source, nodes)), *_in_code(nodes, names, unlocked)]
        findings += [_finding(f"cell {number}", *item) for item in sorted(found)]
    if executed is not None:
        findings += _in_copy(executed, known={source for _, source in frozen})
    return list(dict.fromkeys(findings))


def installs(notebook: inspection.Notebook) -> list[ScreeningFinding]:
    """Return the lines of any cell that install packages, which changes the environment that the lock names.

    Cells tagged `explore` are read too.
    """
    found = [
        _finding(
            f"cell {number}",
            line,
            "installs packages into the environment of the repository, which then differs from its lock",
            "add the package to dependencies in pyproject.toml, then: make lock && make env",
        )
        for number, source, _ in notebook.cells
        for line, node in _nodes(source)
        if _is_install(node)
    ]
    return list(dict.fromkeys(found))


def _is_install(node: ast.AST) -> bool:
    verb, name, text = _magic(node)
    if verb in {"system", "getoutput"}:
        return _INSTALL.search(text) is not None
    return _INSTALL.search(f"{name} {text}") is not None


def _finding(place: str, line: int, what: str, fix: str) -> ScreeningFinding:
    return ScreeningFinding(where=f"{place}, line {line}", what=what, fix=fix)


def _lines(source: str, nodes: _Nodes) -> list[str]:
    """Return a cell's lines, with the `@` of matrix products (`a@b.mT`) removed: it is no address."""
    lines = source.split("\n")
    for line, node in nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            for at in range(line - 1, line + (node.end_lineno or 0) - node.lineno):
                lines[at] = lines[at].replace("@", " ")
    return lines


_NETWORK: Final = "use `ws.model()`, `ws.openai()` or `ws.memory()`"
_PROGRAM: Final = "do it in Python: a job starts no other program"
#: Modules that bypass the boundary, each with the governed alternative.
_AROUND: Final[Mapping[str, str]] = {
    module: way
    for way, modules in {
        "use `ws.openai()`, an ordinary client": "openai",
        "use `ws.model()`": "anthropic azure.ai cohere google.genai google.generativeai groq huggingface_hub "
        "litellm llama_cpp mistralai ollama replicate together vertexai voyageai xllamacpp",
        "use `ws.memory()`": "chromadb lancedb pinecone pymilvus qdrant_client weaviate",
        _NETWORK: "aiohttp boto3 botocore ftplib grpc http.client httpx httpx2 imaplib paramiko poplib "
        "pycurl requests smtplib socket ssl telnetlib urllib.request urllib3 websocket websockets "
        "xmlrpc.client workbench.workspace.boundary workbench.records.egress workbench.records.guarded "
        "workbench.controls workbench.memory workbench.models",
        _PROGRAM: "pexpect pty subprocess",
    }.items()
    for module in modules.split()
}
_FUNCTIONS: Final = re.compile(
    r"os\.(?:system|popen|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?)"
    r"|asyncio\.(?:create_subprocess_(?:exec|shell)|open_connection|open_unix_connection)"
)
_SHELLS: Final = re.compile(r"!|bash|cmd|conda|mamba|perl|pip|pypy|python[23]?|ruby|script|sh|sx|system|uv")
_INSTALL: Final = re.compile(r"\b(?:pip3?|uv|conda|mamba)\b.*?\b(?:install|add|sync)\b", re.DOTALL)
_TIMERS: Final = frozenset({"capture", "prun", "time", "timeit"})
_REMOTE: Final = re.compile(r"(?!file:)[A-Za-z][\w+.-]*://")
_EXPLORE: Final = ", or tag the cell `explore`"


def _nodes(source: str, before: int = 0) -> Iterator[tuple[int, ast.AST]]:
    """Yield every syntax node of a cell with its line, including the Python inside `%%time` cells."""
    python = inspection.plain(source)
    if python != source:  # IPython drops empty lines at the top
        before += len(source[: len(source) - len(source.lstrip())].split("\n")) - 1
    for node in ast.walk(ast.parse(python)):
        line = before + getattr(node, "lineno", 0)
        yield line, node
        verb, name, body = _magic(node)
        if name in _TIMERS:
            with contextlib.suppress(SyntaxError):  # the magic's own options are no Python
                yield from _nodes(body, line if verb == "run_cell_magic" else line - 1)


def _magic(node: ast.AST) -> tuple[str, str, str]:
    """Return IPython's method, the magic's name and its text; empty texts when `node` is no magic."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=verb)):
            texts = [arg.value if isinstance(arg, ast.Constant) else "" for arg in node.args] or [""]
            return verb, str(texts[0]), str(texts[-1])
    return "", "", ""


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, with its full name."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _imported(node: ast.AST, names: Names) -> Iterator[str]:
    """Yield the full names that a node imports, also by `import_module("x")` and `__import__("x")`."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module)):
            yield from (f"{module}.{alias.name}" for alias in node.names)
        case ast.Call(args=[ast.Constant(value=str(name)), *_]):
            if names.dotted(node.func) in {"importlib.import_module", "__import__"}:
                yield name


def _unlocked(modules: set[str], lock: bytes) -> dict[str, str]:
    """Return a description for each of `modules` that no distribution pinned in `lock` provides."""
    foreign = modules - sys.stdlib_module_names - {"workbench"}
    if not foreign:
        return {}
    pinned = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?\s*==", lock.decode("utf-8", "replace"), re.MULTILINE)
    locked = {_normal(name) for name in pinned}
    brought_by = importlib.metadata.packages_distributions()
    descriptions = {}
    for module in foreign:
        distributions = sorted({_normal(name) for name in brought_by.get(module, ())})
        if not distributions:
            descriptions[module] = f"imports `{module}`, which no installed distribution brings"
        elif not locked.intersection(distributions):
            descriptions[module] = f"imports `{module}` of {distributions[0]}, which is not in the lock"
    return descriptions


def _normal(name: str) -> str:
    """Return a distribution's name, normalized by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _in_code(nodes: _Nodes, names: Names, unlocked: Mapping[str, str]) -> Iterator[Found]:
    for line, node in nodes:
        for name in _imported(node, names):
            module, way = _way_through(name)
            if way:
                yield line, f"imports `{module}`, a way around the boundary", way + _EXPLORE
            elif what := unlocked.get(name.partition(".")[0]):
                yield line, what, "name it in pyproject.toml and run `make lock`" + _EXPLORE
        called = names.dotted(node) if isinstance(node, ast.Attribute) else ""
        if _FUNCTIONS.fullmatch(called):
            yield line, f"`{called}`, a way around the boundary", _way_through(called)[1] + _EXPLORE
        for what, way in (*_commands(node), *in_node(node, names)):
            yield line, what, way + _EXPLORE


def _way_through(name: str) -> tuple[str, str]:
    """Return the part of `name` that bypasses the boundary and the governed alternative, or ""."""
    if _FUNCTIONS.fullmatch(name):
        return name, _NETWORK if "connection" in name else _PROGRAM
    while name and name not in _AROUND:
        name = name.rpartition(".")[0]
    return name, _AROUND.get(name, "")


def _commands(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield shell lines, magics that start programs or other files, and tables read from a URL."""
    verb, name, _ = _magic(node)
    if verb in {"system", "getoutput"}:
        yield "a shell line (`!`)", _PROGRAM
    elif _SHELLS.fullmatch(name):
        yield f"the magic `%{name}`, which starts a program", _PROGRAM
    elif name == "run":
        yield "the magic `%run`, which runs a file that is not frozen", "put its code into a module"
    match node:
        case ast.Call(func=ast.Attribute(attr=verb), args=[ast.Constant(value=str(address)), *_]):
            if re.match(r"(?:read|scan|write|sink)_", verb) and _REMOTE.match(address):
                yield f"`{verb}` of an address, a way around the boundary", "let `inputs` bring the data"


def _in_copy(path: Path, known: set[str]) -> Iterator[ScreeningFinding]:
    for number, cell in enumerate(notebooks.read(path)["cells"], start=1):
        place = f"executed copy, cell {number}"
        source = _text(cell["source"])
        if source not in known:
            yield from (_finding(place, *found) for found in in_text(source.split("\n")))
        for index, output in enumerate(cell.get("outputs", ()), start=1):
            first: dict[str, ScreeningFinding] = {}  # one value is often shown as text and as HTML
            for text in _shown(output):
                for line, what, fix in in_text(text.splitlines()):
                    advice = f"print less in this cell; {fix}"
                    first.setdefault(what, _finding(f"{place}, output {index}", line, what, advice))
            yield from first.values()


def _shown(output: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of an output, one per MIME type; images, audio and video are skipped."""
    for mime, value in {"text/plain": output.get("text", ""), **output.get("data", {})}.items():
        if not mime.startswith(("image/", "audio/", "video/")):
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", _text(value))  # colours
            yield html.unescape(text) if mime == "text/html" else text
    yield _text([str(output.get("evalue", "")), *output.get("traceback", ())])


def _text(value: Any) -> str:
    """Return a notebook's text, which may be stored as a list of lines; other values as JSON."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
