"""Check that notebooks are stored in canonical form, and store them in it.

python -m workbench.notebooks.stored [--write] FILE_OR_FOLDER...
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from workbench import config
from workbench.errors import NotFoundError
from workbench.files import read_bytes, write_atomic
from workbench.notebooks import canonical as notebooks
from workbench.notebooks import outputs


def stored_otherwise(places: Iterable[Path]) -> list[Path]:
    """Return the notebooks among `places` (files, or folders with subfolders) not stored canonically."""
    found: set[Path] = set()
    for place in places:
        found.update(place.rglob("*.ipynb") if place.is_dir() else [place])
    kept = sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)
    return [path for path in kept if notebooks.as_text(notebooks.read(path)).encode() != read_bytes(path)]


def store(path: Path) -> None:
    """Store a notebook canonically; in a repository its outputs are kept for the Lab."""
    notebook = notebooks.read(path)
    try:
        kept = outputs.kept_of(config.find_root(path.parent), path)
    except NotFoundError:
        kept = None
    if kept is not None:
        kept.keep(notebook, stored=path)
    write_atomic(path, notebooks.as_text(notebook).encode())


def main(arguments: Sequence[str]) -> int:
    """List the notebooks not stored canonically; with `--write`, store them canonically."""
    write = "--write" in arguments
    changed = stored_otherwise(Path(name) for name in arguments if name != "--write")
    for path in changed:
        if write:
            store(path)
        print(path, "is stored canonically now" if write else "is not stored canonically")
    if changed and not write:
        print("  -> python -m workbench.notebooks.stored --write", *changed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
