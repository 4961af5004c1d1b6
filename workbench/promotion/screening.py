"""What a frozen notebook may not hold: secrets, personal data, local paths, calls around the boundary.

A finding refuses a promotion, so each pattern is narrow: it would rather miss than cry wolf. It says
kind and place and never repeats the value. For calls that no text shows there is a second net, the
audit hook in the clean run's kernel (`workbench.connections`).
"""

from __future__ import annotations

import ast
import contextlib
import html
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench import notebooks
from workbench.promotion import inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that may not be frozen: `where` it is, `what` it is, how to `mend` it."""

    where: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n  -> {self.mend}"


#: A line, counted from 1, what is found in it, and how to mend it.
_Found = tuple[int, str, str]
#: What it finds, how to mend it, its form, and whether a match of that form counts.
_Pattern = tuple[str, str, re.Pattern[str], Callable[[re.Match[str]], bool]]
#: The nodes of a cell's syntax tree, each with its line in the cell as written.
_Nodes = list[tuple[int, ast.AST]]


def screen(notebook: inspection.Notebook, *, lock: bytes, executed: Path | None = None) -> list[Finding]:
    """All that keeps a notebook from being frozen, in the order of its cells; [] when nothing does.

    Cells tagged `explore` are not frozen and not looked at. Of the `executed` copy every source and
    every output is: papermill writes parameters into it.
    """
    frozen = [(n, source) for n, source, tags in notebook.cells if inspection.EXPLORE_TAG not in tags]
    code = [list(_nodes(source)) for _, source in frozen]
    names = {name: origin for nodes in code for _, node in nodes for name, origin in _bound(node)}
    imported = {name for nodes in code for _, node in nodes for name in _imported(node, names)}
    unlocked = _unlocked({name.partition(".")[0] for name in imported if not _way_through(name)[1]}, lock)
    findings = []
    for (number, source), nodes in zip(frozen, code, strict=True):
        found = [*_in_text(_lines(source, nodes)), *_in_code(nodes, names, unlocked)]
        findings += [_finding(f"cell {number}", *one) for one in sorted(found)]
    if executed is not None:
        findings += _in_copy(executed, known={source for _, source in frozen})
    return list(dict.fromkeys(findings))


def _finding(place: str, line: int, what: str, mend: str) -> Finding:
    return Finding(where=f"{place}, line {line}", what=what, mend=mend)


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(doubled) + sum(int(d) for d in digits[::-2])) % 10 == 0


#: Lengths and first digits that issuers use. Longer numbers count only in groups of four, as printed
#: on a card: 19 digits in a row are a 64-bit number.
_ISSUED: Final = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}"
)
_GROUPED: Final = re.compile(
    r"\d{14,16}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5}"
)


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"[ -]", "", match[0])
    return bool(_GROUPED.fullmatch(match[0]) and _ISSUED.fullmatch(digits)) and _luhn(digits)


_IBAN_LENGTHS: Final = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}


def _is_iban(match: re.Match[str]) -> bool:
    written = match[0].replace(" ", "")
    length = _IBAN_LENGTHS.get(written[:2], len(written) + 1)
    if len(written) < length or (len(written) > length and " " not in match[0]):
        return False
    number = written[4:length] + written[:4]
    return int("".join(str(int(sign, 36)) for sign in number)) % 97 == 1


_FILE: Final = re.compile(r"css|csv|gif|html|ipynb|jpg|js|json|parquet|png|prompty|svg|txt|webp|ya?ml")


def _is_somebodys(match: re.Match[str]) -> bool:
    """Whether an address is a person's: none that the standards reserve, no `icon@2x.png`, no `git@host`."""
    labels = match["domain"].lower().split(".")
    reserved = "example" in labels or labels[-1] in {"invalid", "test", "localhost"}
    return not (reserved or _FILE.fullmatch(labels[-1]) or match["local"] == "git")


