"""Sealed content: what is kept, who may open it, that it is unreadable without its key, and erasing."""

import base64
import dataclasses
import datetime as dt
import itertools
import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench import config, layout, registry
from workbench.audit import Filter, rows_of
from workbench.cli.app import cli
from workbench.config import ContentKeeping
from workbench.content import ContentKeys, ContentStore
from workbench.content.keys import KEY_VARIABLE
from workbench.errors import ConfigError, CorruptError, NotFoundError, PolicyError, RefusedError
from workbench.models import ModelCard
from workbench.ports import Forgotten, Selector
from workbench.records.calls import read_calls
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.opening import content_at, erase_forgotten

ROOT = Path(__file__).resolve().parents[2]
DAY = dt.date(2026, 12, 30)
CANARY = "CANARY lives at Canal Street 7"


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "content", ContentKeys(tmp_path / "keys", environment={}))


def seal(store, text=CANARY, *, subject="cust-1", tenant="acme", expires=DAY):
    return store.seal(
        {"principal": "ada.lovelace", "operation": "chat", "request": {"text": text},
         "answer": {"text": text}},
        subject=subject, expires=expires, at="2026-11-30T09:00:00.000000+00:00", use_case="answers",
        tenant=tenant, trace_id="t1", data_class="personal",
    )  # fmt: skip


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def forms(text: str) -> list[bytes]:
    """Return a text as it could stand in a file: as it is, and in base64 at each alignment."""
    raw = text.encode()
    return [raw, *(base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3))]


def test_content_is_sealed_and_opened(store):
    content = seal(store)
    sealed = store.open(content)
    assert (sealed.request, sealed.answer, sealed.principal) == (
        {"text": CANARY},
        {"text": CANARY},
        "ada.lovelace",
    )
    assert (sealed.entry.tenant, sealed.entry.expires, sealed.entry.trace_id) == ("acme", "2026-12-30", "t1")
    assert [entry.id for entry in store.entries()] == [content]


def test_nothing_is_readable_without_the_key(store, tmp_path):
    names = (CANARY, "cust-4711-of-acme", "ada.lovelace")
    seal(store, subject=names[1])
    seal(store, subject="")
    written = bytes_of(tmp_path)
    assert not any(form in written for name in names for form in forms(name))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*") if path.is_file()} == {0}


def test_erasing_a_subject_makes_all_of_its_content_unreadable_and_no_other(store):
    gone, again = seal(store), seal(store)
    kept = [seal(store, subject="cust-2"), seal(store, tenant="globex"), seal(store, subject="")]
    assert store.erase("acme", "cust-1") and not store.erase("acme", "cust-1")
    for content in (gone, again):
        with pytest.raises(NotFoundError, match="erased"):
            store.open(content)
    assert [store.open(content).request for content in kept] == [{"text": CANARY}] * 3
    later = seal(store)
    assert store.open(later).request == {"text": CANARY} and not store.is_readable(store.entry(gone))
    with pytest.raises(NotFoundError, match="erased"):
        store.open(gone)


def test_another_process_that_knew_the_key_cannot_open_what_was_erased(store, tmp_path):
    content = seal(store)
    other = ContentStore(tmp_path / "content", ContentKeys(tmp_path / "keys", environment={}))
    assert other.open(content).request == {"text": CANARY}
    store.erase("acme", "cust-1")
    with pytest.raises(NotFoundError, match="erased"):
        other.open(content)
    assert other.open(seal(other)).request == store.open(seal(store)).request


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_changed_byte_of_an_entry_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("changed")
    store = ContentStore(folder / "content", ContentKeys(folder / "keys", environment={}))
    content = seal(store)
    (path,) = (folder / "content").glob("*.jsonl")
    line = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(line)
    with pytest.raises((CorruptError, NotFoundError)):
        store.open(content)


