"""A workspace whose boundary is behind a socket answers as the one in process does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time
from pathlib import Path

import orjson
import pytest
from issuer import certificate
from native_gateway import ElsewhereBoundary, gateway, listening, remote_handler

import workbench as wb
from workbench import _sync
from workbench.context import InvocationScope, invocation_scope
from workbench.errors import ConfigError, DeadlineError, NotFoundError, RefusedError, UnavailableError
from workbench.layout import CALLS
from workbench.models.card import ModelCard
from workbench.records.log import read_records
from workbench.records.tape import Tape
from workbench.remote.connection import GatewayConnection
from workbench.remote.protocol import HEADER, MOST_BYTES
from workbench.testing.fakes import FakeModel
from workbench.workspace import boundary
from workbench.workspace.asked_calls import WorkspaceResolver
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.connection import connect

ROOT = Path(__file__).resolve().parents[2]
NEW = {"trace_id", "at", "duration_s", "first_event_s", "attempts", "parent"}


def local(home, *, mode="replay", tape=None, model=None):
    """A workspace of the answers in this repository, with its state in `home`, and perhaps a fake model."""
    cards = [] if model is None else [dataclasses.replace(ModelCard.unsaved("m"), name="smollm2-135m")]
    tape = tape or boundary.recorded_tape(ROOT, "answers")
    through = Boundary(ROOT, mode=mode, tape=tape, cards=cards, places=StatePaths(home=home))
    if model is not None:
        through._models["smollm2-135m"] = model
    return connect("answers", root=ROOT, through=through)


@contextlib.contextmanager
def moved(behind, **options):
    """The workspace, whose calls cross a socket now."""
    resolver = WorkspaceResolver(behind, scope="owner", **options)
    with gateway(lambda _asked: resolver) as address, remote_handler(address) as handler:
        yield dataclasses.replace(behind, boundary=ElsewhereBoundary(behind.boundary, handler))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A workspace in process and one whose calls cross a socket, each with its own state."""
    mine, behind = (local(tmp_path_factory.mktemp(name)) for name in ("mine", "behind"))
    mine.memory().add(wb.load("data/handbook", root=ROOT))
    with moved(behind) as far:
        far.memory().add(wb.load("data/handbook", root=ROOT))
        yield mine, far
    mine.close()
    behind.close()


def answered(ws, case):
    question = case.inputs["question"]
    with invocation_scope(InvocationScope(case=case.id, task="answer", parent=case.id)) as around:
        hits = ws.memory().search(question, k=3)
        reply = ws.model().chat(ws.prompt().render(question=question, passages=hits))
    told = [{name: value for name, value in made.items() if name not in NEW} for made in around.records]
    return hits, dataclasses.replace(reply, trace_id=""), told


async def answered_async(ws, case):
    question = case.inputs["question"]
    hits = await ws.memory().search_async(question, k=3)
    with invocation_scope(InvocationScope(case=case.id)):
        reply = await ws.model().chat_async(ws.prompt().render(question=question, passages=hits))
    return hits, dataclasses.replace(reply, trace_id="")


def test_hits_replies_and_records_are_those_in_process_in_both_colours(pair):
    mine, far = pair
    cases = [case for case in mine.cases() if case.tenant == mine.tenant][:4]
    for case in cases:
        near = answered(mine, case)
        assert answered(far, case) == near
        assert near[1].replayed and [record["operation"] for record in near[2]] == ["embed", "search", "chat"]
        assert asyncio.run(answered_async(far, case)) == near[:2]


def test_every_read_of_a_memory_is_that_in_process(pair):
    views = [ws.memory().unfiltered for ws in pair]
    found = []
    for view in views:
        items = _sync.run(view.items())
        ids = [item.id for item in items]
        counts = [
            _sync.run(view.count()),
            _sync.run(view.count(ids[:3])),
            _sync.run(view.missing([*ids, "x"])),
        ]
        versions = [dataclasses.replace(made, at="") for made in _sync.run(view.versions())]
        stats = dataclasses.replace(_sync.run(view.stats(now="2026-01-01T00:00:00Z")), facts={})
        found.append((items, counts, versions, stats))
    assert found[0] == found[1]
    assert all(type(item.vector) is tuple for item in found[1][0])


