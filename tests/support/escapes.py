"""Ways out of a confinement, tried by the confined process itself.

`python escapes.py` tries every way of `WAYS` with the paths and ports of the variable ESCAPES (JSON), and
writes to its `results` for each way "open" or the error that refused it. It imports no part of the package.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import escape_ways
import escapes_by_calls
import escapes_by_files
from escape_ways import ARM, WAYS, fails

#: The files that a confined process needs to try the ways.
FILES = tuple(
    Path(str(each))
    for each in (__file__, *(m.__file__ for m in (escape_ways, escapes_by_calls, escapes_by_files)))
)
__all__ = ["ARM", "FILES", "WAYS"]


def main() -> None:
    context = type("Context", (), json.loads(os.environ["ESCAPES"]))
    results = {name: fails(lambda act=act: act(context)) or "open" for name, act in WAYS.items()}
    Path(context.results).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