def test_an_entry_under_the_name_of_another_is_not_opened(store, tmp_path):
    one, two = seal(store, "first"), seal(store, "second")
    (path,) = (tmp_path / "content").glob("*.jsonl")
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["sealed"] = lines[1]["sealed"]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    with pytest.raises(CorruptError):
        store.open(one)
    assert store.open(two).request == {"text": "second"}


def test_what_is_expired_is_removed(store, tmp_path):
    old, new = seal(store, expires=DAY), seal(store, expires=DAY + dt.timedelta(days=1))
    assert store.purge(DAY) == 0 and store.purge(DAY + dt.timedelta(days=1)) == 1
    with pytest.raises(NotFoundError, match="no sealed content"):
        store.open(old)
    assert store.open(new) and len(list((tmp_path / "content").glob("*.jsonl"))) == 1


def test_expired_content_is_not_opened_and_is_removed_by_the_next_call(ws):
    past = dt.date(2026, 1, 1)
    old = seal(ws.boundary.content, subject="", expires=past)
    with pytest.raises(NotFoundError, match="expired on 2026-01-01"):
        ws.content(old, reason="r")
    ws.model("m").chat("hello")
    assert [entry.id != old for entry in ws.boundary.content.entries()] == [True]


@pytest.mark.parametrize("content", ["", "x", "../keys/master", "20261230-0000000000000000", "a" * 10_000])
def test_an_id_without_content_is_named(store, content):
    seal(store)
    with pytest.raises(NotFoundError, match="no sealed content"):
        store.open(content)


def test_a_torn_line_of_a_kill_hides_no_other_content(store, tmp_path):
    first = seal(store)
    (path,) = (tmp_path / "content").glob("*.jsonl")
    path.write_bytes(path.read_bytes() + path.read_bytes()[:100])
    second = seal(store)
    assert store.open(first) and store.open(second)
    assert [entry.id for entry in store.entries()] == [first, second]


@pytest.mark.parametrize("text", ["", "short", "zz" * 32])
def test_a_wrong_master_key_is_refused(tmp_path, text):
    keys = ContentKeys(tmp_path / "keys", environment={KEY_VARIABLE: text} if text else {})
    if not text:
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "master.key").write_text("x")
    with pytest.raises(ConfigError, match=r"master\.key|WORKBENCH_CONTENT_KEY"):
        keys.of("acme", "s")


def test_content_of_another_master_key_is_not_opened(tmp_path):
    ours, theirs = ({KEY_VARIABLE: digit * 64} for digit in "ab")
    content = seal(ContentStore(tmp_path / "content", ContentKeys(tmp_path / "keys", environment=ours)))
    assert not (tmp_path / "keys" / "master.key").exists()
    other = ContentStore(tmp_path / "content", ContentKeys(tmp_path / "keys", environment=theirs))
    with pytest.raises(CorruptError, match="master key"):
        other.open(content)


SEALER = """
import datetime as dt, sys; sys.path.insert(0, {root!r})
from pathlib import Path
from workbench.content import ContentKeys, ContentStore
store = ContentStore(Path({home!r}) / "content", ContentKeys(Path({home!r}) / "keys", environment={{}}))
for n in range(60):
    content = {{"principal": "ada", "operation": "chat", "request": n, "answer": n}}
    print(store.seal(content, subject=f"s{{n % 3}}", expires=dt.date(2026, 12, 30), at="x", use_case="a",
                     tenant="acme", trace_id="t", data_class=""))
"""


def test_two_processes_share_keys_and_files(store, tmp_path):
    script = SEALER.format(root=str(ROOT), home=str(tmp_path))
    writers = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in "ab"]
    ids = [content for writer in writers for content in writer.communicate()[0].decode().split()]
    assert len(ids) == 120 and all(store.open(content) for content in ids)


# -- in a workspace -------------------------------------------------------------------------------


