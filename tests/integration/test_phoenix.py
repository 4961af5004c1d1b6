"""Phoenix from its own package shows trace, kinds, tokens and cost of one answer, read back by its client."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from clones import ROOT
from documented_pages import copy_to

PHOENIX = ROOT / ".venv-phoenix" / "bin" / "python"
SUPPORT = ROOT / "tests" / "support"
GOLDEN = ROOT / "tests" / "unit" / "telemetry" / "golden"
PER_MILLION = 1_000.0
PRICED = """mutation { createModel(input: {name: "smollm2", namePattern: "^smollm2-135m$", costs: [
    {tokenType: "input", costPerMillionTokens: 1000, kind: PROMPT},
    {tokenType: "output", costPerMillionTokens: 1000, kind: COMPLETION}]}) { model { name } } }"""
SUMMED = '{ getProjectByName(name: "answers") { tokenCountTotal costSummary { total { cost } } } }'
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Server:
    """Phoenix on the loopback, with a SQLite file in a folder of its own and nothing sent home."""

    def __init__(self, folder, port: int, grpc: int):
        self.url = f"http://127.0.0.1:{port}"
        home = folder / "home"
        home.mkdir(parents=True)
        settings = {
            "HOST": "127.0.0.1", "PORT": port, "GRPC_PORT": grpc, "WORKING_DIR": home,
            "SQL_DATABASE_URL": f"sqlite:///{home / 'phoenix.db'}", "TELEMETRY_ENABLED": "false",
            "ALLOW_EXTERNAL_RESOURCES": "false", "DISABLE_AGENT_ASSISTANT": "true",
        }  # fmt: skip
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(home),
            **{f"PHOENIX_{name}": str(value) for name, value in settings.items()},
        }  # fmt: skip
        self.log = folder / "phoenix.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PHOENIX.with_name("phoenix"), "serve"],
                env=self.environment, cwd=home, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self) -> None:
        end = time.monotonic() + 300  # half a minute on a machine with nothing else to do
        while True:
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-2_000:]
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)

    def query(self, text: str) -> dict:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": text}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)["data"]

    def read(self, trace: str) -> dict:
        command = [PHOENIX, SUPPORT / "phoenix_reader.py", self.url, "answers", trace]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def answered(folder, url: str) -> dict:
    """The record of the one answer, exported with the endpoint alone and a name for the project."""
    exported = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_RESOURCE_ATTRIBUTES": "openinference.project.name=answers",
    }
    done = subprocess.run(
        [sys.executable, SUPPORT / "phoenix_answer.py", str(PER_MILLION)],
        cwd=folder, env={**os.environ, **exported}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def free_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    if not PHOENIX.exists():
        pytest.skip("make phoenix")
    folder = tmp_path_factory.mktemp("phoenix")
    server = Server(folder / "server", *free_ports())
    try:
        (folder / "copy").mkdir()
        copy = copy_to(folder / "copy")
        server.wait()
        server.query(PRICED)
        time.sleep(6)  # Phoenix reads its table of prices every 5 seconds
        record = answered(copy, server.url)
        found = server.read(record["parent"])
        yield {**found, "record": record, "sums": server.query(SUMMED)["getProjectByName"]}
    finally:
        server.stop()


def test_one_trace_holds_the_task_the_search_and_the_answer_as_phoenix_s_kinds(shown):
    spans = {span["name"]: span for span in shown["spans"]}
    assert {name: span["span_kind"] for name, span in spans.items()} == {
        "invoke_workflow answer": "CHAIN",
        "retrieval handbook": "RETRIEVER",
        "chat smollm2-135m": "LLM",
        "embeddings wordllama-256": "EMBEDDING",
    }
    task = spans.pop("invoke_workflow answer")
    assert task["parent_id"] is None
    assert {span["parent_id"] for span in spans.values()} == {task["context"]["span_id"]}
    answer = spans["chat smollm2-135m"]["attributes"]
    assert answer["workbench.call.id"] == shown["record"]["trace_id"]


def test_tokens_and_cost_are_those_of_the_record(shown):
    record = shown["record"]
    (answer,) = [span["attributes"] for span in shown["spans"] if span["span_kind"] == "LLM"]
    total = record["input_tokens"] + record["output_tokens"]
    assert answer["llm.token_count.prompt"] == record["input_tokens"] > 0
    assert answer["llm.token_count.completion"] == record["output_tokens"] > 0
    assert answer["llm.token_count.total"] == total
    assert answer["llm.cost.total"] == record["cost_usd"] == pytest.approx(total * PER_MILLION / 1e6)
    # Phoenix's own sums: tokens of the model alone, and a cost by the price that it was told.
    assert shown["sums"]["tokenCountTotal"] == total
    assert shown["sums"]["costSummary"]["total"]["cost"] == pytest.approx(record["cost_usd"])


def test_no_text_of_question_passage_or_answer_reached_phoenix(shown):
    assert "meal allowance" not in json.dumps(shown["spans"])


def test_our_names_are_those_of_the_openinference_package(shown):
    known, ours = set(shown["names"]), set()
    for path in GOLDEN.glob("*.json"):
        ours |= set(json.loads(path.read_text(encoding="utf-8"))["attributes"])
    ours = {name for name in ours if not re.match(r"(gen_ai|workbench|error|server|http)\.", name)}
    assert len(ours) > 20
    assert {part for name in ours for part in re.split(r"\.\d+\.", name)} <= known
