"""The former address of `workbench.notebooks.canonical`: `python -m workbench.notebooks PATH…`."""

import sys

from workbench.notebooks.canonical import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
