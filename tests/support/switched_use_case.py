"""The small use case with its memory switched to a server, as its owner does it: by lines of params.yaml."""

from __future__ import annotations

import re
import socket

import pytest
from small_use_case import ROOT, page, small_repository, write

from workbench import registry

#: Its pages, a little more than the small use case has: one of them is about a person.
ANN = "Ann Berg may always take a taxi, because of her knee."


def switched_repository(folder, *, memory, server=None, spec="", **model):
    """A small repository whose memory is called `memory`; on `server` when there is one.

    Each memory of a shared server needs a name of its own: it is written under the repository's own key.
    """
    root = small_repository(folder, **model)
    write(root, "data/small/acme/ann.md", page("ann", ANN).replace("owner:", "subject: ann\nowner:"))
    text = (ROOT / "pipelines/memories/handbook/2.yaml").read_text().replace("data/handbook", "data/small")
    registry.save_version(
        root, "memory", memory, f"{text}{spec}".encode(), author="t", reason="other", parent=None
    )
    replaced(root / "params.yaml", "{name: small, version: 1}", f"{{name: {memory}, version: 1}}")
    if server is not None:
        switch(root, server)
    return root


def switch(root, server, **more):
    """Move the use case's memory to a server: the two lines, and `more` of them."""
    lines = {
        "memory_provider": "weaviate",
        "memory_url": server.address.url,
        "memory_grpc": f"127.0.0.1:{server.grpc_port}",
    }
    if server.api_key_env:
        lines["memory_api_key_env"] = server.api_key_env
    text = "".join(f"    {name}: {value}\n" for name, value in {**lines, **more}.items())
    kept = [line for line in (root / "params.yaml").read_text().splitlines() if "    memory_" not in line]
    text, switched = re.subn(r"(?m)^    gates:", f"{text}    gates:", "\n".join(kept))
    assert switched == 1, "params.yaml has one use case"
    (root / "params.yaml").write_text(text + "\n")


def replaced(path, before, after):
    """Replace what stands in a file."""
    text = path.read_text()
    assert before in text, f"{before!r} is not in {path.name}"
    path.write_text(text.replace(before, after))


class Nobody:
    """A server that is away: nothing listens at its ports."""

    api_key_env = None

    def __init__(self):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            self.http_port, self.grpc_port = one.getsockname()[1], two.getsockname()[1]

    @property
    def address(self):
        from workbench.memory.weaviate import Address

        return Address(url=f"http://127.0.0.1:{self.http_port}", grpc_port=self.grpc_port)


def needs_a_server():
    """Skip where there is no server to start."""
    from workbench.memory.weaviate.local_server import find_binary

    if find_binary() is None:
        pytest.skip("there is no weaviate-server; to get one: make weaviate")
