"""Check tapes, snapshots, free disk space and leftovers of killed processes."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench import layout
from workbench.config import UseCase
from workbench.diagnostics.findings import Finding
from workbench.files import is_aside
from workbench.layout import Results

_GIB = 1 << 30
_LEAST = 1 * _GIB
_ROOMS = ("data", "notebooks", "pipelines", "results", "reports", "published", ".workbench")
#: Large folders, which their own writers clean.
_NOT_INTO = {"env", "weaviate-server", "__pycache__"}
#: Seconds after which a temporary file has no living writer.
_OLD_S = 60.0


def recordings(root: Path, cases: Mapping[str, UseCase]) -> Iterator[Finding]:
    """Check each use case's tape and the snapshot of its memory."""
    for name, case in cases.items():
        for tape in (layout.judge_tape_of(name), layout.tape_of(name)):
            yield _file(f"tape {tape.name}", root, tape, needed=True)
        manifest = Results(use_case=name).memory / "manifest.json"
        yield _file(f"snapshot of {name}", root, manifest, needed=case.memory_fallback is not None)


def _file(what: str, root: Path, path: Path, *, needed: bool) -> Finding:
    if (root / path).is_file():
        return Finding(what=what, state="ok", detail=str(path), needed=needed)
    return Finding(what=what, state="missing", detail=f"there is no {path}", fix="make repro", needed=needed)


def room(root: Path) -> Finding:
    """Check the disk's free space; a Weaviate server stops writing long before the disk is full."""
    usage = shutil.disk_usage(root)
    share = usage.used / (usage.used + usage.free)
    detail = f"{usage.free / _GIB:.1f} GiB free, {share:.0%} used"
    fix = "du -xh -d 2 .workbench .dvc | sort -h | tail   # what may go is in docs/weaviate.md"
    if usage.free < _LEAST:
        return Finding(what="disk", state="broken", detail=detail, fix=fix)
    if share >= 0.9:
        detail += "; a Weaviate server on this disk refuses writes from 90 % on"
        return Finding(what="disk", state="broken", detail=detail, fix=fix, needed=False)
    return Finding(what="disk", state="ok", detail=detail)


def leftovers(root: Path) -> Finding:
    """Check for temporary files of killed writers, which are harmless."""
    found = sorted(str(path.relative_to(root)) for path in _asides(root))
    if not found:
        return Finding(what="leftovers", state="ok", detail="none", needed=False)
    fix = "rm -r -- " + " ".join(map(shlex.quote, found[:5]))
    detail = f"{len(found)} temporary files of killed writers"
    return Finding(what="leftovers", state="broken", detail=detail, fix=fix, needed=False)


def _asides(root: Path) -> Iterator[Path]:
    before = time.time() - _OLD_S
    for path in root.iterdir():  # such as one of params.yaml
        if is_aside(path.name) and path.lstat().st_mtime < before:
            yield path
    for top in _ROOMS:
        for folder, folders, files in os.walk(root / top):
            here = Path(folder)
            for name in (*files, *folders):
                if is_aside(name) and (here / name).lstat().st_mtime < before:
                    yield here / name
            folders[:] = [name for name in folders if name not in _NOT_INTO and not is_aside(name)]
