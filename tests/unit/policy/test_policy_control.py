"""The control: what it notes, refuses and only observes, and the policies of a running process."""

import asyncio
import contextlib
import dataclasses
import json
import logging
from pathlib import Path

import pytest
from calls import Bench, Denials, ask, behind, chat, read, remembered, resource_of, search

import workbench as wb
from workbench.controls.policy import PolicyControl
from workbench.controls.stack import fold
from workbench.errors import ConfigError, PolicyError, RefusedError
from workbench.identity import Principal
from workbench.models.card import ModelCard
from workbench.policy.current import CurrentPolicy
from workbench.policy.engine import CedarPolicy
from workbench.policy.requests import from_record
from workbench.policy.source import FOLDER, read_builtin
from workbench.ports import ModelCandidate
from workbench.ports.policy import Decision
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary
from workbench.workspace.policies import control_of, model_resource

ROOT = Path(__file__).resolve().parents[3]
#: Nothing personal leaves this machine, and nobody but admins asks external models.
DRAFT = """
@id("no-external-personal") @reason("Personal data stays on this machine.")
forbid (principal, action in Workbench::Action::"ask", resource is Workbench::Model)
when { resource.external && context.data_class == "personal" };
"""
CLOSED = '@id("closed") forbid (principal, action in Workbench::Action::"read", resource);'


def folder_of(root, *texts):
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    builtin = read_builtin()
    (folder / "workbench.cedar").write_text(builtin.policies["workbench.cedar"])
    for number, text in enumerate(texts):
        (folder / f"more{number}.cedar").write_text(text)
    return folder


def external(name):
    return ModelCard.unsaved(name)


def handled(control, model):
    return fold({"policy": control}, behind(model))


def test_a_permitted_call_notes_its_decision_and_its_request(tmp_path):
    call = chat()
    ask(handled(control_of(CurrentPolicy(tmp_path), external), FakeModel(["yes"])), call)
    noted = call.span.facts["decision"]
    assert noted["allowed"] and noted["policies"] == ["ask-models"] and noted["action"] == "model.chat"
    assert len(noted["id"]) == 16 and CedarPolicy.builtin().digest.startswith(noted["policy_set"])
    request = from_record(json.loads(call.span.facts["policy_request"]), where="noted")
    assert CedarPolicy.builtin().decide(request).id == noted["id"]
    assert "a taxi?" not in str(call.span.facts), "names and numbers, never content"


def test_a_denied_call_is_not_made_and_its_error_names_the_decision(tmp_path):
    folder_of(tmp_path, DRAFT)
    call, model = chat(labels={"data_class": "personal"}), FakeModel(["yes"])
    with pytest.raises(PolicyError, match=r"no-external-personal.*Personal data stays") as caught:
        ask(handled(control_of(CurrentPolicy(tmp_path), external), model), call)
    assert not model.calls and caught.value.policies == ("no-external-personal",)
    assert caught.value.decision == call.span.facts["decision"]["id"]
    assert f"workbench audit explain {caught.value.decision}" in caught.value.hint
    assert ask(handled(control_of(CurrentPolicy(tmp_path), external), model), chat()), (
        "nothing personal is known of it"
    )


def test_the_class_of_data_is_looked_for_where_a_policy_depends_on_it(tmp_path):
    asked = []

    def personal(call):
        asked.append(call.operation)
        return "personal"

    control_of(CurrentPolicy(tmp_path), external, class_of=personal).check(chat())
    assert not asked
    folder_of(tmp_path, DRAFT)
    with pytest.raises(PolicyError, match="no-external-personal"):
        control_of(CurrentPolicy(tmp_path), external, class_of=personal).check(chat())
    control_of(CurrentPolicy(tmp_path), external, class_of=personal).check(search())
    with pytest.raises(PolicyError, match="no-external-personal"):  # a label lowers no class that is found
        control_of(CurrentPolicy(tmp_path), external, class_of=personal).check(
            chat(labels={"data_class": "public"})
        )
    assert asked.pop() == "chat"
    assert asked == ["chat"], "a memory is asked on this machine"


