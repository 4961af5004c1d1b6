"""What doctor says of telemetry: off, where it goes, whether that answers, what was sent and lost."""

import datetime as dt
import json
import socket

import pytest

from workbench.diagnostics import telemetry
from workbench.layout import TELEMETRY

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SET = {ENDPOINT: "http://ada:CANARY@otel.example:4318"}


@pytest.fixture
def answering(monkeypatch):
    asked = []

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def connect(address, timeout):
        asked.append((address, timeout))
        return Connection()

    monkeypatch.setattr(socket, "create_connection", connect)
    return asked


def told(root, environment) -> dict[str, tuple[str, str, str]]:
    found = list(telemetry.exports(root, environment=environment))
    assert not any(finding.needed for finding in found)
    assert "CANARY" not in str(found)
    return {finding.what: (finding.state, finding.detail, finding.fix) for finding in found}


@pytest.mark.parametrize(
    ("environment", "said"), [({}, ENDPOINT), ({**SET, "OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED")]
)
def test_telemetry_that_is_off_is_no_fault(tmp_path, environment, said):
    ((state, detail, fix),) = told(tmp_path, environment).values()
    assert (state, fix) == ("ok", "") and said in detail


def test_an_endpoint_that_answers_is_shown_without_its_password(tmp_path, answering):
    found = told(tmp_path, SET)
    assert found["telemetry"][:2] == ("ok", "exported to http://otel.example:4318/v1/traces")
    assert answering == [(("otel.example", 4318), 1.0)]


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({**SET, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({ENDPOINT: "otel.example:4318"}, "not a URL"),
        ({ENDPOINT: "http://otel.example:99999"}, "does not answer"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_what_to_type(tmp_path, answering, environment, word):
    state, detail, fix = told(tmp_path, environment)["telemetry"]
    assert state == "broken" and word in detail and f"export {ENDPOINT}=" in fix
    assert not answering


def test_a_receiver_that_does_not_answer_is_broken(tmp_path, monkeypatch):
    def refuse(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    state, detail, fix = told(tmp_path, SET)["telemetry"]
    assert state == "broken" and "Connection refused" in detail and fix


def test_the_spans_of_a_day_are_summed_and_lost_ones_are_a_fault(tmp_path, answering):
    now = dt.datetime.now(dt.UTC)
    reports = [
        {"at": now.isoformat(), "sent": 5, "lost": 0},
        {"at": (now - dt.timedelta(hours=23)).isoformat(), "sent": 2, "lost": 3},
        {"at": (now - dt.timedelta(hours=25)).isoformat(), "sent": 100, "lost": 100},
        {"at": "yesterday", "sent": 100},
        {"at": now.isoformat(), "sent": "many"},
    ]
    path = tmp_path / TELEMETRY
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(report) + "\n" for report in reports) + '{"at": torn')
    state, detail, fix = told(tmp_path, SET)["spans"]
    assert (state, detail) == ("broken", "7 exported and 3 lost in 24 hours") and "workbench doctor" in fix
