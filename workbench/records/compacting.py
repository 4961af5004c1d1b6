"""Compact a log of calls in a process of its own: `python -m workbench.records.compacting PATH`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workbench.records.segments import compact


def main(path: str) -> None:
    """Compact the closed segments of the log at `path`, after whatever else this machine does."""
    os.nice(10)
    compact(Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
