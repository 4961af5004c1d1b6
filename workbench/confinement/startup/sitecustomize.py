"""Let a confined Python import from folders that it may not list.

Python looks a module up in the list of its folder. Landlock cannot allow the list of a repository's folder
without those of all folders below it, so a confined process may not list it, though it may read its code.
The import system then asks for each file by name. Python imports this file when it starts, by PYTHONPATH.

A kernel of a confined process has no debugger either: nobody could attach one, and to import it takes a tenth
of the time until the kernel is up. A notebook may import `debugpy` itself.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import FileFinder
from typing import Any

_listed: Any = FileFinder._fill_cache  # type: ignore[attr-defined]  # noqa: SLF001


class _Anything(set[str]):
    """The names in a folder that cannot be listed: any may be there."""

    def __contains__(self, name: object) -> bool:
        return True


def _fill_cache(finder: Any) -> None:
    _listed(finder)
    try:
        os.listdir(finder.path or ".")  # noqa: PTH208  pathlib is not imported yet
    except PermissionError:
        finder._path_cache = finder._relaxed_path_cache = _Anything()  # noqa: SLF001
    except OSError:
        pass  # no such folder


FileFinder._fill_cache = _fill_cache  # type: ignore[attr-defined]  # noqa: SLF001


class _NoDebugger:
    """Hides `debugpy` from the module of ipykernel that asks whether it is there, while that is imported."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "debugpy":
            asking = getattr(sys.modules.get("ipykernel.debugger"), "__spec__", None)
            if getattr(asking, "_initializing", False):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, _NoDebugger)