def _is_phone(match: re.Match[str]) -> bool:
    number = match[0].partition("  ")[0]  # two spaces: the next column
    groups = re.findall(r"\d+", number)
    digits = sum(map(len, groups))
    if re.search(r"\d{4}-\d\d-\d\d", number) or not all(len(g) > 1 or g == "0" for g in groups[1:]):
        return False
    return 9 <= digits <= 15 if len(groups) > 1 else 11 <= digits <= 14


def _is_secret(match: re.Match[str]) -> bool:
    """Whether a value is a real one: a password of any form, of the rest what nobody types by heart."""
    value = match["value"]
    if re.match(r"[<{$%]|[\W_xX]+$|[A-Z]+(?:_[A-Z0-9]+)+$|(?i:your|change|todo|dummy|redacted)", value):
        return False
    long = len(value) >= 12 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return bool(long) or "pass" in match["name"].lower()


_REVOKE: Final = "take it out and revoke it; a model card's `api_key` names the variable that holds a key"
_SYNTHETIC: Final = "take it out; for a sample use a made-up one, such as ada@example.org"
_RELATIVE: Final = "name it relative to the repository, or make it a parameter"


def _pattern(what: str, mend: str, *parts: str, holds: Callable[[re.Match[str]], bool] = bool) -> _Pattern:
    return what, mend, re.compile("".join(parts)), holds


#: What may not stand in a line. A table of its own and not the tape's: promotion sees no control, and
#: a recording is looked through for keys alone. Repetitions are bounded, because an output's line may
#: be megabytes long.
_PATTERNS: Final = (
    _pattern("an AWS access key", _REVOKE, r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    _pattern("a GitHub token", _REVOKE, r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})"),
    _pattern("a model provider's key", _REVOKE, r"(?<![\w-])sk-(?!ssh-|ecdsa-)(?=[\w-]{0,99}\d)[\w-]{20}"),
    _pattern("a provider's token", _REVOKE, r"\b(?:hf_[A-Za-z0-9]{34}|AIza[\w-]{35}|xox[abprs]-[\w-]{20})"),
    _pattern("a JSON web token", _REVOKE, r"\beyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{8}"),
    _pattern("a private key", _REVOKE, r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY"),
    _pattern("a bearer token", _REVOKE, r"\bBearer\s{1,9}(?=\S{0,99}\d)[\w.~+/-]{20}"),
    _pattern(
        "a password in an address",
        _REVOKE,
        r"(?<![\w+.-])[A-Za-z][\w+.-]{1,20}://[^\s:/@{}<>$*]{0,64}:[^\s:/@{}<>$*]{1,64}@",
    ),
    _pattern(
        "a password, key or token written out",
        _REVOKE,
        r"(?<![\w-])(?P<name>[\w-]{0,60}(?i:password|passwd|passphrase|secret|token|credentials?",
        r"|(?:api|access|private|secret|account)[_-]?key))[\"']?\]?\s{0,9}(?::\s{0,9}[\w.| ]{1,40})?",
        r"[:=]\s{0,9}[rbuRBU]{0,2}[\"'](?P<value>[^\"'\s]{4,200})[\"']",
        holds=_is_secret,
    ),
    _pattern(
        "an e-mail address",
        _SYNTHETIC,
        r"(?<![\w.+%-])(?P<local>[A-Za-z0-9][\w.+%-]{0,63})@",
        r"(?P<domain>(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24})(?![\w@-]|\.\w)",
        holds=_is_somebodys,
    ),
    _pattern(
        "an IBAN", _SYNTHETIC, r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![a-z])", holds=_is_iban
    ),
    _pattern(
        "a payment card's number",
        _SYNTHETIC,
        r"(?<![\w.,+/-])(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d| \d)",
        holds=_is_card,
    ),
    _pattern(
        "a telephone number",
        _SYNTHETIC,
        r"(?<![\w+.-])\+(?:1(?=\D?\D?[2-9])|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]",
        r"|(?:2[1-69]|3[578]|42|5[09]|6[78]|8[0578]|9[679])\d)[\d ()/-]{6,20}(?<=\d)(?![\w.,]?\d)",
        holds=_is_phone,
    ),
    _pattern(
        "a path of one machine",
        _RELATIVE,
        r"(?<![\w./~}\])<+*-])(?:file://)?/(?:(?:home|Users)/[\w.-]|(?:root|work|tmp|mnt|workspaces?",
        r"|Volumes|private/(?:tmp|var)|var/(?:folders|tmp))(?![\w-]))",
        r"|(?<!\w)[A-Za-z]:[\\/]{1,2}(?:Users|Windows|ProgramData|Temp)(?!\w)",
    ),
)


