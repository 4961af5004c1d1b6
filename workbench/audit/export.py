"""Write the folder that an auditor is given, and remove what is older than its retention."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from workbench import files, locking
from workbench.audit.acts import Act, row_of_act
from workbench.audit.chain import Chain
from workbench.audit.lines import HEAD, Link, link_of, segments_of
from workbench.audit.reading import lines_in
from workbench.audit.signing import AuditPseudonyms, Signer
from workbench.errors import ConfigError
from workbench.identity import Principal

_README: Final = """# Audit log

`log/` holds the rows: one JSON object a line, each with the SHA-256 digest of its bytes and of the row
before. Names of people are keyed digests (`uid`); there is no content. Rows of the activity `checkpoint` sign
all rows before them with Ed25519. `checkpoint.jsonl` is the last of them: keep it apart from this folder.

Verify it on any machine with the workbench, and with the public key that its owner gave you on another way
than this folder (`public.pem` beside this file is for comparison):

    workbench audit verify log --public-key public.pem --checkpoint checkpoint.jsonl

Exit code 0: as it was written. 1: changed; the first bad row is named.
"""


def export(chain: Chain, target: Path) -> Path:
    """Sign the log, copy it to a new folder with instructions for an auditor, and return the folder.

    Raise ConfigError when the folder exists or the log is empty.
    """
    if target.exists():
        raise ConfigError(f"{target} exists already", hint=f"workbench audit export {target}-2")
    if not (chain.folder / HEAD).exists():
        raise ConfigError("there is no audit log here yet", hint="make a call first, then export")
    chain.checkpoint()
    aside = files.aside_of(target)
    with files.writing(target):
        try:
            files.make_folder(aside / "log")
            with locking.locked(chain.folder / HEAD):  # excludes writers
                for path in (*segments_of(chain.folder), chain.folder / HEAD):
                    shutil.copyfile(path, aside / "log" / path.name)
            files.write_atomic(aside / "README.md", _README.encode())
            files.write_atomic(aside / "public.pem", Signer.load(chain.keys).public_pem())
            files.write_atomic(aside / "checkpoint.jsonl", _last_checkpoint(aside / "log"))
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def purge(chain: Chain, before: dt.date, *, by: Principal) -> int:
    """Remove the segments of days before `before`, and return the number of their rows.

    A row of the log states where it begins from then on. The open segment stays.
    """
    if not (chain.folder / HEAD).exists():
        return 0
    found = segments_of(chain.folder)
    old = list(itertools.takewhile(lambda path: path.name[:10] < before.isoformat(), found[:-1]))
    if not old:
        return 0
    first, began = _first_link(found[len(old) :]), _first_link(found)
    if first is None or began is None:
        raise ConfigError(
            f"{chain.folder} has a damaged row at the beginning of a segment, so nothing was removed",
            hint=f"workbench audit verify {chain.folder} --public-key FILE",
        )
    facts = {"first": first.seq, "prev": first.prev, "rows": first.seq - began.seq}
    act = Act(activity="purge", principal=by, type="Audit", name=before.isoformat(), facts=facts)
    chain.append(row_of_act(act, AuditPseudonyms.load(chain.keys)), durable=True)
    chain.checkpoint()
    with files.writing(chain.folder):
        for path in old:
            path.unlink()
        files.sync_folder(chain.folder)
    return first.seq - began.seq


def _first_link(segments: Iterable[Path]) -> Link | None:
    """Return the place of the first row of some segments; None for a damaged one, and without rows."""
    line = next(itertools.chain.from_iterable(map(lines_in, segments)), b"")
    return link_of(line.rstrip(b"\n"))


def _last_checkpoint(folder: Path) -> bytes:
    """Return the last line that is a checkpoint, with its newline."""
    for path in reversed(segments_of(folder)):
        signed = [line for line in lines_in(path) if b'"activity":"checkpoint"' in line]
        if signed:
            return signed[-1]
    return b""