@pytest.fixture
def ws(tmp_path, monkeypatch):
    """A repository of its own whose use case keeps content, with one model."""
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    keeping = ContentKeeping(keep="30 days", classes={"personal": "7 days", "secret": False})
    boundary = Boundary(
        tmp_path, mode="live", tape=Tape(tmp_path / "t"), cards=[ModelCard.unsaved("m")],
        places=StatePaths(home=tmp_path, keeping=keeping),
    )  # fmt: skip
    boundary._models["m"] = FakeModel()
    made = wb.connect("answers", root=tmp_path, through=boundary)
    yield made
    made.close()


def rows(ws, **which) -> list[dict]:
    return rows_of(ws.root / layout.AUDIT, Filter(**which), ws.root / layout.AUDIT_KEYS)


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["content", *arguments])
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_exact_request_and_answer_of_a_reply_are_opened_for_a_reason(ws):
    reply = ws.bind(subject="cust-4711").model("m").chat(CANARY)
    sealed = ws.content(reply, reason="complaint 4711")
    assert sealed.request["messages"][-1]["content"] == CANARY
    assert sealed.answer["choices"][0]["message"]["content"] == reply.text
    assert f"content  {sealed.entry.id}" in str(ws.why(reply))
    begun, done = rows(ws, action="open_content")
    assert (begun["status"], done["status"]) == ("Begun", "Success")
    assert done["resource"] == {"type": "Content", "name": sealed.entry.id} and done["decision"]["allowed"]
    assert done["decision"]["id"] and done["decision"]["policies"]
    assert "complaint" not in str(done)


def test_who_opens_content_sees_who_opened_it_before_and_why(ws):
    reply = ws.model("m").chat(CANARY)
    assert ws.content(reply, reason="complaint of Jane").openings == ()
    (before,) = ws.content(reply, reason="again").openings
    assert (before.principal, before.reason) == (ws.context.principal.name, "complaint of Jane")
    assert len(list(ws.boundary.content.entries())) == 1
    assert not any(form in bytes_of(ws.root / layout.CONTENT) for form in forms("complaint of Jane"))


def test_a_torn_opening_of_a_kill_hides_no_content(ws):
    reply = ws.model("m").chat(CANARY)
    ws.content(reply, reason="first")
    (path,) = (ws.root / layout.CONTENT).glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-60])
    assert ws.content(reply, reason="second").openings == ()
    assert [item.reason for item in ws.content(reply, reason="third").openings] == ["second"]


def test_no_file_of_the_workbench_has_the_content(ws):
    ws.bind(subject="cust-4711").model("m").chat(CANARY)
    ws.close()
    written = bytes_of(ws.root / layout.STATE)
    assert not any(form in written for form in [*forms(CANARY), b"cust-4711"])


def test_a_stream_a_failure_and_a_refusal_are_kept_too(ws):
    text = "".join(chunk for chunk in ws.model("m").stream(CANARY) if isinstance(chunk, str))
    ws.boundary._models["m"] = FakeModel(lambda _: RefusedError("no key", status=401))
    with pytest.raises(RefusedError):
        ws.model("m").chat("second")
    streamed, refused = read_calls(ws.root / layout.CALLS)["content"].to_list()
    assert "second" in str(ws.content(refused, reason="r").request)
    assert ws.content(refused, reason="r").answer is None
    answer = ws.content(streamed, reason="r").answer["choices"][0]["message"]["content"]
    assert answer and (not text or answer == text)


def test_a_call_whose_content_cannot_be_sealed_fails_and_is_recorded(ws):
    keys = ws.root / layout.CONTENT_KEYS
    keys.mkdir(parents=True)
    (keys / "master.key").write_text("damaged")
    with pytest.raises(ConfigError, match=r"master\.key"):
        ws.model("m").chat(CANARY)
    (record,) = read_calls(ws.root / layout.CALLS).to_dicts()
    assert (record["outcome"], record["error"], record["content"]) == ("failed", "ConfigError", None)
    assert [row["status"] for row in rows(ws, action="model.chat")] == ["Failure"]


