"""A card with a price for the model of a test's endpoint, because a job states what it costs."""

from __future__ import annotations

import re
from pathlib import Path

from workbench import files
from workbench.workspace.save import save

CARD = """\
name: served
provider: openai
model: served
kind: chat
purpose: Tests.
licence: none
region: here
limits: {{context_tokens: 4096}}
price_per_million: {{input_usd: 0}}
base_url: {url}
defaults: {{temperature: 0}}
"""
_ELSEWHERE = re.compile(r"model: \S+\n\s+provider: openai\n\s+base_url: \S+\n")


def priced_card(root: Path, url: str) -> None:
    """Save the card `served`, whose model is at `url`."""
    files.write_atomic(root / "pipelines/models/served/1.yaml", CARD.format(url=url).encode())
    save(root, "model/served", reason="a test")


def asks_priced_card(root: Path, use_case: str) -> None:
    """Let a use case that names an endpoint in params.yaml ask the card instead."""
    params = root / "params.yaml"
    before, name, rest = params.read_text().partition(f"\n  {use_case}:\n")
    after, count = _ELSEWHERE.subn("model: served\n", rest, count=1)
    assert name and count
    params.write_text(before + name + after)
