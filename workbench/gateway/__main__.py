"""One worker as a program, started by `supervisor`: `python -m workbench.gateway …`."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

import orjson

from workbench import files
from workbench.config import GatewaySettings
from workbench.gateway.access_log import AccessLog
from workbench.gateway.server import serve


def main(root: str, listener: str, ready: str, settings: str) -> None:
    """Serve the inherited socket `listener`; write a byte to the pipe `ready` once it accepts."""

    def tell() -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody waits for a worker that replaces another
            os.write(int(ready), b"1")
        os.close(int(ready))

    found = files.parse(GatewaySettings, orjson.loads(settings), where="settings")
    serve(
        Path(root), socket.socket(fileno=int(listener)), found, mode=found.mode, log=AccessLog(), ready=tell
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