def test_retention_is_by_the_class_of_data(ws):
    for text in ("Hello.", "Write to jane.doe@example.com.", f"The key is ghp_{'a1B2c3D4' * 4}Zz19."):
        ws.model("m").chat(text)
    found = [(entry.data_class, entry.expires) for entry in ws.boundary.content.entries()]
    today = dt.datetime.now(dt.UTC).date()
    days = {name: (dt.date.fromisoformat(expires) - today).days for name, expires in found}
    assert days == {"personal": 7, "": 30} and read_calls(ws.root / layout.CALLS)["content"].null_count() == 1
    assert ContentKeeping().days("") is None and not ContentKeeping().is_on


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2_000])
def test_content_is_not_opened_without_a_reason(ws, reason):
    reply = ws.model("m").chat(CANARY)
    with pytest.raises(ConfigError, match="reason"):
        ws.content(reply, reason=reason)


def test_a_principal_without_the_right_is_refused_and_the_attempt_is_audited(ws):
    reply = ws.model("m").chat(CANARY)
    weaker = ws.bind(principal=dataclasses.replace(ws.context.principal, admin=False))
    with pytest.raises(PolicyError):
        weaker.content(reply, reason="curious")
    assert [row["status"] for row in rows(ws, action="open_content")] == ["Begun", "Failure"]
    assert rows(ws, action="open_content")[-1]["status_detail"] == "PolicyError"


def test_content_of_another_tenant_is_refused(ws):
    reply = ws.model("m").chat(CANARY)
    (entry,) = ws.boundary.content.entries()
    for content in (entry.id, "20261230-0123456789abcdef"):  # the one is refused as the other
        with pytest.raises(NotFoundError, match=f"no sealed content has the id '{content}'\n"):
            ws.bind(tenant="globex").content(content, reason="r")
    assert ws.content(reply, reason="r").entry.tenant == "acme"


def test_a_reply_whose_content_is_not_kept_says_how_to_keep_it(tmp_path, ws):
    plain = Boundary(
        ws.root, mode="live", tape=Tape(tmp_path / "t"), cards=[ModelCard.unsaved("m")],
        places=StatePaths(home=ws.root),
    )  # fmt: skip
    plain._models["m"] = FakeModel()
    reply = wb.connect("answers", root=ws.root, through=plain).model("m").chat(CANARY)
    with pytest.raises(NotFoundError, match="not kept"):
        ws.content(reply, reason="r")


def test_an_admin_of_another_use_case_opens_nothing_and_erases_nothing(ws, monkeypatch):
    reply = ws.bind(subject="cust-1").model("m").chat(CANARY)
    (entry,) = ws.boundary.content.entries()
    other = wb.connect("triage", root=ws.root, tenant=entry.tenant, through=ws.boundary)
    with pytest.raises(PolicyError, match="open_content"):
        other.content(entry.id, reason="curious")
    params = (ws.root / "params.yaml").read_text()
    (ws.root / "params.yaml").write_text(
        params.replace("  triage:\n", "  triage:\n    admins: [nobody]\n", 1)
    )
    with pytest.raises(PolicyError, match="open_content"):
        run("erase", "--tenant", entry.tenant, "--subject", "cust-1")
    with pytest.raises(PolicyError, match="open_content"):
        run("purge")
    assert ws.content(reply, reason="complaint")
    (ws.root / "params.yaml").write_text(params)
    assert "destroyed" in run("erase", "--tenant", entry.tenant, "--subject", "cust-1")
    with pytest.raises(NotFoundError, match="erased"):
        ws.content(reply, reason="complaint")