def test_what_is_held_and_forgotten_through_the_gateway_is_held_and_gone(pair):
    found = []
    for ws in pair:
        kb = ws.memory()
        held = kb.hold(source="travel-expenses")
        kept = kb.forget(source="travel-expenses")
        found.append((held, kept, kb.release(source="travel-expenses"), kb.forget(source="travel-expenses")))
        assert "travel-expenses" not in kb.search("meal allowance", k=5).sources
    assert found[0] == found[1] and found[0][0] and found[0][1].kept and found[0][3].items


def test_an_openai_client_and_an_error_are_those_in_process(pair):
    import openai

    said = []
    for ws in pair:
        with pytest.raises(openai.APIStatusError) as caught:
            ws.openai().chat.completions.create(
                model="smollm2-135m", messages=[{"role": "user", "content": "?"}]
            )
        said.append((caught.value.status_code, caught.value.message))
    assert said[0] == said[1] and "no recording" in said[0][1]


def test_an_unknown_model_another_tenant_and_more_rights_are_refused_at_the_gateway(pair):
    own = pair[1].context.principal
    with remote_handler(pair[1].boundary.handler.connection.address, own=own) as handler:
        call = pair[1].model()._call("hello", {})
        stronger = dataclasses.replace(own, clearance=9, groups=("board",))

        def refused(**change):
            context = dataclasses.replace(call.context, **change.pop("context", {}))
            altered = dataclasses.replace(call, context=context, **change)
            with pytest.raises((RefusedError, ConfigError, NotFoundError)) as caught:
                _sync.run(dataclasses.replace(pair[1].model(), handler=handler)._whole(altered))
            return caught.value.message

        assert "'nothing'" in refused(target="nothing@1")
        assert "initech" in refused(context={"tenant": "initech"})
        assert "clearance 9" in refused(context={"principal": stronger})


def stated(text):
    return lambda _payload: text


@pytest.fixture
def live(tmp_path):
    """A workspace behind a socket over a fake model, the model, and the records of the gateway."""
    model = FakeModel(stated("word " * 400))
    behind = local(tmp_path, mode="live", tape=Tape(tmp_path / "t"), model=model)
    with moved(behind) as far:
        yield far, model, lambda: settled(tmp_path)
    behind.close()


def settled(home):
    """The records of a gateway, once there are any."""
    for _ in range(500):
        if records := read_records(home / CALLS):
            return records
        time.sleep(0.01)
    raise AssertionError("no record")


def test_streams_come_piece_by_piece_in_both_colours(live):
    far, model, _ = live
    assert "".join(far.model().stream("hello")).strip() == ("word " * 400).strip()

    async def pieces():
        return [piece async for piece in far.model().stream_async("hello")]

    assert len(asyncio.run(pieces())) >= 400 and model.unclosed == 0


def test_leaving_a_stream_closes_the_models_and_the_gateway_records_it(live):
    far, model, records = live
    for piece in far.model().stream("hello"):
        assert piece
        break
    (record,) = records()
    assert record["outcome"] in {"abandoned", "ok"} and model.unclosed == 0


