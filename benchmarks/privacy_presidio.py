"""What Presidio finds in texts: JSON lines in, JSON lines out.

It runs in the environment of `make presidio`. The first argument names the folder with the packages of the
workbench itself, which are found after Presidio's.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Answer each line, a text, with its findings and the seconds that they took."""
    sys.path.append(sys.argv[1])
    from workbench.privacy.presidio import PresidioDetector

    detector = PresidioDetector()
    for line in sys.stdin:
        text = json.loads(line)
        began = time.process_time()
        found = detector.find(text)
        took = time.process_time() - began
        print(json.dumps([took, [[each.start, each.end, each.kind] for each in found]]), flush=True)


if __name__ == "__main__":
    main()
