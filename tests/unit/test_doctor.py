"""The doctor: every finding is ok or says what mends it, and no secret is ever in one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from workbench import config, registry
from workbench.cli import weaviate
from workbench.cli.doctor import doctor as command
from workbench.diagnostics import disk, doctor, endpoints, machine, servers
from workbench.diagnostics.doctor import examine
from workbench.diagnostics.findings import Diagnosis, Finding
from workbench.endpoints.circuit import Transition
from workbench.endpoints.states import writer_of
from workbench.errors import UnavailableError
from workbench.layout import ENDPOINTS
from workbench.memory.cipher import KEY_VARIABLE
from workbench.pipeline.repro import warn_of_environment
from workbench.repository import environments

ROOT = Path(__file__).resolve().parents[2]
OK = Finding(what="a", state="ok", detail="there")
SPARE = Finding(what="b", state="missing", detail="gone", fix="get b", needed=False)
BROKEN = Finding(what="c", state="broken", detail="torn", fix="fix c")


@pytest.fixture
def answers():
    return config.load_params(ROOT).use_cases["answers"]


@pytest.fixture
def no_server(monkeypatch):
    monkeypatch.setattr(servers, "_get", lambda *_, **__: None)


def state_of(diagnosis: Diagnosis) -> dict[str, str]:
    return {found.what: found.state for found in diagnosis.findings}


def test_only_what_is_needed_decides():
    assert Diagnosis(findings=(OK, SPARE)).passed
    assert not Diagnosis(findings=(OK, SPARE, BROKEN)).passed


def test_the_card_ends_with_the_first_thing_to_do():
    card = str(Diagnosis(findings=(OK, SPARE, BROKEN)))
    assert card.splitlines()[-1].endswith("next: fix c")
    assert "-> get b" in card and "nothing declared here needs it" in card
    assert str(Diagnosis(findings=(OK, SPARE))).splitlines()[-1].endswith("next: make repro")


def test_an_examination_of_this_repository_mends_all_that_it_finds_and_is_json(no_server):
    found = examine(ROOT)
    assert json.loads(json.dumps(found.to_json()))["passed"] is found.passed
    for one in found.findings:
        assert one.detail, one
        assert bool(one.fix) == (one.state != "ok"), one


def test_params_that_cannot_be_read_are_a_finding_and_the_rest_is_still_looked_at(tmp_path, no_server):
    (tmp_path / "params.yaml").write_text("use_cases: [")
    found = examine(tmp_path)
    assert state_of(found)["params.yaml"] == "broken" and not found.passed
    assert {"python", "git", "disk", "leftovers"} <= set(state_of(found))


def test_a_named_server_is_needed_and_the_default_one_is_not(answers, no_server):
    named = dataclasses.replace(answers, memory_provider="weaviate", memory_url="http://127.0.0.1:9")
    for case, needed, url in ((answers, False, "http://127.0.0.1:8080"), (named, True, "http://127.0.0.1:9")):
        [found] = doctor._servers({"answers": case}, {})
        assert (found.state, found.needed, found.fix) == ("missing", needed, "make weaviate")
        assert url in found.what
    remote = dataclasses.replace(named, memory_url="https://memory.example")
    [found] = doctor._servers({"answers": remote}, {})
    assert "memory_url" in found.fix


def test_a_server_that_two_use_cases_name_is_asked_once(answers, no_server):
    named = dataclasses.replace(answers, memory_provider="weaviate")
    assert len(list(doctor._servers({"a": named, "b": named}, {}))) == 1


@pytest.mark.parametrize(
    ("ready", "schema", "meta", "state", "said"),
    [
        (503, 200, "1.39.0", "broken", "starting"),
        (200, 500, "1.39.0", "broken", "answers no read"),
        (200, 401, "1.39.0", "broken", "asks for a key"),
        (200, 200, "1.35.9", "broken", "older"),
        (200, 200, "", "broken", "older"),
        (200, 200, "1.39.0", "ok", "open to everybody"),
        (200, 200, "2.0.0-rc.1", "ok", "2.0.0"),
        (200, 403, "1.39.0", "ok", "1.39.0"),
    ],
)
def test_ready_is_decided_by_a_real_read_and_the_version(monkeypatch, ready, schema, meta, state, said):
    answers = {"ready": ready, "schema": schema, "meta": 200}

    def answer(url, path, **_):
        name = path.rsplit("/", 1)[1]
        return servers.ServerAnswer(status=answers[name], body={"version": meta} if name == "meta" else None)

    monkeypatch.setattr(servers, "_get", answer)
    monkeypatch.setattr(servers, "_grpc", lambda *_, **__: OK)
    found = next(iter(servers.server(servers.DEFAULT, needed=True, environment={})))
    assert found.state == state and said in found.detail


def test_a_model_of_an_endpoint_needs_its_key(answers, monkeypatch):
    case = dataclasses.replace(answers, provider="openai", api_key_env="THE_KEY_OF_THIS_TEST")
    monkeypatch.delenv("THE_KEY_OF_THIS_TEST", raising=False)
    first = next(machine.models(ROOT, {"answers": case}))
    assert first.state == "broken" and first.fix == "export THE_KEY_OF_THIS_TEST=…"
    monkeypatch.setenv("THE_KEY_OF_THIS_TEST", "sesame")
    first = next(machine.models(ROOT, {"answers": case}))
    assert first.state == "ok" and "sesame" not in str(first)


def test_a_moved_model_is_told_apart_from_the_same_card_in_another_use_case(answers, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    moved = dataclasses.replace(answers, provider="openai", base_url="http://models.example/v1")
    cases = {"answers": moved, "triage": answers}
    found = {item.what: item.state for item in machine.models(ROOT, cases)}
    name = f"model {answers.model_name}"
    assert (found[f"{name} of answers"], found[name]) == ("broken", "ok")


def test_programs_that_are_not_there_are_missing_and_only_git_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.local_server, "find_binary", lambda _: None)
    found = {one.what: one for one in machine.programs(str(tmp_path))}
    assert {one.state for one in found.values()} == {"missing"}
    assert [name for name, one in found.items() if one.needed] == ["git"]


def test_a_variable_that_names_no_server_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_WEAVIATE", str(tmp_path / "gone"))
    found = machine._weaviate(None)
    assert (found.state, found.fix, found.needed) == ("broken", "unset WORKBENCH_WEAVIATE", False)


def test_an_environment_of_another_lock_is_broken(tmp_path, monkeypatch):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/workbench.lock").write_text("today's")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert (machine._lock(tmp_path).state, machine._lock(tmp_path).needed) == ("missing", False)
    (tmp_path / "installed.lock").write_text("yesterday's")
    assert (machine._lock(tmp_path).state, machine._lock(tmp_path).fix) == ("broken", "make env")
    (tmp_path / "installed.lock").write_text("today's")
    assert machine._lock(tmp_path).state == "ok"


def test_every_tenant_has_its_key_where_the_variable_says_so():
    where = config.MemoryServer(url="http://127.0.0.1:9", api_key_env="KEY_{tenant}")
    key, unset = servers._key(where, ("acme", "north-west"), {"KEY_ACME": "sesame"})
    assert key == "sesame" and unset == ["KEY_NORTH_WEST"]
    assert servers._export(unset[0]) == "export KEY_NORTH_WEST=…"
    assert servers._key(where, ("acme",), {"KEY_ACME": "sesame"}) == ("sesame", [])


def test_the_key_of_memories_is_looked_at_and_never_made_or_shown(tmp_path):
    path = tmp_path / ".workbench/state/memory.key"
    assert servers.key(tmp_path, environment={}).state == "ok" and not path.exists()
    path.parent.mkdir(parents=True)
    path.write_text("ab" * 64)
    path.chmod(0o644)
    found = servers.key(tmp_path, environment={})
    assert found.state == "broken" and found.fix == f"chmod 600 {path}"
    path.chmod(0o600)
    found = servers.key(tmp_path, environment={})
    assert found.state == "ok" and "abab" not in str(found)
    for value, state in (("cd" * 64, "ok"), ("cdcd", "broken")):
        found = servers.key(tmp_path, environment={KEY_VARIABLE: value})
        assert found.state == state and KEY_VARIABLE in found.detail and "cdcd" not in str(found)


def test_a_tape_is_needed_and_a_snapshot_where_it_is_the_fallback(answers, tmp_path):
    fallback = dataclasses.replace(answers, memory_provider="weaviate", memory_fallback="snapshot")
    for case, needed in ((answers, [True, True, False]), (fallback, [True, True, True])):
        found = list(disk.recordings(tmp_path, {"answers": case}))
        assert [one.needed for one in found] == needed
        assert {(one.state, one.fix) for one in found} == {("missing", "make repro")}


@pytest.mark.parametrize(
    "name",
    ["pipelines/tapes/.answers.jsonl.0123abcd", ".params.yaml.0123abcd", "notebooks/.claims.ipynb.0123abcd"],
)
def test_what_a_killed_writer_left_is_named_unless_a_writer_may_be_at_work(tmp_path, name):
    assert disk.leftovers(tmp_path).state == "ok"
    left = tmp_path / name
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert disk.leftovers(tmp_path).state == "ok"
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    found = disk.leftovers(tmp_path)
    assert found.state == "broken" and not found.needed
    assert found.fix == f"rm -r -- {name}"


@pytest.mark.parametrize(
    ("used", "free", "state", "needed"),
    [(50, 50, "ok", True), (95, 5, "broken", False), (99.5, 0.5, "broken", True)],
)
def test_a_disk_is_judged_by_what_is_free_and_by_where_the_server_stops(
    monkeypatch, used, free, state, needed
):
    usage = shutil._ntuple_diskusage(
        (used + free) << 30 if free >= 1 else 100 << 30, int(used * 2**30), int(free * 2**30)
    )
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    found = disk.room(ROOT)
    assert (found.state, found.needed) == (state, needed)


@pytest.mark.parametrize("found", [(OK, SPARE), (OK, BROKEN)])
def test_the_command_exits_by_what_is_needed(monkeypatch, found):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("workbench.diagnostics.doctor.examine", lambda _: Diagnosis(findings=found))
    code = 0 if found[1] is SPARE else 1
    plain = CliRunner().invoke(command, [])
    assert plain.exit_code == code and "ok       a: there" in plain.output
    told = CliRunner().invoke(command, ["--json"])
    assert told.exit_code == code and json.loads(told.output)["passed"] is (code == 0)


GO = """#!/bin/sh
echo "go: downloading example v1" >&2
echo "$@" > "$GOBIN.asked"
mkdir -p "$GOBIN" && touch "$GOBIN/weaviate-server" && exit {code}
"""


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Build with a Go that does as told; the folder it should build into."""
    monkeypatch.setattr(weaviate, "cached_binary", lambda: tmp_path / "cache/weaviate/weaviate-server")

    def build(code: int) -> Path:
        go = tmp_path / "go"
        go.write_text(GO.format(code=code))
        go.chmod(0o755)
        return weaviate.build(str(go), say=lambda _: None, environment={"PATH": os.environ["PATH"]})

    return build