def test_a_call_that_is_cancelled_is_cancelled_at_the_gateway(live):
    far, model, records = live
    asked = threading.Event()

    async def hanging(payload, *, timeout_s=None):
        asked.set()
        await asyncio.sleep(60)
        yield payload

    model.chat = hanging

    async def ask():
        waiting = asyncio.ensure_future(far.model().chat_async("hello"))
        await asyncio.to_thread(asked.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(ask())
    (record,) = records()
    assert record["outcome"] == "cancelled"


def test_a_timeout_is_the_gateways(live):
    far, model, records = live

    async def hanging(payload, *, timeout_s=None):
        await asyncio.sleep(60)
        yield payload

    model.chat = hanging
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        far.model().chat("hello", timeout=0.2)
    assert time.monotonic() - began < 20 and records()[0]["error"] == "DeadlineError"


def test_many_calls_at_once_share_few_connections_and_are_told_apart(live):
    far, model, _ = live
    model._answer = lambda payload: payload["messages"][-1]["content"]

    async def ask(number):
        return (await far.model().chat_async(f"number {number}")).text

    async def all_of_them():
        return await asyncio.gather(*map(ask, range(100)))

    assert asyncio.run(all_of_them()) == [f"number {number}" for number in range(100)]
    assert model.unclosed == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_call_over_tcp_is_the_same_and_tls_is_verified(scheme, tmp_path, monkeypatch, free_port):
    behind = local(tmp_path / "home", mode="live", tape=Tape(tmp_path / "t"), model=FakeModel(["yes"] * 2))
    where = {"host": "localhost", "port": free_port}
    if scheme == "https":
        keys = certificate(tmp_path)
        where |= {"ssl_certfile": str(keys), "ssl_keyfile": str(keys)}
    resolver = WorkspaceResolver(behind, scope="owner")
    with gateway(lambda _asked: resolver, **where) as address:
        if scheme == "https":
            with remote_handler(address) as handler:
                far = dataclasses.replace(behind, boundary=ElsewhereBoundary(behind.boundary, handler))
                with pytest.raises(UnavailableError, match="SSLCertVerificationError"):
                    far.model().chat("hello")
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        with remote_handler(address) as handler:
            far = dataclasses.replace(behind, boundary=ElsewhereBoundary(behind.boundary, handler))
            assert address.startswith(f"{scheme}:") and far.model().chat("hello").text == "yes"
    behind.close()


def test_a_gateway_that_is_away_is_named_with_what_to_type(tmp_path):
    connection = GatewayConnection(f"unix:{tmp_path}/none")
    with pytest.raises(UnavailableError, match="not reachable") as caught:
        _sync.run(connection.request("GET", "/health"))
    assert "workbench gateway status" in caught.value.hint


def sent(address, request: bytes) -> bytes:
    """What a gateway answers to these bytes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(address.removeprefix("unix:"))
        client.sendall(request)
        found = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := client.recv(65536):
                found += piece
                if b"}" in piece:
                    break
        return found


def test_a_body_above_the_bound_is_refused_while_it_is_read_and_others_by_name():
    head = b"POST /workbench/v1/calls HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n"
    with gateway(lambda _asked: None) as address:
        large = sent(address, head % (2 * MOST_BYTES) + b"x" * (MOST_BYTES + 2**20))
        assert large.startswith(b"HTTP/1.1 413 ") and b"bytes" in large
        odd = sent(address, head % 2 + b"{}")
        assert odd.startswith(b"HTTP/1.1 400 ") and HEADER.lower().encode() in odd.lower()
        assert orjson.loads(odd.partition(b"\r\n\r\n")[2])["error"]["type"] == "ConfigError"


def test_a_server_that_speaks_another_version_is_no_gateway_for_this_process():
    async def newer(_scope, _receive, send):
        headers = [(b"workbench-protocol", b"2"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    with listening(newer) as address, pytest.raises(ConfigError, match="'2'") as caught:
        _sync.run(GatewayConnection(address).request("POST", "/workbench/v1/calls", b"{}"))
    assert "workbench gateway stop" in caught.value.hint


def test_no_descriptor_is_left_open(live):
    far, _, _ = live
    far.model().chat("hello")
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(20):
        for _piece in far.model().stream("hello"):
            break
    time.sleep(0.2)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + 2
