"""`gateway: auto`: the first call starts a private gateway of the repository, which has the keys."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from endpoint import endpoint
from gateways import running_gateway
from issuer import AUDIENCE, ISSUER, Issuer
from private_gateways import KEY, PARAMS, SECRET, Provider
from small_use_case import small_repository

import workbench as wb
from workbench import _sync, files, layout
from workbench.cli.app import cli
from workbench.diagnostics import gateway as diagnosis
from workbench.errors import ConfigError, RefusedError, UnavailableError, WorkbenchError
from workbench.workspace import chosen_boundary, gateway_place, gateway_process, gateway_verbs, provider_keys
from workbench.workspace.gateway_boundary import GatewayBoundary
from workbench.workspace.gateway_place import GatewayPlace
from workbench.workspace.gateway_process import GatewayProcess, listener, running, stop

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = f"""
identity:
  provider: oidc
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: jwks.json
  token_env: ID_TOKEN
  claims: {{tenant: org}}
"""
#: Columns of records that are the same whoever answers.
SAME_COLUMNS = (
    "session", "use_case", "tenant", "principal", "assurance", "purpose", "port", "operation", "target",
    "model", "prompt", "outcome", "error", "streamed", "events", "input_tokens", "output_tokens", "cost_usd",
    "saved_usd", "replayed", "source", "key", "labels", "hits", "data_class", "findings",
)  # fmt: skip
#: A caller in a process of its own, whose loop runs, and which forks.
CALLER = """\
import asyncio, os, sys
import workbench as wb

ws = wb.connect("answers")

async def main():
    assert ws.model().chat("sync inside a running loop").text
    assert (await ws.model().chat_async("async")).text

asyncio.run(main())
child = os.fork()
if child == 0:
    os._exit(0 if ws.model().chat("from a fork").text else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or ("AUTO_TEST_KEY" in os.environ))
