"""Asking recorded questions again: of which tape, in which order, and what is noted."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from small_use_case import small_repository

from workbench import config, layout
from workbench.errors import RefusedError
from workbench.pipeline import repro
from workbench.pipeline.repro import _record, ask_again, make_tapes
from workbench.records.confirmed import Confirmed, Summary, answers_of
from workbench.records.keys import Entry, RecordedRequest, processor
from workbench.records.tape import Tape, write
from workbench.types import Event
from workbench.workspace.boundary import Boundary


def reply(text):
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def entry(name, answer="yes", *, operation="model.chat"):
    request = {"model": "smollm2-135m", "messages": [{"role": "user", "content": name}]}
    question = RecordedRequest(operation=operation, identity={"weights": "w"}, request=request, case="q1")
    return Entry(
        key=question.key, question=question, target="smollm2-135m", result={"events": [reply(answer)]},
        latency_s=1.0, first_event_s=1.0, processor=processor(),
    )  # fmt: skip


def entries(kind, number):
    return [entry(f"{kind}{n}") for n in range(number)]


class Repository:
    """A repository whose model answers `yes`, or what `answers` says; `asked` are the questions."""

    def __init__(self, root):
        self.root = small_repository(root)
        self.case = config.load_params(root).use_cases["small"]
        self.judge, self.own = root / layout.judge_tape_of("small"), root / layout.tape_of("small")
        self.log = Confirmed(root / layout.CONFIRMED)
        self.asked, self.answers = [], {}

    async def model(self, call):
        name = call.payload["messages"][0]["content"]
        self.asked.append(name)
        answer = self.answers.get(name, "yes")
        if isinstance(answer, Exception):
            raise answer
        yield Event(data=reply(answer))

    def again(self, **how):
        """Ask again; return the report and the names of the asked questions."""
        self.asked.clear()
        done = ask_again(self.root, "small", self.case, **how)
        return done, sorted(self.asked)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    made = Repository(tmp_path)
    monkeypatch.setattr(Boundary, "_model", made.model)
    return made


def keys(found):
    return [item.key for item in found]


def names_of(found):
    return {item.question.request["messages"][0]["content"] for item in found}


@pytest.mark.parametrize("missing", [True, False])
def test_without_judged_answers_the_same_seeded_sample_of_the_other_tape_is_asked(repository, missing):
    if not missing:
        write(repository.judge, [])
        repository.judge.touch()
    write(repository.own, [item.line() for item in entries("own", 30)])
    first, names = repository.again()
    assert (first.recorded, first.asked, first.identical, first.judged) == (30, 10, 10, 0)
    assert repository.again()[1] == names and len(set(names)) == 10
    assert str(first).startswith("small: 10 of 10 answers asked again are identical (30 recorded")


def test_judged_answers_come_first_and_repeated_reproductions_confirm_all_of_them(repository):
    judged, own = entries("judged", 25), entries("own", 8)
    write(repository.judge, [item.line() for item in judged])
    write(repository.own, [item.line() for item in own])
    seen = set()
    for asked, judged_now in ((10, 10), (10, 10), (10, 5)):
        done, names = repository.again()
        assert (done.asked, done.judged, done.recorded) == (asked, judged_now, 33)
        assert not seen & set(names)
        seen |= set(names)
    assert repository.log.of(keys(judged)).n == 25
    _, names = repository.again()
    assert {f"own{n}" for n in range(8)} <= seen | set(names)
    assert repository.log.of(keys(own)).n == 8
    _, names = repository.again()
    assert all(name.startswith("judged") for name in names) and repository.again()[1] == names


@pytest.mark.parametrize(("sample", "asked"), [(None, 10), (3, 3), (0, 0)])
def test_a_reproduction_asks_as_many_questions_again_as_it_is_told(
    repository, monkeypatch, capsys, sample, asked
):
    write(repository.judge, [item.line() for item in entries("judged", 12)])
    for name in ("install_promoted", "run_pipeline", "judged_run"):
        monkeypatch.setattr(repro, name, lambda *_, **__: 0)
    monkeypatch.setattr(repro, "judged", lambda *_: SimpleNamespace(exit_code=4, to_json=dict))
    done = repro.reproduce(repository.root, sample=sample)
    assert len(repository.asked) == asked and done.exit_code == 4
    assert [report.asked for report in done.asked.values()] == [asked] * bool(asked)
    said = capsys.readouterr().out
    assert ("asked again" in said) is bool(asked) and done.governance.calls == asked
    assert sum(line.startswith("governance: ") for line in said.splitlines()) == 1
    assert done.to_json()["governance"]["calls"] == asked


def test_the_sample_is_drawn_by_the_seed(repository, tmp_path):
    write(repository.judge, [item.line() for item in entries("judged", 25)])
    _, names = repository.again()
    repository.log.path.unlink()
    assert repository.again()[1] == names


def test_a_different_answer_is_noted_as_different_and_never_asked_questions_go_first(repository):
    judged = entries("judged", 12)
    write(repository.judge, [item.line() for item in judged])
    repository.answers = {f"judged{n}": "no" for n in range(12)}
    first, names = repository.again()
    assert (first.asked, first.identical, len(first.differences)) == (10, 0, 10)
    assert repository.log.of(keys(judged)).different == 10
    repository.answers = {}
    _, again = repository.again()
    assert {f"judged{n}" for n in range(12)} - set(names) <= set(again)
    assert (repository.log.of(keys(judged)).n, repository.log.of(keys(judged)).different) == (10, 2)
    before = repository.judge.read_bytes()
    repository.again()
    assert repository.log.of(keys(judged)).n == 12 and repository.judge.read_bytes() == before


def test_all_of_both_tapes_are_asked_and_each_is_recorded_in_its_own(repository):
    both = entry("both")
    judged, own = [*entries("judged", 12), both], [*entries("own", 3), both]
    write(repository.judge, [item.line() for item in judged])
    write(repository.own, [item.line() for item in own])
    repository.answers = {"judged1": "no", "own1": "no", "both": "no"}
    done, names = repository.again(sample=None)
    assert (done.recorded, done.asked, done.identical, done.judged) == (16, 16, 13, 13) and len(names) == 16
    every = {*keys(judged), *keys(own)}
    assert (repository.log.of(every).n, repository.log.of(every).different) == (13, 3)
    before = repository.judge.read_bytes(), repository.own.read_bytes()
    repository.again(sample=None, record=True)
    for path, old, recorded in ((repository.judge, judged, before[0]), (repository.own, own, before[1])):
        now = {found.key: found for found in Tape.read(path).entries()}
        assert sorted(now) == sorted(keys(old)) and path.read_bytes() != recorded
        changed = names_of(item for item in old if now[item.key] != item)
        assert changed == set(repository.answers) & names_of(old)
    assert repository.log.of(every).n == 16  # the recording is now what the model answered
    for path, old in ((repository.judge, judged), (repository.own, own)):
        assert repository.log.of(answers_of(Tape.read(path).entries())).n == len(old)
    assert repository.again(sample=None)[0].identical == 16


def test_a_tape_with_other_answers_to_the_same_questions_is_not_confirmed_by_the_earlier_ones(repository):
    judged = entries("judged", 3)
    write(repository.judge, [item.line() for item in judged])
    assert repository.again()[0].identical == 3 == repository.log.of(answers_of(judged)).n
    other = [entry(f"judged{n}", "no") for n in range(3)]
    write(repository.judge, [item.line() for item in other])
    assert repository.log.of(answers_of(other)) == Summary(n=0)
    repository.again()
    assert repository.log.of(answers_of(other)) == Summary(n=0, different=3)
    repository.answers = {f"judged{n}": "no" for n in range(3)}
    repository.again()
    assert repository.log.of(answers_of(Tape.read(repository.judge).entries())).n == 3


def test_answers_that_came_before_a_failure_are_noted(repository):
    write(repository.judge, [item.line() for item in entries("judged", 12)])
    repository.answers = {"judged3": RefusedError("the endpoint is away", status=403)}
    done, _ = repository.again(sample=None)
    assert (done.asked, done.refused, done.recorded) == (0, "the endpoint is away", 12)
    assert 0 < repository.log.of(keys(entries("judged", 12))).n < 12


def test_a_sample_never_asks_counts_of_tokens_or_recorded_refusals(repository):
    refused = {"refused": {"message": "no", "hint": "", "status": 400, "body": ""}}
    no = dataclasses.replace(entry("refused"), result=refused)
    counts = [entry(f"count{n}", operation="model.count") for n in range(5)]
    write(repository.judge, [item.line() for item in (*counts, no, entry("judged"))])
    done, names = repository.again()
    assert names == ["judged"] and done.recorded == 7


def test_the_report_of_a_use_case_is_kept_as_json(repository):
    write(repository.judge, [entry("judged").line()])
    repository.again()
    report = json.loads((repository.root / layout.LIVE / "small.json").read_bytes())
    assert (report["asked"], report["judged"], report["identical"]) == (1, 1, 1)


def test_recording_leaves_a_missing_tape_missing(tmp_path):
    _record([Tape(tmp_path / "none.jsonl")], [entry("one")], [([Event(data=reply("no"))], 1.0)])
    assert not (tmp_path / "none.jsonl").exists()


def test_both_tapes_of_a_use_case_are_made_empty_and_kept_when_there(repository):
    write(repository.own, [entry("own").line()])
    before = repository.own.read_bytes()
    for _ in range(2):
        make_tapes(repository.root, config.load_params(repository.root))
        assert (repository.judge.read_bytes(), repository.own.read_bytes()) == (b"", before)
