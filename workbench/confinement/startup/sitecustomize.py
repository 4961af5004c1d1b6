"""Let a confined Python import from folders that it may not list.

Python looks a module up in the list of its folder. Landlock cannot allow the list of a repository's folder
without those of all folders below it, so a confined process may not list it, though it may read its code.
The import system then asks for each file by name. Python imports this file when it starts, by PYTHONPATH.
"""

from __future__ import annotations

import os
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