"""


@pytest.fixture(scope="module")
def provider():
    found = Provider()
    with endpoint(found.answer) as url:
        found.url = url
        yield found


@pytest.fixture(scope="module")
def repository(provider, tmp_path_factory):
    """A repository below a path of more than 200 characters, whose gateways end with the module."""
    root = tmp_path_factory.mktemp("auto") / ("a" * 100) / ("b" * 100)
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS.replace("URL", provider.url))
    sockets = tmp_path_factory.mktemp("s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(sockets))
        patch.setenv(KEY, SECRET)
        patch.delenv(chosen_boundary.OFF_VARIABLE)
        yield root
        stop(GatewayPlace.of(root), grace_s=5)
        _sync.run(wb.connect("answers", root=root).boundary.aclose())
        provider_keys._taken.clear()


@pytest.fixture
def ws(repository):
    return wb.connect("answers", root=repository)


def the_gateway(root):
    [found] = running(GatewayPlace.of(root))
    return found


def kill(root):
    found = the_gateway(root)
    os.kill(found.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while listener(found.socket) is not None and time.monotonic() < until:
        time.sleep(0.01)
    return found


def test_one_process_answers_two_workspaces_and_holds_the_key_alone(ws, repository, provider):
    other = wb.connect("answers", root=repository, tenant="globex")
    assert isinstance(ws.boundary, GatewayBoundary)
    replies = [ws.model().chat("one"), other.model().chat("two")]
    found = the_gateway(repository)
    assert [reply.text for reply in replies] == ["an answer", "an answer"]
    assert provider.keys[-1] == SECRET
    assert KEY not in os.environ
    if sys.platform == "linux":
        for name in ("environ", "cmdline"):
            assert SECRET.encode() not in Path(f"/proc/{found.pid}/{name}").read_bytes()
    assert stat_of(found.socket) == (0o600, 0o700)
    assert {row["trace_id"] for row in ws.calls().to_dicts()} >= {reply.trace_id for reply in replies}


def stat_of(path):
    return path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777


def test_a_killed_gateway_is_started_by_the_next_call_and_gets_the_key_again(ws, repository, provider):
    ws.model().chat("before")
    before = kill(repository)
    assert ws.model().chat("after it was killed").text == "an answer"
    assert the_gateway(repository).pid != before.pid
    assert provider.keys[-1] == SECRET


def test_a_gateway_killed_during_a_call_is_a_clear_error(ws, repository, provider):
    provider.held.clear()
    failed = []

    def ask():
        try:
            ws.model().chat("wait for it")
        except WorkbenchError as error:
            failed.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    assert provider.held.wait(60)
    kill(repository)
    caller.join(30)
    assert isinstance(failed[0], UnavailableError)
    assert "gateway" in failed[0].message
    assert "again" in failed[0].hint


def test_a_caller_with_a_running_loop_that_forks_is_answered(repository):
    environment = {**os.environ, KEY: SECRET}
    done = subprocess.run(
        [sys.executable, "-c", CALLER], cwd=repository, env=environment, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_of_callers_at_once_one_starts_the_gateway(repository):
    stop(GatewayPlace.of(repository))
    process = GatewayProcess(place=GatewayPlace.of(repository))
    started = []
    callers = [threading.Thread(target=lambda: started.append(process.ensure())) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(90)
    assert sorted(started) == [False] * 7 + [True]
    the_gateway(repository)


def test_fewer_rights_reach_the_record_and_more_are_refused(ws):
    own = ws.context.principal
    narrow = ws.bind(principal=dataclasses.replace(own, groups=("everyone",), clearance=0, admin=False))
    reply = narrow.model().chat("with fewer rights")
    assert ws.why(reply).record["trace_id"] == reply.trace_id
    with pytest.raises(RefusedError, match="tenant 'globex'"):
        narrow.calls(tenant="globex")
    stated = dataclasses.asdict(dataclasses.replace(own, clearance=9))
    with pytest.raises(RefusedError, match="clearance"):
        ask(ws, "calls", principal=stated)


def ask(ws, verb, **fields):
    body = json.dumps({"use_case": "answers", "arguments": {}} | fields).encode()
    connection = ws.boundary.routes.connection
    answer = _sync.run(connection.request("POST", f"{gateway_verbs.ROUTE}{verb}", body))
    return gateway_verbs.decoded(json.loads(answer.body)["result"])


def test_verbs_on_records_are_the_same_from_the_gateway_as_from_the_files(ws):
    journey = ws.session("chat-1")
    reply = journey.model().chat("of a session")
    journey.outcome(reply, "resolved")
    there = remote(ws)
    assert there.boundary.verbs is not None
    for verb in ("calls", "costs", "sessions", "outcomes"):
        assert getattr(there, verb)().equals(getattr(ws, verb)()), verb
    assert there.calls(lazy=True).collect().equals(ws.calls())
    assert there.calls(trace=reply.trace_id, since="2020-01-01").height == 1
    assert there.why(reply) == ws.why(reply)
    assert there.impact() == ws.impact()
    assert there.impact(there.outcomes(), on="trace_id") == ws.impact(ws.outcomes(), on="trace_id")
    assert there.outcome(reply, "copied", value=0.5).value == 0.5
    assert ws.outcomes().filter(name="copied").height == 1
    assert ws.budget().lines[0].spent > 0
    assert ws.endpoints().columns == there.endpoints().columns
    for verb, arguments in (("content", {"reason": "a test"}), ("calls", {"limit": 0})):
        with pytest.raises(WorkbenchError) as here:
            getattr(ws, verb)(*([reply] if verb == "content" else []), **arguments)
        with pytest.raises(type(here.value)) as far:
            getattr(there, verb)(*([reply] if verb == "content" else []), **arguments)
        assert str(far.value) == str(here.value)


def remote(ws):
    """The workspace whose records are read by the gateway, as where the state cannot be read."""
    routes = dataclasses.replace(ws.boundary.routes, reads_state=False)
    return dataclasses.replace(ws, boundary=GatewayBoundary(ws.root, routes=routes))


@pytest.mark.parametrize(
    ("verb", "fields", "says"),
    [
        ("erase", {}, "erase"),
        ("calls", {"arguments": {"root": "/"}}, "root"),
        ("calls", {"surplus": 1}, "surplus"),
        ("impact", {"arguments": {"frame": {"$frame": "AAAA"}}}, "ValueError"),
        ("impact", {"arguments": {"frame": {"$value": "Popen", "fields": {}}}}, "ValueError"),
    ],
)
def test_an_odd_verb_is_refused_by_name(ws, verb, fields, says):
    with pytest.raises(ConfigError, match=says):
        ask(ws, verb, **fields)


def test_a_stored_key_serves_callers_without_one(repository, provider, monkeypatch):
    monkeypatch.chdir(repository)
    stop(GatewayPlace.of(repository))
    monkeypatch.setattr(provider_keys, "_taken", {})
    run = CliRunner().invoke
    assert run(cli, ["gateway", "secret", "set", KEY], input="sk-stored-42\n").exit_code == 0
    assert (repository / provider_keys.SECRETS).stat().st_mode & 0o777 == 0o600
    shown = run(cli, ["gateway", "secret", "list"]).output
    assert (KEY in shown, "sk-stored" in shown) == (True, False)
    ws = wb.connect("answers", root=repository)
    ws.model().chat("with the stored key")
    assert provider.keys[-1] == "sk-stored-42"
    assert run(cli, ["gateway", "secret", "set", KEY], input="sk-changed-43\n").exit_code == 0
    ws.model().chat("with the changed key")
    assert provider.keys[-1] == "sk-changed-43"
    assert run(cli, ["gateway", "secret", "remove", KEY]).exit_code == 0
    for name, secret in (("not a name", "x"), (KEY, ""), (KEY, "a\nb")):
        refused = run(cli, ["gateway", "secret", "set", name], input=secret)
        assert isinstance(refused.exception, ConfigError)
        assert secret == "" or secret not in str(refused.exception) or secret == "x"


def test_a_command_runs_without_the_keys_which_the_gateway_has(repository, provider):
    stop(GatewayPlace.of(repository))
    program = f"import os, sys; print({KEY!r} in os.environ, os.environ['OTHER']); sys.exit(7)"
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "gateway", "exec", "--", sys.executable, "-c", program],
        cwd=repository, env={**os.environ, KEY: "sk-of-the-command", "OTHER": "1"}, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "False 1\n", "")
    wb.connect("answers", root=repository, tenant="globex")
    assert the_gateway(repository)


def test_status_doctor_and_stop_name_the_process(ws, repository, monkeypatch):
    ws.model().chat("so that it runs")
    monkeypatch.chdir(repository)
    found = the_gateway(repository)
    run = CliRunner().invoke
    [row] = json.loads(run(cli, ["gateway", "status", "--json"]).output)
    assert (row["pid"], row["under_way"], row["own"]) == (found.pid, 0, True)
    [finding] = diagnosis.answering(repository, wb.config.load_params(repository))
    assert (finding.state, str(found.pid) in finding.detail) == ("ok", True)
    assert f"ended process {found.pid}" in run(cli, ["gateway", "stop"]).output
    assert run(cli, ["gateway", "status"]).exit_code == 1
    [finding] = diagnosis.answering(repository, wb.config.load_params(repository))
    assert "first call" in finding.detail


def test_a_gateway_that_nobody_calls_ends_and_leaves_no_socket(repository):
    place = GatewayPlace.of(repository)
    stop(place)
    GatewayProcess(place=place, idle_s=0.2).ensure()
    until = time.monotonic() + 30
    while place.socket.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert running(place) == []
    assert not place.socket.exists()


def test_a_gateway_of_other_code_is_not_asked(repository):
    place = dataclasses.replace(GatewayPlace.of(repository), code="0" * 64)
    with pytest.raises(UnavailableError, match="other code"):
        GatewayProcess(place=place).ensure()


def test_a_gateway_that_does_not_come_up_says_why(repository):
    stop(GatewayPlace.of(repository))
    params = repository / "params.yaml"
    good = params.read_text()
    params.write_text(good.replace("base_url", "base_ulr"))
    try:
        with pytest.raises(UnavailableError, match="while it started") as found:
            GatewayProcess(place=GatewayPlace.of(repository)).ensure()
    finally:
        params.write_text(good)
    assert "log" in found.value.hint
    assert "base_ulr" in (repository / gateway_process.LOG).read_text()


def test_a_repository_that_cannot_be_written_is_a_clear_error(tmp_path, repository):
    shutil.copy(repository / "params.yaml", tmp_path)
    (tmp_path / ".workbench").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot write") as found:
        GatewayProcess(place=GatewayPlace.of(tmp_path)).ensure()
    assert "gateway: off" in found.value.hint


def test_a_stale_socket_is_replaced(repository):
    place = GatewayPlace.of(repository)
    stop(place)
    place.socket.touch()
    assert GatewayProcess(place=place).ensure()
    the_gateway(repository)


def test_the_socket_of_another_user_is_not_asked(ws, repository, monkeypatch):
    ws.model().chat("so that it runs")
    path = the_gateway(repository).socket
    monkeypatch.setattr(gateway_process.os, "geteuid", lambda: 4711)
    with pytest.raises(WorkbenchError, match="served by the user"):
        listener(path)


@pytest.mark.parametrize("fault", ["link", "open"])
def test_a_folder_that_others_enter_is_refused(tmp_path, monkeypatch, fault):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(gateway_place, "MOST_PATH", 1_000)
    folder = tmp_path / f"workbench-{os.geteuid()}"
    if fault == "link":
        (tmp_path / "elsewhere").mkdir(0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir(0o755)
    with pytest.raises(ConfigError, match="only its user"):
        GatewayPlace.of(tmp_path)


@wb.task
def answer_with_passages(ws, case: wb.Question) -> wb.Answer:
    hits = ws.memory().search(case.question)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits))


def test_an_experiment_has_the_same_runs_and_records_as_in_this_process(repository, provider, tmp_path):
    """The second experiment replays what the first one asked, so that latencies are the same too."""
    experiment_in(tmp_path / "first", "off", provider.url)
    journal = (tmp_path / "first" / layout.JOURNAL).read_bytes()
    here, far = (experiment_in(tmp_path / mode, mode, provider.url, journal) for mode in ("off", "auto"))
    stop(GatewayPlace.of(tmp_path / "auto"))
    assert here["calls"] == far["calls"]
    assert here == far


def experiment_in(root, mode, url, journal=b""):
    """The bytes of the runs, and the facts of the calls, of a small experiment."""
    small_repository(root, endpoint=url)
    params = root / "params.yaml"
    params.write_text(f"gateway: {mode}\n{params.read_text()}")
    files.write_atomic(root / layout.JOURNAL, journal)
    ws = wb.connect("small", root=root)
    assert isinstance(ws.boundary, GatewayBoundary) == (mode == "auto")
    ws.memory().add(wb.load(root / "data" / "small"))
    arms, scorers = {"plain": {}, "candidate": {}}, [wb.contains(name="accuracy")]
    ws.experiment().compare(answer_with_passages, ws.cases(), arms=arms, scorers=scorers)
    calls = ws.calls().select(SAME_COLUMNS)
    ws.close()
    runs = root / layout.RUNS
    written = {str(path.relative_to(runs)): path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    return written | {"calls": sorted(calls.to_dicts(), key=str)}


def test_a_variable_turns_the_gateway_off_for_one_process(repository, monkeypatch):
    monkeypatch.setenv(chosen_boundary.OFF_VARIABLE, "off")
    assert not isinstance(wb.connect("answers", root=repository).boundary, GatewayBoundary)
    assert list(diagnosis.answering(repository, wb.config.load_params(repository))) == []
    monkeypatch.setenv(chosen_boundary.OFF_VARIABLE, "of")
    with pytest.raises(ConfigError, match="'of'"):
        wb.connect("answers", root=repository)


def test_the_page_does_what_it_says(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    page = (ROOT / "docs" / "gateway-notebooks.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 1
    namespace = {}
    for block in blocks:
        exec(block, namespace)
    for command in re.findall(r"^workbench (gateway [a-z ]+?)(?: [A-Z_]+)?$", page, re.MULTILINE):
        assert CliRunner().invoke(cli, [*command.split(), "--help"]).exit_code == 0


def test_the_bearers_of_tokens_are_who_the_issuer_says(repository, provider, tmp_path, monkeypatch):
    issuer = Issuer()
    (tmp_path / "jwks.json").write_bytes(issuer.jwks())
    text = PARAMS.replace("URL", provider.url) + IDENTITY
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", org="acme"))
    ws = wb.connect("answers", root=tmp_path)
    hers, his = ws.model().chat("of ann"), ws.bind(token=issuer.token(sub="bob", org="globex"))
    reply = his.model().chat("of bob")
    stop(GatewayPlace.of(tmp_path))
    records = [json.loads(line) for line in (tmp_path / layout.CALLS).read_text().splitlines()]
    known = {row["trace_id"]: (row["principal"], row["tenant"], row["assurance"]) for row in records}
    assert known[hers.trace_id] == ("ann", "acme", "authenticated")
    assert known[reply.trace_id] == ("bob", "globex", "authenticated")
    assert provider.keys[-1] == SECRET


def test_a_gateway_at_a_url_is_asked_with_the_key_of_the_environment(tmp_path, provider, monkeypatch):
    monkeypatch.delenv(chosen_boundary.OFF_VARIABLE, raising=False)
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "params.yaml").write_text(PARAMS.replace("URL", provider.url).replace("auto", "off"))
    provider_keys.store(there, KEY, "sk-of-the-server")
    with running_gateway(there) as found:
        url = f"http://{found.host}:{found.port}"
        (here / "params.yaml").write_text(PARAMS.replace("URL", provider.url).replace("auto", url))
        with pytest.raises(ConfigError, match=chosen_boundary.KEY_VARIABLE):
            wb.connect("answers", root=here)
        monkeypatch.setenv(chosen_boundary.KEY_VARIABLE, found.key)
        ws = wb.connect("answers", root=here)
        reply = ws.model().chat("far away")
        assert (reply.text, provider.keys[-1]) == ("an answer", "sk-of-the-server")
        assert ws.calls(trace=reply.trace_id).height == 1
        assert not (here / layout.CALLS).exists()
        ws.close()


@pytest.mark.parametrize("mode", ["live", "record", "replay"])
def test_a_stated_mode_is_answered_by_this_process(repository, mode):
    assert not isinstance(wb.connect("answers", root=repository, mode=mode).boundary, GatewayBoundary)
