"""The use case that ships, sent to another endpoint by two lines of params.yaml and a key."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_same_use_case_runs_on_another_openai_compatible_endpoint(fresh_clone):
    """A real one: the embedded model's own server, reached as a stranger's would be, with a key.

    test_bad_input has an endpoint that refuses the connection.
    """
    code = """
import asyncio
from pathlib import Path
import workbench as wb
from workbench import _sync
from workbench.models import load_card, open_model

root = Path()
card = load_card(root, "smollm2-135m")
server = open_model(card, root)
hello = [{"role": "user", "content": "Say hello."}]
asked = {"model": card.model, "messages": hello, **card.wire_defaults(), "max_tokens": 1}

async def once():
    return [event async for event in server.chat(asked)]

_sync.run(once())
address = next(iter(server._pool.servers)).model.base_url
params = root / "params.yaml"
lines = f"    model: smollm2-135m\\n    provider: openai\\n    base_url: {address}\\n"
params.write_text(params.read_text().replace("    model: smollm2-135m\\n", lines, 1))
local = wb.connect("answers")
assert local.model().card.base_url == address
reply = local.model().chat("Say hello.")
said = local.openai().chat.completions.create(model="smollm2-135m", messages=hello, max_tokens=64)
same, outcomes = reply.text == said.choices[0].message.content, local.calls()["outcome"].to_list()
print("SAID", same, reply.cost_usd, outcomes)
local.close()
_sync.run(server.aclose())
"""
    said = fresh_clone.run("python", "-c", code, network=False, OPENAI_API_KEY="k-123")
    assert "SAID True None ['ok', 'ok']" in said
