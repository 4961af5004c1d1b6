"""One suite of conversations with `workbench gateway`, by the Python and the JavaScript client of OpenAI."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import openai
import pytest
from clones import ROOT
from conversations.expected import NAMES, comparable, facts_of, faults_of, suite
from conversations.python_clients import converse
from conversations.served import ConversationEndpoint, issued_keys, repository
from documented_pages import blocks_of, page_of
from gateways import running_gateway, until

import workbench as wb
from workbench.testing.wire_answers import TEXT

CONVERSE = ROOT / "tests" / "support" / "javascript" / "converse.cjs"
DRIVERS = ("python", "python-async", "javascript")
#: Shows where the answer to each request of a page's example ends.
SEPARATED = 'set -eu; curl() { command curl --fail "$@"; echo; echo "== $?"; }\n'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with ConversationEndpoint().serving() as url:
        root = repository(tmp_path_factory.mktemp("conversations") / "repo", url)
        with running_gateway(root, "--workers", "1") as found:
            yield found


@pytest.fixture(scope="module")
def ws(gateway):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "unused")
        found = wb.connect("answers", root=gateway.root)
        found.memory().add(wb.load("data/handbook", root=gateway.root))
        yield found
        found.close()


@pytest.fixture(scope="module")
def keys(gateway):
    """The keys; what one of them may take, and what one card allows, is taken."""
    found = issued_keys(gateway.root) | {"owner": gateway.key}
    for key, model in (("spent", "scripted"), ("full", "rationed")):
        with openai.OpenAI(base_url=gateway.url, api_key=found[key]) as client:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Take it."}])
    return found


@pytest.fixture(scope="module")
def node_modules():
    """Where `make js` has installed what the lock names."""
    folder = Path(printed("make", "--no-print-directory", "js-folder").strip())
    if not shutil.which("node") or not (folder / "installed.lock").exists():
        pytest.skip("make js")
    return folder / "node_modules"


def printed(*command, text="", folder=ROOT, **environment):
    """Return what a command prints; it must succeed."""
    done = subprocess.run(
        command, input=text, cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told(request, gateway, keys, ws):
    """The facts of each conversation by its name, and the outcomes of its records, for a driver."""
    found = {}

    def ran(driver, conversations):
        if driver != "javascript":
            is_async = driver == "python-async"
            return asyncio.run(converse(conversations, base_url=gateway.url, keys=keys, is_async=is_async))
        stated = json.dumps({"base_url": gateway.url, "keys": keys, "suite": conversations})
        modules = request.getfixturevalue("node_modules")
        output = printed("node", CONVERSE, text=stated, NODE_PATH=str(modules))
        return [json.loads(line) for line in output.split("\n") if line]

    def of(driver):
        if driver not in found:
            conversations = suite(driver)
            try:
                facts = {line["name"]: facts_of(line) for line in ran(driver, conversations)}
                found[driver] = facts, recorded(ws, conversations)
            except Exception as error:  # noqa: BLE001 - every test raises it, and none asks again
                found[driver] = error
        if isinstance(found[driver], Exception):
            raise found[driver]
        return found[driver]

    return of


def recorded(ws, conversations):
    """Return the outcomes and the callers of each conversation's records, once all are there.

    The gateway writes the record of a stream that was left after its client has gone.
    """
    expected = {item["session"]: len(item["records"] or ()) for item in conversations}

    def rows():
        found = ws.calls(limit=None).rows(named=True)
        sessions = [row["session"] for row in found]
        return found if all(sessions.count(name) >= count for name, count in expected.items()) else None

    found = until(rows)
    return {
        item["name"]: [row for row in found if row["session"] == item["session"]] for item in conversations
    }


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_client_gets_what_the_suite_says_and_each_request_leaves_its_record(told, driver, name):
    (conversation,) = [item for item in suite(driver) if item["name"] == name]
    facts, records = told(driver)
    assert faults_of(conversation, facts[name]) == []
    if conversation["records"] is not None:
        assert [row["outcome"] for row in records[name]] == conversation["records"]
        principals = {row["principal"] for row in records[name]}
        assert principals <= {f"job:{conversation.get('key', 'full')}"}


@pytest.mark.parametrize("driver", DRIVERS[1:])
def test_every_client_gets_the_same(told, driver):
    found, expected = (told(name)[0] for name in (driver, DRIVERS[0]))
    assert {name: comparable(facts) for name, facts in found.items()} == {
        name: comparable(facts) for name, facts in expected.items()
    }


def test_nothing_stays_reserved(told, ws):
    for driver in DRIVERS:
        told(driver)
    until(lambda: ws.budget().frame()["reserved"].sum() == 0)
    assert ws.budget().frame()["spent"].sum() > 50


def test_the_examples_of_curl_work(gateway, ws):
    blocks = [block for block in blocks_of(page_of("gateway.md"), "bash") if "curl" in block]
    code = "".join(blocks).replace("http://127.0.0.1:8340", gateway.url.removesuffix("/v1"))
    shown = printed("bash", "-c", SEPARATED + code, folder=gateway.root)
    models, whole, stream, memories, hits, count = shown.split("\n== 0\n")[:-1]
    assert "smollm2-135m" in {item["id"] for item in json.loads(models)["data"]}
    text = json.loads(whole)["choices"][0]["message"]["content"]
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    chunks = [json.loads(event) for event in events[:-1]]
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert text and "".join(pieces) == text and events[-1] == "[DONE]"
    assert "handbook" in {item["id"] for item in json.loads(memories)["data"]}
    expected = ws.memory().search("Can I expense a taxi?", k=3)
    assert [hit["text"] for hit in json.loads(hits)["hits"]] == [hit.text for hit in expected]
    assert json.loads(count)["count"] == ws.memory().count() > 50


@pytest.fixture
def caller(gateway, keys):
    """What the examples of libraries.md find in the environment."""
    return {"URL": gateway.url, "KEY": keys["full"]}


def newest(ws):
    row = ws.calls(limit=None).rows(named=True)[-1]
    return row["operation"], row["outcome"], row["principal"]


def test_the_examples_of_javascript_work(caller, ws, node_modules, tmp_path):
    (tmp_path / "node_modules").symlink_to(node_modules)
    ask, search = blocks_of(page_of("libraries.md"), "javascript")
    (tmp_path / "ask.mjs").write_text(ask)
    (tmp_path / "search.mjs").write_text(search)
    assert printed("node", tmp_path / "ask.mjs", **caller) == TEXT
    assert newest(ws) == ("chat", "ok", "job:full")
    hits = ws.memory().search("Can I expense a taxi?", k=3)
    assert printed("node", tmp_path / "search.mjs", **caller) == "".join(
        f"{hit.source} {hit.text}\n" for hit in hits
    )


def test_langchain_in_another_repository_is_governed_by_address_and_key(caller, ws, tmp_path):
    python = ROOT / ".venv-interop" / "bin" / "python"
    assert python.exists(), "make interop"
    code = blocks_of(page_of("libraries.md"), "python")[-1]
    check = "import sys; assert 'langchain_openai' in sys.modules and 'workbench' not in sys.modules"
    assert (
        printed(python, "-c", code + check, folder=tmp_path, LANGSMITH_TRACING="false", **caller)
        == f"{TEXT}\n"
    )
    assert newest(ws) == ("chat", "ok", "job:full")