@pytest.mark.parametrize("verb", ["forget", "stats", "purge", "items", "count"])
def test_what_only_an_admin_may_is_denied_to_others(tmp_path, verb):
    control = control_of(CurrentPolicy(tmp_path), external)
    with pytest.raises(PolicyError, match=r"admins: in params\.yaml"):
        control.check(remembered(verb))
    control.check(remembered(verb, principal=Principal(name="eve", admin=True)))


def test_a_reader_of_its_own_needs_no_admin(tmp_path):
    control = control_of(CurrentPolicy(tmp_path), external)
    control.check(search())
    control.check(remembered("count", requester=object()))


def test_observed_denials_pass_and_are_noted(tmp_path):
    folder_of(tmp_path, DRAFT)
    call = chat(labels={"data_class": "personal"})
    call.span.note(would_refuse=["budget:all"])
    assert ask(handled(control_of(CurrentPolicy(tmp_path), external, observe=True), FakeModel(["yes"])), call)
    assert call.span.facts["would_refuse"] == ["budget:all", "policy:no-external-personal"]
    assert call.span.facts["decision"]["observed"] and not call.span.facts["decision"]["allowed"]


def test_observing_lifts_nothing_that_the_built_in_policies_deny(tmp_path):
    folder_of(tmp_path, DRAFT)
    control = control_of(CurrentPolicy(tmp_path), external, observe=True)
    with pytest.raises(PolicyError):
        control.check(remembered("forget"))
    control.check(remembered("forget", principal=Principal(name="eve", admin=True)))


def test_a_default_deny_is_observed_under_a_name(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "workbench.cedar").write_text(
        '@id("none") permit (principal, action == Workbench::Action::"approve", resource);'
    )
    call = chat()
    assert ask(handled(control_of(CurrentPolicy(tmp_path), external, observe=True), FakeModel(["yes"])), call)
    assert call.span.facts["would_refuse"] == ["policy:not-permitted"]


class Broken(Denials):
    """An engine that reports an error with every second decision."""

    times = 0

    def decide(self, request):
        self.times += 1
        bad = self.times % 2
        return Decision(
            id="e" * 16, allowed=not bad, errors=("it broke",) if bad else (), policy_set="p" * 64
        )


def test_a_failed_decision_denies_and_is_made_again():
    control = PolicyControl(Broken(), resource=resource_of)
    with pytest.raises(PolicyError, match="it broke"):
        control.check(chat())
    control.check(chat())
    control.check(chat())


def test_each_candidate_is_decided_and_the_first_denial_is_the_recorded_one(tmp_path):
    bench = Bench(tmp_path)
    bench.policy.targets |= {"small", "b"}
    call = dataclasses.replace(chat(), fallbacks=(ModelCandidate(target="b", model="b"),))
    with pytest.raises(PolicyError, match="'small'"):
        ask(bench.handler(FakeModel(["yes"])), call)
    assert json.loads(bench.records[0]["policy_request"])["resource"]["id"] == "small"
    bench.policy.targets.discard("b")
    other = dataclasses.replace(chat(), fallbacks=(ModelCandidate(target="b", model="b"),))
    ask(bench.handler(FakeModel(["yes"])), other)
    record = bench.records[1]
    assert record["fallback_reason"] == "policy" and record["decision"]["allowed"]
    assert json.loads(record["policy_request"])["resource"]["id"] == "b"


def test_a_refused_call_is_recorded_with_its_decision(tmp_path):
    bench = Bench(tmp_path)
    bench.policy.targets.add("small")
    with pytest.raises(PolicyError):
        ask(bench.handler(FakeModel()), chat())
    (record,) = bench.records
    assert record["outcome"] == "refused" and record["error"] == "PolicyError"
    assert (
        record["decision"]["policies"] == ["no-target"]
        and json.loads(record["policy_request"])["action"] == "model.chat"
    )


