"""Check the kinds of detections that the classes of data of a repository name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench import config, prompts, registry
from workbench.errors import WorkbenchError, nearest
from workbench.privacy import lexicon
from workbench.privacy.detection import KINDS


def unknown_kinds(root: Path, params: config.Params) -> Iterator[tuple[str, str]]:
    """Yield the key and the problem of each kind in `data_classes` that nothing finds or declares."""
    if not any(entry.kinds for entry in params.data_classes.values()):
        return
    known = {*KINDS, *_of_lexicon(root, params), *_of_prompts(root)}
    for name, entry in params.data_classes.items():
        for kind in entry.kinds:
            if kind not in known:
                problem = (
                    f"nothing finds or declares the kind {kind!r} ({nearest(kind, known)})\n  -> correct it "
                    f"in params.yaml, or declare it: a line [{kind}] in the list of privacy.lexicon, or "
                    f"kind: {kind} of a prompt's input"
                )
                yield f"data_classes.{name}.kinds", problem


def _of_lexicon(root: Path, params: config.Params) -> set[str]:
    if params.privacy.lexicon is None:
        return set()
    try:
        return set(lexicon.read(root / params.privacy.lexicon).values())
    except WorkbenchError:
        return set()  # the detector of a use case reports it


def _of_prompts(root: Path) -> set[str]:
    """Return the kinds of inputs of all versions of the prompts that can be read."""
    found: set[str] = set()
    for name in registry.names(root, "prompt"):
        try:
            for number in registry.load(root, "prompt", name).versions:
                header = prompts.load(root, f"{name}@{number}", author="check").header
                found |= {declared.kind for declared in header.inputs.values() if declared.kind}
        except WorkbenchError:
            continue  # the check of the prompt reports it
    return found