def test_a_server_is_built_into_the_cache(built, tmp_path):
    assert built(0).is_file()
    [asked] = (tmp_path / "cache").glob("*.asked")
    assert asked.read_text().startswith("install -v github.com/weaviate/weaviate/cmd/weaviate-server@v")


def test_a_build_that_fails_leaves_nothing_and_names_the_ways_on(built, tmp_path):
    with pytest.raises(UnavailableError, match="ended with code 3: go: downloading example v1") as error:
        built(3)
    assert "docker compose" in error.value.hint
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".asked"]


def another_lock() -> str:
    """Return today's lock with another version of click and one more package."""
    lock = (ROOT / "locks" / "workbench.lock").read_text()
    return re.sub(r"^click==\S+", "click==0.1", lock, flags=re.MULTILINE) + "no-such-package==1.0\n"


def test_a_package_installed_in_another_version_than_the_lock_has_is_named():
    assert environments.differing_versions((ROOT / "locks" / "workbench.lock").read_text()) == []
    differing = environments.differing_versions(another_lock())
    assert [line.split()[0] for line in differing] == ["click", "no-such-package"]
    assert "0.1" in differing[0] and "missing" in differing[1]


def test_a_reproduction_warns_in_one_line_of_an_environment_that_differs_from_the_lock(tmp_path, capsys):
    warn_of_environment(ROOT)
    warn_of_environment(tmp_path)  # without a lock DVC names the missing file
    assert capsys.readouterr().err == ""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/workbench.lock").write_text(another_lock())
    warn_of_environment(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 2 installed packages") and line.endswith(f"({environments.REINSTALL})")


def test_a_labelled_version_without_its_environment_is_missing(monkeypatch):
    names = ("answers", "triage")
    live = [f"{name}@{registry.load(ROOT, 'job', name).labels['production']}" for name in names]
    states = [(found.what, found.state) for found in machine.jobs(ROOT)]
    assert states == [(f"environment of {version}", "ok") for version in live]
    monkeypatch.setattr(machine.versions, "has_environment", lambda root, spec: False)
    missing = list(machine.jobs(ROOT))
    assert {(found.state, found.needed) for found in missing} == {("missing", True)}
    assert [found.fix for found in missing] == [f"workbench jobs install {version}" for version in live]
    assert not Diagnosis(findings=tuple(missing)).passed


def test_a_damaged_job_is_a_finding(tmp_path):
    (tmp_path / "pipelines/jobs/answers").mkdir(parents=True)
    (tmp_path / "pipelines/jobs/answers/asset.yaml").write_text("labels: [")
    (found,) = machine.jobs(tmp_path)
    assert found.state == "broken" and found.fix


def test_an_open_breaker_is_broken_until_its_probe_is_due_and_a_closed_one_is_ok(tmp_path):
    written = writer_of(tmp_path / ENDPOINTS, "https://x/v1", "m")
    at = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    written(
        Transition(state="open", since="…", reason="20 of 20 failed", probe_at="2026-01-01T12:01:00+00:00")
    )
    (found,) = endpoints.breakers(tmp_path, now=at)
    assert found.state == "broken" and found.needed and found.fix
    assert "20 of 20" in found.detail and "12:01:00" in found.detail and "m at https://x/v1" in found.what
    (later,) = endpoints.breakers(tmp_path, now=at + dt.timedelta(minutes=5))
    assert later.state == "ok", "the process that opened it is gone, or asks nothing"
    written(Transition(state="closed", since="now", reason="the probe was answered"))
    assert [found.state for found in endpoints.breakers(tmp_path, now=at)] == ["ok"]
    assert not list(endpoints.breakers(tmp_path / "elsewhere"))