def test_calls_that_differ_in_content_alone_are_decided_once():
    asked = []

    class Counting(Denials):
        def decide(self, request):
            asked.append(request)
            return super().decide(request)

    control = PolicyControl(Counting(), resource=resource_of)
    for text in ("one", "two", "three"):
        control.check(chat(text))
    assert len(asked) == 1
    control.check(chat(labels={"data_class": "personal"}))
    who = dataclasses.replace(chat().context, tenant="globex")
    control.check(dataclasses.replace(chat(), context=who))
    assert len(asked) == 3 and asked[2].tenant == "globex"


def test_an_unknown_operation_is_named_by_the_stack_not_by_the_engine(tmp_path):
    with pytest.raises(RefusedError, match="unknown operation") as caught:
        ask(
            handled(control_of(CurrentPolicy(tmp_path), external), FakeModel()),
            dataclasses.replace(chat(), operation="chatt"),
        )
    assert not isinstance(caught.value, PolicyError)


def test_a_stream_is_passed_on_as_it_is(tmp_path):
    control, model = control_of(CurrentPolicy(tmp_path), external), FakeModel(["a b c"])
    events = asyncio.run(read(handled(control, model), chat(stream=True)))
    assert len(events) > 1


def test_models_on_this_machine_are_embedded_and_others_external():
    assert model_resource(external("m"), "acme").attributes["external"]
    local = dataclasses.replace(external("m"), provider="local")
    assert not model_resource(local, "acme").attributes["external"]


def test_a_broken_set_stops_the_start(tmp_path):
    folder_of(tmp_path, "permit (principal action, resource);")
    with pytest.raises(ConfigError, match=r"more0\.cedar"):
        control_of(CurrentPolicy(tmp_path), external)


def test_a_broken_reload_keeps_the_last_good_set_and_says_so_once(tmp_path, caplog):
    folder, now = folder_of(tmp_path), [0.0]
    current = CurrentPolicy(tmp_path, clock=lambda: now[0])
    first = current.digest
    (folder / "more0.cedar").write_text("permit (principal action, resource);")
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            now[0] += 2
            assert current.digest == first
    assert len(caplog.records) == 1 and "more0.cedar" in caplog.text
    (folder / "more0.cedar").write_text(DRAFT)
    now[0] += 2
    assert current.digest == first, "the file may be half written"
    now[0] += 2
    assert current.digest != first and not current.problem


def test_changed_policies_decide_the_next_call(tmp_path):
    folder, now = folder_of(tmp_path), [0.0]
    current = CurrentPolicy(tmp_path, clock=lambda: now[0])
    control = PolicyControl(current, resource=resource_of)
    control.check(search())
    (folder / "more0.cedar").write_text('@id("stop") forbid (principal, action, resource);')
    control.check(search())  # within a second of the last look
    for _ in range(2):
        now[0] += 2
        control._policy.active()
    with pytest.raises(PolicyError, match="stop"):
        control.check(search())


def test_a_folder_that_is_removed_permits_no_more_than_before(tmp_path, caplog):
    folder, now = folder_of(tmp_path, '@id("stop") forbid (principal, action, resource);'), [0.0]
    control = PolicyControl(CurrentPolicy(tmp_path, clock=lambda: now[0]), resource=resource_of)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    for _ in range(2):
        now[0] += 2
        control._policy.active()
    with pytest.raises(PolicyError, match="stop"):
        control.check(search())
    assert "is gone" in caplog.text


@pytest.mark.parametrize(("more", "made"), [((), ["embed", "search"]), ((CLOSED,), ["search"])])
def test_the_question_of_a_denied_search_is_not_embedded(tmp_path, more, made):
    folder_of(tmp_path, *more)
    for name in ("memories", "models", "prompts"):
        (tmp_path / "pipelines" / name).symlink_to(ROOT / "pipelines" / name)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    boundary = Boundary(tmp_path, mode="live", tape=Tape(tmp_path / "t"))
    with contextlib.closing(wb.connect("answers", root=tmp_path, through=boundary)) as ws:
        refused = pytest.raises(PolicyError, match="closed") if more else contextlib.nullcontext()
        with refused:
            ws.memory().search("May I take a taxi?")
        assert ws.calls()["operation"].to_list() == made
