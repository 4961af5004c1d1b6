"""A use case whose calls a private gateway answers, and the provider that it asks."""

from __future__ import annotations

import asyncio
import json
import threading

from aiohttp import web

from workbench.testing import wire_answers

KEY, SECRET = "AUTO_TEST_KEY", "sk-test-4711-of-a-provider"
PARAMS = """\
gateway: auto
use_cases:
  answers:
    title: Questions
    purpose: To see who answers.
    owner: tests
    phase: mvp
    notebook: notebooks/answers.ipynb
    tenants: [acme, globex]
    groups: [everyone, staff]
    data: data/asking
    model: scripted
    provider: openai
    base_url: URL
    api_key_env: AUTO_TEST_KEY
    price_per_million: {input_usd: 1.0, output_usd: 2.0}
    report: reports/asking
    gates: {mvp: {cases: {min: 2}}, mlvp: {cases: {min: 2}}}
budgets:
  all: {usd: 100, calls: 1000000, per: [tenant]}
"""


class Provider:
    """An endpoint that keeps the keys it was asked with; a request with `wait` in it is held."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.held = threading.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        payload = await request.json()
        if "wait" in json.dumps(payload["messages"]):
            self.held.set()
            await asyncio.sleep(60)
        return web.json_response(wire_answers.whole("completions", payload, "an answer"))