def test_forgetting_a_subject_erases_its_content(ws):
    reply = ws.bind(subject="cust-4711").model("m").chat(CANARY)
    other = ws.bind(subject="cust-2").model("m").chat(CANARY)
    version = max(registry.load(ws.root, "memory", "handbook").versions)
    copy = ws.root / layout.JOB_WORK / "r1" / layout.COPIES / f"answers/handbook/{version}.sqlite"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"torn")  # of a run on trial
    ws.memory("handbook").forget(subject="cust-4711", dry_run=True)
    assert ws.content(reply, reason="r") and copy.is_file()
    ws.memory("handbook").forget(subject="cust-4711")
    assert not copy.exists()
    with pytest.raises(NotFoundError, match="erased"):
        ws.content(reply, reason="r")
    assert ws.content(other, reason="r")
    erased = rows(ws, action="erase")[-1]
    assert erased["facts"] == {"keys": True} and erased["subject_uid"] and "cust" not in str(erased)


def test_a_legal_hold_keeps_the_content_of_a_subject(ws):
    ws.bind(subject="cust-4711").model("m").chat(CANARY)
    (entry,) = ws.boundary.content.entries()
    call = ws._call("memory", "forget", "handbook", {"what": Selector(subject="cust-4711")})
    erase_forgotten(ws.root, ws.boundary.content, call, Forgotten(items=0, kept=("a",)))
    assert ws.boundary.content.open(entry.id)
    erase_forgotten(ws.root, ws.boundary.content, call, Forgotten(items=0))
    assert not ws.boundary.content.is_readable(entry)


def test_the_commands_list_open_erase_and_purge(ws, monkeypatch):
    ws.bind(subject="cust-4711").model("m").chat(CANARY)
    (entry,) = json.loads(run("list", "--json"))
    assert "sealed" in run("list", "--tenant", "acme") and "none" in run("list", "--tenant", "globex")
    assert CANARY in run("open", entry["id"], "--reason", "complaint")
    assert "destroyed" in run("erase", "--tenant", "acme", "--subject", "cust-4711")
    assert "nothing" in run("erase", "--tenant", "acme", "--subject", "nobody")
    assert "erased" in run("list")
    with pytest.raises(NotFoundError, match="erased"):
        run("open", entry["id"], "--reason", "complaint")
    assert "removed 0" in run("purge")
    assert rows(ws, action="erase")
    assert rows(ws, action="purge_content")[-1]["facts"] == {"entries": 0}


def with_content(folder: Path, content: str) -> Path:
    text = (ROOT / "params.yaml").read_text()
    stated = text.replace("\n  answers:\n", f"\n  answers:\n    content: {content}\n", 1)
    (folder / "params.yaml").write_text(stated)
    return folder


@pytest.mark.parametrize("content", ["{keep: off}", "{keep: false}", "{}"])
def test_content_may_be_off(tmp_path, content):
    found = config.load_params(with_content(tmp_path, content)).use_cases["answers"].content
    assert not found.is_on and found.days("") is None


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{keep: 30}", "keep"), ("{keep: 0 days}", "days"), ("{keep: 99999 days}", "days"),
        ("{keep: for ever}", "days"), ("{keep: 5 days, classes: {personal: x}}", "personal"),
        ("{kept: 1}", "keep"), ("{keep: 5 days, classes: {personl: 7 days}}", "nearest: 'personal'"),
    ],
)  # fmt: skip
def test_a_wrong_duration_is_named(tmp_path, content, word):
    with pytest.raises(ConfigError, match=word):
        config.load_params(with_content(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "form"),
    [("{keep: 90}", "keep: 90 days"), ("{classes: {secret: 7}}", "secret: 7 days"), ("{keep: 0}", "30 days")],
)
def test_a_bare_number_gets_its_form(tmp_path, content, form):
    with pytest.raises(ConfigError, match="not days") as caught:
        config.load_params(with_content(tmp_path, content))
    assert form in caught.value.hint


def test_the_state_is_found_again_by_another_process(ws):
    reply = ws.model("m").chat(CANARY)
    content_at.cache_clear()
    assert ws.content(reply, reason="r").request
    assert len(list(itertools.islice(content_at(ws.root).entries(), 5))) == 1