def _in_text(lines: Iterable[str]) -> Iterator[_Found]:
    for number, line in enumerate(lines, start=1):
        for what, mend, pattern, holds in _PATTERNS:
            if any(holds(match) for match in pattern.finditer(line)):
                yield number, what, mend


def _lines(source: str, nodes: _Nodes) -> list[str]:
    """A cell's lines, where a matrix product (`a@b.mT`) does not look like an address."""
    lines = source.split("\n")
    for line, node in nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            for at in range(line - 1, line + (node.end_lineno or 0) - node.lineno):
                lines[at] = lines[at].replace("@", " ")
    return lines


_NETWORK: Final = "use `ws.model()`, `ws.openai()` or `ws.memory()`"
_PROGRAM: Final = "do it in Python: a job starts no other program"
#: Modules that lead around the boundary, and the way through it.
_AROUND: Final[Mapping[str, str]] = {
    module: way
    for way, modules in {
        "use `ws.openai()`, an ordinary client": "openai",
        "use `ws.model()`": "anthropic azure.ai cohere google.genai google.generativeai groq huggingface_hub "
        "litellm llama_cpp mistralai ollama replicate together vertexai voyageai xllamacpp",
        "use `ws.memory()`": "chromadb lancedb pinecone pymilvus qdrant_client weaviate",
        _NETWORK: "aiohttp boto3 botocore ftplib grpc http.client httpx httpx2 imaplib paramiko poplib "
        "pycurl requests smtplib socket ssl telnetlib urllib.request urllib3 websocket websockets "
        "xmlrpc.client workbench.boundary workbench.connections workbench.controls workbench.memory "
        "workbench.models",
        _PROGRAM: "pexpect pty subprocess",
    }.items()
    for module in modules.split()
}
_FUNCTIONS: Final = re.compile(
    r"os\.(?:system|popen|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?)"
    r"|asyncio\.(?:create_subprocess_(?:exec|shell)|open_connection|open_unix_connection)"
)
_SHELLS: Final = re.compile(r"!|bash|cmd|conda|mamba|perl|pip|pypy|python[23]?|ruby|script|sh|sx|system|uv")
_TIMERS: Final = frozenset({"capture", "prun", "time", "timeit"})
_REMOTE: Final = re.compile(r"(?!file:)[A-Za-z][\w+.-]*://")
_EXPLORE: Final = ", or tag the cell `explore`"


def _nodes(source: str, before: int = 0) -> Iterator[tuple[int, ast.AST]]:
    """Every node of a cell with its line, those of the Python inside `%%time` and its like too."""
    python = inspection.plain(source)
    if python != source:  # IPython drops empty lines at the top
        before += len(source[: len(source) - len(source.lstrip())].split("\n")) - 1
    for node in ast.walk(ast.parse(python)):
        line = before + getattr(node, "lineno", 0)
        yield line, node
        verb, name, body = _magic(node)
        if name in _TIMERS:
            with contextlib.suppress(SyntaxError):  # the magic's own options; the audit hook remains
                yield from _nodes(body, line if verb == "run_cell_magic" else line - 1)


def _magic(node: ast.AST) -> tuple[str, str, str]:
    """IPython's verb, the magic's name and its text, when `node` is what a magic line stands for."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=verb)):
            texts = [arg.value if isinstance(arg, ast.Constant) else "" for arg in node.args] or [""]
            return verb, str(texts[0]), str(texts[-1])
    return "", "", ""


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that an import binds, each with what it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    """What a name or an attribute stands for, `import os as o` seen through; "" for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value, names)):
        return f"{owner}.{node.attr}"
    return ""


