# ruff: noqa: E501  - one line a check
"""The key `moderation` of params.yaml: what it may state, and the control that is made of it."""

import dataclasses
from pathlib import Path

import pytest
from calls import ask, behind, chat, text

from workbench import config, layout
from workbench.controls.stack import fold
from workbench.errors import ConfigError, ModerationError, NotFoundError
from workbench.models import ModelCard
from workbench.moderation.hooks import KINDS
from workbench.pipeline.settings import of_stage
from workbench.testing.fakes import FakeModel
from workbench.workspace.moderating import Moderating, hooks_of

ROOT = Path(__file__).resolve().parents[3]
ONE = "{check: instructions, direction: in, severity: flag}"


def params(tmp_path, *checks, more="", phase="mvp"):
    lines = "".join(f"        - {check}\n" for check in checks)
    block = f"    moderation:\n{more}      checks:\n{lines}" if checks else "    moderation: {checks: []}\n"
    source = (ROOT / "params.yaml").read_text()
    source = source.replace("    phase: mvp ", f"    phase: {phase} ", 1)
    (tmp_path / "params.yaml").write_text(
        source.replace("    concurrency: 2\n", f"    concurrency: 2\n{block}", 1)
    )
    return config.load_params(tmp_path).use_cases["answers"]


def test_checks_are_stated_as_data(tmp_path):
    case = params(
        tmp_path,
        ONE,
        "{check: exfiltration, direction: out, severity: refuse, allow: [intranet.example]}",
        '{check: grounded, direction: out, severity: redact, least: 0.5, abstain: "I do not know."}',
        "{check: topics, name: money, direction: in, severity: refuse, of: [user], words: [salary band]}",
        more="      enforce: observe\n",
    )
    assert case.moderation.enforce == "observe" and len(case.moderation.checks) == 4
    hooks = hooks_of(tmp_path, case.moderation, no_card)
    assert [hook.name for hook in hooks] == ["instructions", "exfiltration", "grounded", "money"]
    assert hooks[0].reads == {"passage", "tool"} and hooks[3].reads == {"user"}
    assert hooks[1].check.identifies("to=kim.lee@example.com") and not hooks[1].check.identifies("page=12")


def no_card(name):
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("check", "word"),
    [
        ("{check: instruction, direction: in, severity: flag}", "instruction"),
        ("{check: instructions, direction: in}", "severity"),
        ("{check: instructions, direction: inward, severity: flag}", "direction"),
        ("{check: exfiltration, direction: in, severity: flag}", "answers only"),
        ("{check: instructions, direction: in, severity: hold}", "held"),
        ("{check: instructions, direction: out, severity: flag, of: [user]}", "of names"),
        ("{check: instructions, direction: in, severity: redact, abstain: x}", "abstain"),
        ("{check: exfiltration, direction: out, severity: refuse, abstain: x}", "abstain"),
        ('{check: exfiltration, direction: out, severity: redact, abstain: " "}', "empty"),
        ("{check: grounded, direction: out, severity: redact}", "redact"),
        ("{check: classifier, direction: in, severity: redact, model: m}", "redact"),
        ("{check: instructions, direction: in, severity: flag, most: 3}", "most"),
        ("{check: instructions, direction: in, severity: flag, least: 1.5}", "least"),
        ("{check: size, direction: in, severity: flag}", "most"),
        ("{check: size, direction: in, severity: flag, most: 0}", "most"),
        ("{check: topics, direction: in, severity: flag}", "words or file"),
        ("{check: topics, direction: in, severity: flag, words: [a], file: b}", "words or file"),
        ("{check: topics, direction: in, severity: flag, words: []}", "no words"),
        ('{check: topics, direction: in, severity: flag, words: ["/a*/"]}', "ways"),
        ("{check: topics, direction: in, severity: flag, file: topics.txt}", "pipelines/moderation"),
        ("{check: topics, direction: in, severity: flag, file: ../x}", "inside"),
        ("{check: classifier, direction: in, severity: flag}", "model"),
        ("{check: instructions, direction: in, severity: flag, lest: 1}", "lest"),
    ],
)
def test_a_check_that_could_never_work_is_named(tmp_path, check, word):
    with pytest.raises(ConfigError, match=word) as caught:
        params(tmp_path, check)
    assert "moderation" in str(caught.value)


