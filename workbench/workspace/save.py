"""Saving by hand: a file that somebody wrote becomes the next version of a prompt, a memory or a model.

It stands already where a version's file stands, `pipelines/prompts/<name>/<next number>.prompty` for
one; until `asset.yaml` names it, it is nobody's version and may change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from workbench import files, registry, retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.models import read_card
from workbench.promotion.release import parse
from workbench.prompts import prompt as prompts
from workbench.registry import Version
from workbench.repository.git import Repository

#: How each kind is read, as strictly as when it is used. A job's versions are made by `promote`.
_READ: Mapping[str, Callable[[Version], object]] = {
    "prompt": prompts.read,
    "memory": retrieval.read_spec,
    "model": read_card,
}


def save(root: Path, reference: str, *, reason: str = "") -> Version:
    """Make the next file of `prompt/NAME`, `memory/NAME` or `model/NAME` a version, which never changes.

    A prompt says in its own file why it was made; the others need a `reason`. A file that could not
    be used is a ConfigError, and nothing is saved.
    """
    kind, ref = parse(reference)
    if kind not in _READ:
        hint = f"workbench promote {kind}/{ref.name}"
        raise ConfigError(f"a {kind} is frozen from its notebook, and not saved", hint=hint)
    if ref.version is not None or ref.label is not None:
        hint = f"workbench save {kind}/{ref.name}"
        raise ConfigError(f"{reference!r}: what is saved gets the next number by itself", hint=hint)
    newest = max(registry.load_or_new(root, kind, ref.name).versions, default=0)
    draft = _draft(root, kind, ref.name, newest + 1)
    read, parent = _READ[kind](draft), newest or None
    if isinstance(read, prompts.Prompt):
        reason, parent = reason or read.header.reason, read.header.parent
    if not reason.strip():
        hint = f'workbench save {kind}/{ref.name} --reason "why it is better"'
        raise ConfigError("a new version needs a reason", hint=hint)
    return registry.save_version(
        root, kind, ref.name, files.read_bytes(draft.path),
        author=Repository(root=root).author(), reason=reason, parent=parent,
    )  # fmt: skip


def _draft(root: Path, kind: str, name: str, number: int) -> Version:
    """The file as the version it would be."""
    path = registry.path_of(root, kind, name, number)
    here = path.relative_to(root)
    if not path.is_file():
        mend = "write it first: docs/promote-a-notebook.md has one"
        if number > 1:
            mend = f"cp {here.with_stem(str(number - 1))} {here}, and change that"
        raise NotFoundError(f"there is no file {here} to save", hint=mend)
    return Version(
        kind=kind, name=name, number=number, path=path, digest=files.digest(files.read_bytes(path))
    )
