"""The former address of `workbench.notebooks.stored`: `python -m workbench.notebooks PATH…`."""

import sys

from workbench.notebooks.stored import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
