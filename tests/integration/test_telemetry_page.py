"""docs/telemetry.md, followed to the letter: its code exports to a receiver; its tables hold every name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from documented_pages import blocks_of, copy_to, page_of
from otlp_receiver import receiving

from workbench.config import load_params
from workbench.telemetry import names, settings
from workbench.telemetry.sending import PATIENCE_S

PAGE = page_of("telemetry.md")
TOLD = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", PAGE))


def run(copy, *command: str, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=copy, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_code_of_the_page_sends_its_traces(tmp_path):
    copy = copy_to(tmp_path)
    with receiving() as receiver:
        code = "\n".join(blocks_of(PAGE, "python"))
        output = run(copy, sys.executable, "-c", code, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    told = dict(line.split() for line in output.splitlines())
    first, second = receiver.spans
    assert (first.name, first.trace_id, first.parent) == ("chat smollm2-135m", told["trace"], "")
    assert second.trace_id == told["request"] and second.parent


def test_the_commands_of_the_page_make_doctor_show_the_address(tmp_path, free_port):
    (export, doctor) = "".join(blocks_of(PAGE, "console")).splitlines()
    name, _, url = export.removeprefix("export ").partition("=")
    assert settings.signals({name: url}) == ("traces", "metrics")
    url = url.replace("4318", str(free_port))  # where nobody listens, whatever runs on this machine
    command = [sys.executable, "-m", "workbench.cli", *shlex.split(doctor)[1:]]
    done = subprocess.run(
        command, cwd=copy_to(tmp_path), env={**os.environ, name: url}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert f"telemetry: {url}/v1/traces does not answer" in done.stdout
    assert "spans: 0 exported and 0 lost in 24 hours" in done.stdout


def test_the_key_of_the_page_asks_for_content(tmp_path):
    (block,) = blocks_of(PAGE, "yaml")
    path = copy_to(tmp_path) / "params.yaml"
    assert not any(case.telemetry.content for case in load_params(tmp_path).use_cases.values())
    text = path.read_text(encoding="utf-8")
    stated = re.sub(r"^    concurrency:", f"    {block}    concurrency:", text, count=1, flags=re.MULTILINE)
    path.write_text(stated, encoding="utf-8")
    asked = [name for name, case in load_params(tmp_path).use_cases.items() if case.telemetry.content]
    assert asked == ["answers"]


def test_the_tables_of_the_page_hold_every_name():
    attributes = {*names.RECORD.values(), *names.FLAGS.values(), *names.ATTEMPT.values()}
    assert attributes | {*names.PARAMETERS.values(), *names.METRICS} <= TOLD


def test_the_page_states_the_patience_of_the_code():
    assert PATIENCE_S == 2.0 and "waits for two seconds at most" in PAGE
