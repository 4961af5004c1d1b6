"""The former address of `workbench.pipeline.stages`, which dvc.yaml files of older commits name."""

import sys

from workbench.pipeline.stages import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
