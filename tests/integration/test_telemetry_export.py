"""What a real OTLP receiver gets of calls, invocations and streams, and what a dead or slow one costs."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from calls import Bench, ask, behind, chat, search
from otlp_receiver import attributes, receiving

from workbench.context import InvocationScope, invocation_scope
from workbench.controls.observe import Observe
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.errors import RefusedError, UnavailableError
from workbench.layout import TELEMETRY
from workbench.records import egress
from workbench.records.log import Lines, read_records
from workbench.telemetry import active, sending, settings
from workbench.telemetry.export import Exporter
from workbench.testing.fakes import FakeModel


@pytest.fixture
def receiver(monkeypatch):
    with receiving() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


class Exporting(Bench):
    """A boundary of `observe` and `retry` around a fake model, which exports what it records."""

    def __init__(self, folder, *, content: bool = False, key: str = ""):
        super().__init__(folder)
        self.home = folder
        self.exporter = Exporter(folder, settings.signals(), key=key)
        self.content = content

    def around(self, leaf):
        controls = {
            "observe": Observe(Lines(self.log), price=lambda *_: 0.5, export=self.exporter),
            "retry": Retry(RetryPolicy(attempts=3, first_s=0)),
        }
        return self.exporter.watched(fold(controls, leaf), content=self.content)

    @property
    def reports(self) -> list[dict]:
        return read_records(self.home / TELEMETRY)


@pytest.fixture
def exporting(receiver, tmp_path):
    made = Exporting(tmp_path)
    yield made
    made.exporter.close()


def test_a_call_outside_of_an_invocation_is_a_trace_whose_id_is_the_reply_s(exporting, receiver):
    call = chat(max_tokens=8)
    ask(exporting.around(behind(FakeModel(["yes, by taxi"]))), call)
    assert exporting.exporter.flush()
    (span,) = receiver.spans
    assert (span.name, span.trace_id, span.parent) == ("chat small", call.span.facts["trace_id"], "")
    (record,) = exporting.records
    assert (span.end_ns - span.start_ns) / 1e9 == pytest.approx(record["duration_s"])
    assert span.attributes["gen_ai.usage.output_tokens"] == record["output_tokens"] == 3
    assert span.attributes["openinference.span.kind"] == "LLM"
    assert span.resource["service.name"] == "workbench"
    assert exporting.reports[-1]["sent"] == 1 and exporting.reports[-1]["lost"] == 0


def test_the_calls_of_an_invocation_are_one_trace_below_the_span_of_the_task(exporting, receiver):
    def leaf(call):
        return behind(FakeModel(["yes"]))(call) if call.port == "model" else nothing_found()

    async def nothing_found():
        from workbench.types import Event

        yield Event(data=[])

    with invocation_scope(InvocationScope(case="q1", task="answer")) as scope:
        for call in (search(), chat()):
            ask(exporting.around(leaf), call)
    assert exporting.exporter.flush()
    task = receiver.named("invoke_workflow answer")
    below = [receiver.named("retrieval handbook"), receiver.named("chat small")]
    assert {span.trace_id for span in receiver.spans} == {scope.parent} and task.parent == ""
    assert [span.parent for span in below] == [task.span_id] * 2
    kinds = [span.attributes["openinference.span.kind"] for span in (task, *below)]
    assert kinds == ["CHAIN", "RETRIEVER", "LLM"]
    # The id of the reply is found by an attribute, and the record names the trace.
    assert below[1].attributes["workbench.call.id"] == call.span.facts["trace_id"]
    assert {record["parent"] for record in exporting.records} == {task.trace_id}
    assert task.start_ns <= min(span.start_ns for span in below)


def test_a_span_of_the_caller_is_the_parent(exporting, receiver):
    from opentelemetry import trace
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    web = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    handler = exporting.around(behind(FakeModel(["yes", "no"])))
    with trace.use_span(NonRecordingSpan(web)):
        ask(handler, chat())
        with invocation_scope(InvocationScope(task="answer")):
            ask(handler, chat())
    assert exporting.exporter.flush()
    assert {int(span.trace_id, 16) for span in receiver.spans} == {0xABC}
    first, second = (span for span in receiver.spans if span.name == "chat small")
    task = receiver.named("invoke_workflow answer")
    assert int(first.parent, 16) == int(task.parent, 16) == 0xDEF and second.parent == task.span_id


def test_attempts_are_children_and_an_error_is_the_status(exporting, receiver):
    failing = FakeModel([UnavailableError("CANARY away"), RefusedError("CANARY no", status=400)])
    with pytest.raises(RefusedError):
        ask(exporting.around(behind(failing)), chat())
    assert exporting.exporter.flush()
    call = receiver.named("chat small")
    children = [receiver.named(f"attempt {n}") for n in (1, 2)]
    assert [child.parent for child in children] == [call.span_id] * 2
    assert [span.status for span in (call, *children)] == [2, 2, 2]
    assert [span.attributes["error.type"] for span in children] == ["UnavailableError", "RefusedError"]
    assert "CANARY" not in str(receiver.spans)


def test_an_abandoned_stream_closed_in_another_task_is_one_span_in_its_trace(exporting, receiver):
    handler = exporting.around(behind(FakeModel(["one two three"])))

    async def left() -> str:
        with invocation_scope(InvocationScope(task="answer")) as scope:
            stream = handler(chat(stream=True))
            await anext(stream)
        await asyncio.create_task(stream.aclose())
        return scope.parent

    parent = asyncio.run(left())
    assert exporting.exporter.flush()
    call, task = receiver.named("chat small"), receiver.named("invoke_workflow answer")
    assert (call.trace_id, call.parent) == (parent, task.span_id)
    assert call.attributes["workbench.outcome"] == "abandoned" and call.status == 0


def test_metrics_have_the_conventions_names_and_buckets(exporting, receiver):
    ask(exporting.around(behind(FakeModel(["yes, by taxi"]))), chat())
    assert exporting.exporter.flush()
    (duration,) = receiver.metrics["gen_ai.client.operation.duration"]
    assert list(duration.explicit_bounds)[:2] == [0.01, 0.02] and duration.count == 1
    keys = attributes(duration.attributes)
    assert keys["gen_ai.operation.name"] == "chat" and keys["workbench.use_case"] == "answers"
    tokens = {attributes(point.attributes)["gen_ai.token.type"]: point.sum
              for point in receiver.metrics["gen_ai.client.token.usage"]}  # fmt: skip
    assert tokens["output"] == 3
    (cost,) = receiver.metrics["workbench.cost"]
    assert cost.as_double == 0.5


@pytest.mark.parametrize("content", [False, True])
def test_content_leaves_only_when_it_is_asked_for(receiver, tmp_path, content):
    exporting = Exporting(tmp_path, content=content)
    ask(exporting.around(behind(FakeModel(["CANARY-ANSWER"]))), chat("CANARY-QUESTION"))
    assert exporting.exporter.flush()
    (span,) = receiver.spans
    for word in ("CANARY-ANSWER", "CANARY-QUESTION"):
        assert (word in str(span.attributes)) == content
    exporting.exporter.close()


def test_the_sdk_s_own_settings_hold(receiver, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "help-desk")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=search")
    exporting = Exporting(tmp_path)
    ask(exporting.around(behind(FakeModel(["yes"]))), chat())
    assert exporting.exporter.flush()
    (span,) = receiver.spans
    assert span.resource["service.name"] == "help-desk"
    assert span.resource["deployment.environment.name"] == "test"
    assert receiver.headers[0]["x-team"] == "search"
    exporting.exporter.close()


def test_a_sampler_decides_by_trace(receiver, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    exporting = Exporting(tmp_path)
    with invocation_scope(InvocationScope(task="answer")):
        ask(exporting.around(behind(FakeModel(["yes"]))), chat())
    assert exporting.exporter.flush()
    assert receiver.spans == [] and "gen_ai.client.token.usage" in receiver.metrics
    exporting.exporter.close()


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, ("traces", "metrics")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "TRUE"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_METRICS_EXPORTER": "none"}, ("traces",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, ("traces",)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:4318/v1/metrics"}, ("metrics",)),
    ],
)
def test_the_variables_of_opentelemetry_say_what_is_exported(variables, signals):
    assert settings.signals(variables) == signals


def test_an_endpoint_is_shown_without_its_password():
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:CANARY@otel.example:4318/in?token=CANARY"}
    assert "CANARY" not in settings.endpoint("traces", variables)


def test_a_dead_receiver_neither_fails_nor_delays_a_call_and_is_reported(
    receiver, tmp_path, monkeypatch, capfd
):
    receiver.status = 400
    exporting = Exporting(tmp_path)
    handler = exporting.around(behind(FakeModel(["yes"] * 50)))
    began = time.monotonic()
    for _ in range(50):
        ask(handler, chat())
    assert time.monotonic() - began < 2
    assert exporting.exporter.flush()
    assert sum(report["lost"] for report in exporting.reports) == 50
    assert len(exporting.records) == 50 and receiver.spans == []
    assert capfd.readouterr().err == ""
    exporting.exporter.close()


def test_a_slow_receiver_delays_the_end_by_two_seconds_at_most(receiver, tmp_path):
    receiver.holds_s = 8
    exporting = Exporting(tmp_path)
    ask(exporting.around(behind(FakeModel(["yes"]))), chat())
    began = time.monotonic()
    assert exporting.exporter.flush() is False
    assert time.monotonic() - began < 2.5
    exporting.exporter.close()
    assert time.monotonic() - began < 5
    assert sum(report["lost"] for report in exporting.reports) == 1


def test_a_process_ends_in_time_when_nobody_listens(tmp_path, monkeypatch, free_port):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port}")
    exporting = Exporting(tmp_path)
    ask(exporting.around(behind(FakeModel(["yes"]))), chat())
    began = time.monotonic()
    exporting.exporter.close()
    assert time.monotonic() - began < 3
    assert [(report["sent"], report["lost"]) for report in exporting.reports] == [(0, 1)]


def test_a_queue_that_overflows_counts_what_it_drops(receiver, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    receiver.holds_s = 1.0
    exporting = Exporting(tmp_path)
    handler = exporting.around(behind(FakeModel(["yes"] * 60)))
    for _ in range(60):
        ask(handler, chat())
    receiver.holds_s = 0.0
    exporting.exporter.close()
    reports = exporting.reports
    sent, lost = (sum(report[part] for report in reports) for part in ("sent", "lost"))
    assert sent == len(receiver.spans) and sent + lost == 60 and lost > 0


def _in_a_fork(handler, exporter, pipe):
    ask(handler, chat())
    pipe.send(exporter.flush())


def test_a_fork_exports_its_own_calls(exporting, receiver):
    handler = exporting.around(behind(FakeModel(["yes", "no"])))
    ask(handler, chat())
    mine, theirs = multiprocessing.Pipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [])  # a fork of a process with threads, which is what is tested
        child = multiprocessing.get_context("fork").Process(
            target=_in_a_fork, args=(handler, exporting.exporter, theirs)
        )
        child.start()
    assert mine.poll(20) and mine.recv()
    child.join(20)
    assert exporting.exporter.flush()
    assert len(receiver.spans) == 2 and len({span.trace_id for span in receiver.spans}) == 2


def test_a_process_sends_what_is_left_when_it_exits(receiver, tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests/support'); sys.path.insert(0, 'tests/integration')\n"
        "import test_telemetry_export as t, pathlib\n"
        f"bench = t.Exporting(pathlib.Path({str(tmp_path)!r}))\n"
        "t.ask(bench.around(t.behind(t.FakeModel(['yes']))), t.chat())\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(receiver.spans) == 1 and "gen_ai.client.operation.duration" in receiver.metrics
    assert time.monotonic() - began < 30


def test_without_an_endpoint_opentelemetry_is_not_imported():
    code = (
        "import sys, workbench as wb; ws = wb.connect('answers'); ws.model(); "
        "assert ws.boundary.telemetry is None; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_a_setting_that_the_sdk_cannot_use_switches_telemetry_off_and_fails_nothing(
    receiver, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")  # less than a batch
    assert active.exporter(tmp_path) is None
    assert "telemetry is off" in caplog.text and receiver.spans == []


def test_what_is_exported_from_a_watched_kernel_is_no_connection_around_the_boundary(receiver, tmp_path):
    report = tmp_path / "connections.jsonl"
    code = (
        "import sys; sys.path.insert(0, 'tests/support'); sys.path.insert(0, 'tests/integration')\n"
        "import pathlib, socket, test_telemetry_export as t\n"
        "from workbench.records import egress\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        f"egress.watch({str(report)!r})\n"
        "bench = t.Exporting(folder)\n"
        "t.ask(bench.around(t.behind(t.FakeModel(['yes']))), t.chat())\n"
        "bench.exporter.flush()\n"
        f"socket.create_connection(('127.0.0.1', {receiver.url.rpartition(':')[2]})).close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(receiver.spans) == 1
    # The connection that the code itself opens is reported, and it alone.
    assert [found["event"] for found in egress.reported(report)] == ["socket.connect"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_its_spans_are_lost(exporting, receiver, status):
    receiver.status = status
    ask(exporting.around(behind(FakeModel(["yes"]))), chat())
    assert exporting.exporter.flush()
    assert [(report["sent"], report["lost"]) for report in exporting.reports] == [(0, 1)]


def test_a_long_answer_of_the_receiver_is_not_read(exporting, receiver):
    receiver.answer_bytes = 200 << 20
    ask(exporting.around(behind(FakeModel(["yes"]))), chat())
    assert exporting.exporter.flush() and len(receiver.spans) == 1
    assert receiver.written < 50 << 20


def test_a_session_that_the_environment_names_is_the_sdk_s_own(monkeypatch):
    assert sending._session() is not None
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "mine")
    assert sending._session() is None
