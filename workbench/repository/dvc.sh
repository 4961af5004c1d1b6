#!/bin/sh
# The program .venv/bin/dvc: DVC, after a repair of the lock file that a killed DVC leaves. `make env` installs it.
''':'
exec "$(dirname "$0")/python" "$0" "$@"
'''
import contextlib
import gc
import sys

gc.set_threshold(200_000)  # a search for garbage after each 700 new objects takes a twentieth of the time

with contextlib.suppress(ImportError):  # an older commit may be checked out
    from workbench.repository.dvc import repair_here

    repair_here()

from dvc.cli import main

sys.exit(main())