def _imported(node: ast.AST, names: Mapping[str, str]) -> Iterator[str]:
    """What a node imports, by full names; `import_module("x")` and `__import__("x")` import too."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module)):
            yield from (f"{module}.{alias.name}" for alias in node.names)
        case ast.Call(args=[ast.Constant(value=str(name)), *_]):
            if _dotted(node.func, names) in {"importlib.import_module", "__import__"}:
                yield name


def _unlocked(modules: set[str], lock: bytes) -> dict[str, str]:
    """What to say of each of `modules` that no distribution pinned in `lock` brings."""
    foreign = modules - sys.stdlib_module_names - {"workbench"}
    if not foreign:
        return {}
    pinned = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?\s*==", lock.decode("utf-8", "replace"), re.MULTILINE)
    locked = {_normal(name) for name in pinned}
    brought_by = importlib.metadata.packages_distributions()
    said = {}
    for module in foreign:
        distributions = sorted({_normal(name) for name in brought_by.get(module, ())})
        if not distributions:
            said[module] = f"imports `{module}`, which no installed distribution brings"
        elif not locked.intersection(distributions):
            said[module] = f"imports `{module}` of {distributions[0]}, which is not in the lock"
    return said


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _in_code(nodes: _Nodes, names: Mapping[str, str], unlocked: Mapping[str, str]) -> Iterator[_Found]:
    for line, node in nodes:
        for name in _imported(node, names):
            module, way = _way_through(name)
            if way:
                yield line, f"imports `{module}`, a way around the boundary", way + _EXPLORE
            elif said := unlocked.get(name.partition(".")[0]):
                yield line, said, "name it in pyproject.toml and run `make lock`" + _EXPLORE
        called = _dotted(node, names) if isinstance(node, ast.Attribute) else ""
        if _FUNCTIONS.fullmatch(called):
            yield line, f"`{called}`, a way around the boundary", _way_through(called)[1] + _EXPLORE
        yield from ((line, what, way + _EXPLORE) for what, way in _commands(node))


def _way_through(name: str) -> tuple[str, str]:
    """The part of `name` that leads around the boundary, and the governed way; "" when none does."""
    if _FUNCTIONS.fullmatch(name):
        return name, _NETWORK if "connection" in name else _PROGRAM
    while name and name not in _AROUND:
        name = name.rpartition(".")[0]
    return name, _AROUND.get(name, "")


def _commands(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Shell lines, magics that start programs or unread files, and tables read from an address."""
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


def _in_copy(path: Path, known: set[str]) -> Iterator[Finding]:
    for number, cell in enumerate(notebooks.read(path)["cells"], start=1):
        place = f"executed copy, cell {number}"
        source = _text(cell["source"])
        if source not in known:
            yield from (_finding(place, *found) for found in _in_text(source.split("\n")))
        for index, output in enumerate(cell.get("outputs", ()), start=1):
            first: dict[str, Finding] = {}  # one value is often shown as text and as HTML
            for text in _shown(output):
                for line, what, mend in _in_text(text.splitlines()):
                    said = f"print less in this cell; {mend}"
                    first.setdefault(what, _finding(f"{place}, output {index}", line, what, said))
            yield from first.values()


def _shown(output: Mapping[str, Any]) -> Iterator[str]:
    """An output's texts, each form of it; pictures and sound are not read."""
    for mime, value in {"text/plain": output.get("text", ""), **output.get("data", {})}.items():
        if not mime.startswith(("image/", "audio/", "video/")):
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", _text(value))  # colours
            yield html.unescape(text) if mime == "text/html" else text
    yield _text([str(output.get("evalue", "")), *output.get("traceback", ())])


def _text(value: Any) -> str:
    """A notebook's text, which may be stored as a list of lines; other JSON as it is written."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
