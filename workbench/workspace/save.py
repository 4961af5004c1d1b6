"""Save a draft file as the next version of a prompt, a memory, a model or a generator.

The draft has the path of the next version, for example `pipelines/prompts/<name>/<number>.prompty`. It may
change until `asset.yaml` lists it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path

from workbench import files, registry, retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.models import read_card
from workbench.promotion.release import parse
from workbench.prompts import prompt as prompts
from workbench.registry import Version
from workbench.repository.git import Repository


def read_generator(version: Version) -> ast.Module:
    """Parse a generator's program without running it; raise ConfigError when it is no Python."""
    try:
        return ast.parse(files.read_bytes(version.path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ConfigError(
            f"{version.path}:{line}: the generator is no Python: {getattr(error, 'msg', error)}",
            hint=f"python -m py_compile {version.path}",
        ) from None


#: The strict reader of each kind. `promote` creates the versions of jobs.
_READ: Mapping[str, Callable[[Version], object]] = {
    "prompt": prompts.read,
    "memory": retrieval.read_spec,
    "model": read_card,
    "generator": read_generator,
}


def save(root: Path, reference: str, *, reason: str = "") -> Version:
    """Save the draft of `prompt/NAME`, `memory/NAME`, `model/NAME` or `generator/NAME` as its next version.

    A prompt's file states its reason; the other kinds need `reason`. Raises ConfigError for an invalid
    file or a missing reason and NotFoundError for a missing draft; nothing is saved then.
    """
    kind, ref = parse(reference)
    if kind not in _READ:
        hint = f"workbench promote {kind}/{ref.name}"
        raise ConfigError(f"a {kind} cannot be saved: promote freezes it from its notebook", hint=hint)
    if ref.version is not None or ref.label is not None:
        hint = f"workbench save {kind}/{ref.name}"
        raise ConfigError(
            f"{reference!r} names a version or a label, but a saved file gets the next number", hint=hint
        )
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
    """Return the draft as a version; raise NotFoundError if its file is missing."""
    path = registry.path_of(root, kind, name, number)
    relative = path.relative_to(root)
    if not path.is_file():
        hint = "write it first: docs/promote-a-notebook.md shows an example"
        if number > 1:
            hint = f"cp {relative.with_stem(str(number - 1))} {relative}, and edit the copy"
        raise NotFoundError(f"there is no file {relative} to save", hint=hint)
    return Version(
        kind=kind, name=name, number=number, path=path, digest=files.digest(files.read_bytes(path))
    )
