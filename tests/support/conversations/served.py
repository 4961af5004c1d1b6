"""The repository and the endpoint that the conversations are about."""

from __future__ import annotations

import contextlib

from aiohttp import web
from click.testing import CliRunner
from documented_pages import copy_to
from gateways import with_notes
from scripted_endpoint import ScriptedEndpoint

from workbench.cli.app import cli
from workbench.testing import wire_answers
from workbench.workspace.save import save

CARD = """\
name: {name}
provider: openai
model: {name}
kind: {kind}
purpose: Tests.
licence: none
region: here
limits: {{context_tokens: 4096, max_output_tokens: 100{more}}}
price_per_million: {{input_usd: 0, output_usd: 0}}
base_url: {url}
"""
CHAT = ("scripted", "served-7b", "echo", "breaking", "slow", "refusing", "busy", "away", "rationed")
KINDS = {
    **dict.fromkeys(CHAT, "chat"),
    "narrow": "chat",
    "served-vectors": "embedding",
    "served-guard": "moderation",
}
POLICY = """\
@id("no-marketing")
@reason("Models are not for marketing.")
forbid (principal, action in Workbench::Action::"ask", resource is Workbench::Model)
when { context.purpose == "marketing" };
"""
GATEWAY = "gateway:\n  use: off\n  limits: {body_mib: 0.0625}\n"
BUDGETS = "\nbudgets:\n  plenty: {calls: 100000, per: [tenant]}\n"
#: Routes whose answers need no script.
PLAIN = {"embeddings", "moderations", "input_tokens"}
FAILURES = {"busy": (429, {"Retry-After": "0.5"}), "away": (503, {})}
#: What each key is issued with.
KEYS = {"full": "", "narrow": "--model scripted --model narrow", "spent": "--calls 1", "revoked": ""}


class ConversationEndpoint(ScriptedEndpoint):
    """The scripted endpoint with more routes; `echo` answers the last message, `busy` and `away` fail."""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        operation, payload = request.path.rpartition("/")[2], await request.json()
        if operation in PLAIN:
            return web.json_response(wire_answers.whole(operation, payload, ""))
        if payload["model"] in FAILURES:
            status, headers = FAILURES[payload["model"]]
            body = wire_answers.error_object(f"the script says {status}", status)
            return web.json_response(body, status=status, headers=headers)
        if payload["model"] != "echo":
            return await super()._answer(request)
        text = payload["messages"][-1]["content"]
        if not payload.get("stream"):
            return web.json_response(wire_answers.whole(operation, payload, text))
        pieces = b"".join(wire_answers.streamed(operation, payload, text))
        return web.Response(body=pieces, content_type="text/event-stream")


def repository(folder, url):
    """Give a copy of this repository the cards of the endpoint, a policy, and a small limit of bodies."""
    copy_to(folder)
    for name, kind in KINDS.items():
        path = folder / "pipelines" / "models" / name / "1.yaml"
        path.parent.mkdir(parents=True)
        more = ", tokens_per_minute: 4" if name == "rationed" else ""
        path.write_text(CARD.format(name=name, kind=kind, url=url, more=more), encoding="utf-8")
        save(folder, f"model/{name}", reason="a test")
    (folder / "pipelines" / "policies" / "house.cedar").write_text(POLICY, encoding="utf-8")
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    text = f"{GATEWAY}\n{params}{BUDGETS}"
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return with_notes(folder)


def issued_keys(root):
    """Return a key by each name of `KEYS`, and a wrong one."""
    keys = {}
    with contextlib.chdir(root):
        for name, options in KEYS.items():
            stated = f"keys issue --principal job:{name} --use-case answers --tenant acme {options}"
            done = CliRunner().invoke(cli, [*stated.split(), "--out", f"{name}.key"], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            keys[name] = (root / f"{name}.key").read_text().strip()
        revoked = keys["revoked"].split("_")[1]
        done = CliRunner().invoke(cli, ["keys", "revoke", revoked, "--reason", "a test"])
        assert done.exit_code == 0, done.output
    return keys | {"wrong": keys["full"][:-1] + ("0" if keys["full"][-1] != "0" else "1")}
