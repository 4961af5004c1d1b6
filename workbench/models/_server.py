"""The child process of `local.py`: a llama.cpp server that ends with its parent.

Run as a script with one JSON argument; writes its address to stdout when it is ready.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any


def main(settings: dict[str, Any]) -> None:
    """Serve until standard input closes, at the latest when the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts
    if sys.platform == "linux":  # for a parent whose forks hold the pipe open as well
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["model"]}
    params.n_ctx, params.n_parallel = settings["n_ctx"], settings["n_parallel"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["n_threads"]
    params.cache_prompt, params.cache_ram_mib = settings["cache_prompt"], 0
    params.cache_idle_slots = False  # needs a prompt cache in memory
    params.hostnames, params.port, params.cors_origins = ["127.0.0.1"], settings["port"], ""
    params.ui, params.verbosity = False, 2
    params.embedding = settings["embedding"]
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(str(error))  # llama.cpp has logged the reason
    sys.stdout.write(server.listening_address + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # at once: a running request has no reader left


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