def test_no_checks_too_many_and_two_of_one_name_are_named(tmp_path):
    with pytest.raises(ConfigError, match="0 checks"):
        params(tmp_path)
    with pytest.raises(ConfigError, match="second"):
        params(tmp_path, ONE, ONE)
    with pytest.raises(ConfigError, match="33 checks"):
        params(tmp_path, *[ONE.replace("{", f"{{name: n{n}, ") for n in range(33)])


def test_the_phase_mlvp_demands_enforce(tmp_path):
    with pytest.raises(ConfigError, match="mlvp") as caught:
        params(tmp_path, ONE, more="      enforce: observe\n", phase="mlvp")
    assert "would-refuse" in caught.value.hint
    assert params(tmp_path, ONE, phase="mlvp").moderation.enforce == "enforce"


def test_without_the_key_nothing_depends_on_it(tmp_path):
    case = config.load_params(ROOT).use_cases["answers"]
    assert case.moderation is None and "moderation" not in of_stage("judge", case, "")
    assert Moderating(ROOT, tmp_path, None, ()).control(no_card, no_handler) == {}
    assert "moderation" in of_stage("judge", params(tmp_path, ONE), "")


def no_handler():
    raise AssertionError("nobody is asked")


def controlled(tmp_path, case, model, *, card=no_card, judge=None):
    made = Moderating(tmp_path, tmp_path, case.moderation, case.tenants)
    asked = []

    def handler():
        def ask_judge(call):
            asked.append(call)
            return behind(judge)(call)

        return ask_judge

    return fold(made.control(card, handler), behind(model)), asked


def test_a_topic_list_is_read_from_its_file(tmp_path):
    case = params(
        tmp_path,
        "{check: topics, direction: in, severity: refuse, of: [user], file: pipelines/moderation/a.txt}",
    )
    with pytest.raises(NotFoundError, match=r"a\.txt"):
        controlled(tmp_path, case, FakeModel())
    path = tmp_path / "pipelines" / "moderation" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_text("taxi\n")
    handler, _ = controlled(tmp_path, case, FakeModel(["yes"]))
    with pytest.raises(ModerationError, match="topics"):
        ask(handler, chat("a taxi?"))
    assert text(ask(handler, chat("a train?"))) == "yes"


def card(**more):
    return dataclasses.replace(ModelCard.unsaved("judge"), **more)


def test_a_moderation_endpoint_is_asked_through_the_boundary(tmp_path):
    case = params(tmp_path, "{check: classifier, direction: out, severity: refuse, model: judge}")
    handler, asked = controlled(
        tmp_path,
        case,
        FakeModel(["you fool", "fine"]),
        card=lambda _: card(kind="moderation"),
        judge=FakeModel(flagged=["fool"]),
    )
    with pytest.raises(ModerationError, match="classifier"):
        ask(handler, chat())
    assert text(ask(handler, chat())) == "fine"
    assert [call.operation for call in asked] == ["moderate", "moderate"]
    assert asked[0].payload == {"model": "judge", "input": "you fool"}
    assert all(call.labels["moderation"] == "classifier" for call in asked)


def test_a_chat_model_is_asked_the_question(tmp_path):
    case = params(
        tmp_path,
        '{check: classifier, name: insults, direction: in, severity: refuse, of: [user], model: judge, question: "Rude?"}',
    )
    handler, asked = controlled(
        tmp_path, case, FakeModel(["fine"]), card=lambda _: card(), judge=FakeModel(["Yes", "no"])
    )
    with pytest.raises(ModerationError, match="insults"):
        ask(handler, chat("you fool"))
    assert text(ask(handler, chat("a taxi?"))) == "fine"
    assert "Rude?" in asked[0].payload["messages"][0]["content"]


@pytest.mark.parametrize(
    ("more", "kind", "word"),
    [
        ("", "chat", "question"),
        (', question: "Rude?"', "moderation", "question"),
        ("", "embedding", "embedding"),
    ],
)
def test_a_model_that_cannot_judge_is_named(tmp_path, more, kind, word):
    case = params(tmp_path, f"{{check: classifier, direction: out, severity: refuse, model: judge{more}}}")
    with pytest.raises(ConfigError, match=word):
        controlled(tmp_path, case, FakeModel(), card=lambda _: card(kind=kind))


def test_every_check_can_be_stated(tmp_path):
    options = {"size": ", most: 9", "topics": ", words: [a]", "classifier": ", model: m"}
    for name in KINDS:
        case = params(tmp_path, f"{{check: {name}, direction: out, severity: flag{options.get(name, '')}}}")
        assert case.moderation.checks[0].title == name
    assert layout.HELD.parts[:2] == (".workbench", "state")
