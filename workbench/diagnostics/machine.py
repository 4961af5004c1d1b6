"""Check this machine's interpreter, environment, programs, weights and runtimes."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from workbench import config, files, retrieval
from workbench.config import UseCase
from workbench.diagnostics.findings import Finding, tried
from workbench.errors import WorkbenchError
from workbench.jobs import versions
from workbench.layout import CACHE, LOCK
from workbench.memory.weaviate import local_server
from workbench.models import ModelCard, load_card, weights
from workbench.repository import environments
from workbench.workspace import boundary, provider_keys

#: The first version of Go that downloads the newer version a server's module requires.
GO = "1.21"


def environment(root: Path) -> Iterator[Finding]:
    """Check the interpreter's version and compare the installed packages with the lock."""
    version = sys.version.split(maxsplit=1)[0]
    state, fix = ("ok", "") if sys.version_info >= (3, 11) else ("broken", "make repro PYTHON=python3.12")
    yield Finding(what="python", state=state, detail=version, fix=fix)  # type: ignore[arg-type]
    yield _lock(root)
    yield _dvc()


def _dvc() -> Finding:
    try:
        return Finding(what="dvc", state="ok", detail=importlib.metadata.version("dvc"))
    except importlib.metadata.PackageNotFoundError:
        return Finding(what="dvc", state="missing", detail="not in this environment", fix="make env")


def _lock(root: Path) -> Finding:
    what = "locked environment"
    stamp = Path(sys.prefix) / environments.STAMP
    try:
        wanted = files.read_bytes(root / LOCK)
    except OSError:
        return Finding(
            what=what,
            state="missing",
            detail="there is no locks/workbench.lock",
            fix="git checkout -- locks",
        )
    if not stamp.is_file():
        detail = "this environment was not installed by make: its versions may differ from the lock"
        return Finding(what=what, state="missing", detail=detail, fix="make env", needed=False)
    if stamp.read_bytes() != wanted:
        detail = "the environment was installed from another locks/workbench.lock"
        return Finding(what=what, state="broken", detail=detail, fix="make env")
    if detail := environments.difference(wanted.decode()):
        return Finding(what=what, state="broken", detail=detail, fix=environments.REINSTALL)
    return Finding(what=what, state="ok", detail=f"lock {environments.digest(wanted)}")


def jobs(root: Path) -> Iterator[Finding]:
    """Check the environment of each job version that a label points to."""
    try:
        labelled = versions.labelled(root)
    except WorkbenchError as error:
        fix = error.hint or "workbench check"
        yield Finding(what="jobs", state="broken", detail=error.message, fix=fix)
        return
    for spec in labelled:
        what = f"environment of {spec.reference}"
        if versions.has_environment(root, spec):
            yield Finding(what=what, state="ok", detail=f"lock {spec.digests['lock'][:16]}")
        else:
            install = f"workbench jobs install {spec.reference}"
            yield Finding(what=what, state="missing", detail="each of its runs fails", fix=install)


def programs(search: str | None = None) -> Iterator[Finding]:
    """Check git and the programs of tests and of a local server; `search` is a PATH."""
    wanted = [
        ("git", True, "apt-get install git"),
        ("chromium", False, "apt-get install chromium   # for the tests in a browser"),
    ]
    for name, needed, fix in wanted:
        found = shutil.which(name, path=search)
        yield (
            Finding(what=name, state="ok", detail=found, needed=needed)
            if found
            else Finding(what=name, state="missing", detail="not on the PATH", fix=fix, needed=needed)
        )
    yield _go(shutil.which("go", path=search))
    yield _weaviate(search)


def _go(found: str | None) -> Finding:
    if found is None:
        fix = f"install Go {GO} or later   # for make weaviate; docs/weaviate.md has the ways without it"
        return Finding(what="go", state="missing", detail="not on the PATH", fix=fix, needed=False)
    # Its VERSION file spares starting the program.
    told = Path(found).resolve().parent.parent / "VERSION"
    version = told.read_text(encoding="utf-8").split("\n", 1)[0] if told.is_file() else found
    return Finding(what="go", state="ok", detail=version, needed=False)


def _weaviate(search: str | None) -> Finding:
    """Check the binary that `make weaviate` starts."""
    what = "weaviate-server"
    named = {local_server.BINARY_VARIABLE: os.environ.get(local_server.BINARY_VARIABLE, "")}
    try:
        found = local_server.find_binary({**named, "PATH": search or os.defpath})
    except WorkbenchError as error:
        return Finding(what=what, state="broken", detail=error.message, fix=error.hint, needed=False)
    if found is None:
        fix = "make weaviate   # builds it with Go, once"
        return Finding(what=what, state="missing", detail="not built here", fix=fix, needed=False)
    return Finding(what=what, state="ok", detail=str(found), needed=False)


def models(root: Path, cases: Mapping[str, UseCase]) -> Iterator[Finding]:
    """Check the weights, runtime and key of every model that a use case names, each once."""
    for what, look in _models(root, cases).items():
        yield tried(what, look)


def _models(root: Path, cases: Mapping[str, UseCase]) -> dict[str, partial[str]]:
    looks: dict[str, partial[str]] = {}
    for name, case in cases.items():
        moved = case.provider or case.base_url or case.api_key_env
        of_case = f" of {name}" if moved else ""  # another use case may ask the card's own endpoint
        looks[f"model {case.model_name}{of_case}"] = partial(_chat, root, case)
        for fallback in case.model_choice.models:
            looks[f"model {fallback}"] = partial(_saved, root, fallback)
        if case.memory:
            looks[f"embedding of {case.memory}"] = partial(_embedding, root, str(case.memory))
    return looks


def _chat(root: Path, case: UseCase) -> str:
    return _runs(root, boundary.card_of_use_case(root, case))


def _saved(root: Path, reference: str) -> str:
    return _runs(root, load_card(root, reference))


def _embedding(root: Path, memory: str) -> str:
    return _runs(root, load_card(root, retrieval.load_spec(root, memory).embedding))


def _runs(root: Path, card: ModelCard) -> str:
    """Describe how a card's model runs; WorkbenchError for a missing key, weight or runtime."""
    if card.provider == "openai":
        variable = card.api_key or "OPENAI_API_KEY"
        known = {**os.environ, **provider_keys.stored(root)}
        config.secret(variable, needed_by=f"the model {card.name!r}", environment=known)
        return f"{card.base_url}, key from {variable}"
    for part in filter(None, (card.weights, card.tokenizer)):
        weights.find(part, cache=root / CACHE)
    if card.runtime is not None:
        weights.check_runtime(card.runtime)
        return f"weights by digest, {card.runtime.package} {card.runtime.version}"
    return "weights by digest"
