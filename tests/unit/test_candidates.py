"""The fall-backs of a use case's model: how params.yaml states them, what is asked, and what is pinned."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace

import openai
import pytest
from falling_models import repository

import workbench as wb
from workbench import config
from workbench.config import Execution, ModelChoice, StatedAnswer
from workbench.diagnostics.check import _models
from workbench.errors import ConfigError, NotFoundError, UnavailableError
from workbench.experiments.attempts import CaseAttempt, scored_row
from workbench.experiments.dataset import Case
from workbench.models import ModelCard, load_card
from workbench.pipeline import evidence
from workbench.pipeline.settings import of_stage
from workbench.promotion import requirements
from workbench.testing.fakes import FakeModel
from workbench.types import STATED
from workbench.workspace import boundary
from workbench.workspace.save import save

SORRY = "We will come back to you."


def case_of(root):
    return config.use_case(config.load_params(root), "small")


FALLING = "{name: first, fallback: [second, {answer: We will come back to you.}], seconds: 20}"


def test_a_model_is_a_name_or_a_name_with_what_answers_in_its_place(tmp_path):
    root = repository(tmp_path, model=FALLING)
    choice = case_of(root).model_choice
    assert choice == ModelChoice(name="first", fallback=("second", StatedAnswer(answer=SORRY)), seconds=20.0)
    assert choice.models == ("second",) and case_of(root).model_name == "first"
    plain = dataclasses.replace(case_of(root), model="first")
    assert plain.model_choice == ModelChoice(name="first") and plain.model_name == "first"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{name: first, fallback: [first]}", "names 'first' twice"),
        ("{name: first, fallback: [second, second@1]}", "names 'second' twice"),
        ("{name: first, fallback: [{answer: sorry}, second]}", "nothing after it is asked"),
        ("{name: first, seconds: 0}", "seconds must be above 0"),
        ("{name: first, fallbacks: [second]}", "fallback"),
        ("{name: first, fallback: [{anwser: sorry}]}", "answer"),
        ("{fallback: [second]}", r"small\.model"),
        ("{name: first, fallback: [{answer: ''}]}", "the stated answer is empty"),
        ("{name: first, fallback: second}", r"small\.model\.fallback: .*list, found 'second'"),
        ("{name: first, seconds: 30s}", r"small\.model\.seconds: .*found '30s'"),
    ],
)
def test_a_fallback_that_cannot_be_is_an_error_of_the_file(tmp_path, model, said):
    root = repository(tmp_path, model=model)
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(root)
    assert "params.yaml" in caught.value.message


def connected(root, **models):
    """A workspace whose models are fakes, by the name of their card."""
    ws = wb.connect("small", root=root)
    ws.boundary._models.update({f"{name}@1": model for name, model in models.items()})
    return ws


def down():
    return FakeModel(lambda _: UnavailableError("down"))


@pytest.fixture
def quick(monkeypatch):
    """Retries without pauses."""
    policy = dataclasses.replace(boundary._RETRIES, first_s=0.0)
    monkeypatch.setattr(boundary, "_RETRIES", policy)


def test_the_second_model_answers_with_its_own_defaults_and_the_reply_says_so(tmp_path, quick):
    second = FakeModel(["yes", "yes"])
    ws = connected(repository(tmp_path, model=FALLING), first=down(), second=second)
    reply = ws.model().chat("a taxi?", max_tokens=9)
    client = ws.openai().chat.completions.create(
        model="wire-first", messages=[{"role": "user", "content": "a bus?"}], temperature=0.1
    )
    assert (reply.text, reply.fallback, reply.fallback_reason) == ("yes", "second@1", "unavailable")
    assert reply.degraded and reply.cost_usd == pytest.approx(2 * (2 + 1) / 1e6)
    asked = [{k: v for k, v in payload.items() if k != "messages"} for payload in second.calls]
    assert asked == [
        {"model": "wire-second", "max_tokens": 9, "temperature": 0.2, "seed": 1},
        {"model": "wire-second", "temperature": 0.1, "seed": 1},
    ]
    assert client.choices[0].message.content == "yes" and client.model == "wire-second"
    assert ws.calls()["fallback"].to_list() == ["second@1", "second@1"]
    assert dict(ws.why(reply).rows())["fallback"] == "second@1 answered: unavailable"
    assert ws.calls()["price_source"].to_list() == ["card", "card"]


def test_a_stated_answer_is_a_reply_that_says_what_it_is(tmp_path, quick):
    ws = connected(repository(tmp_path, model=FALLING), first=down(), second=down())
    reply = ws.model().chat("a taxi?")
    streamed = "".join(ws.model().stream("a taxi?"))
    with pytest.raises(UnavailableError):
        ws.model("second").chat("another model has no fall-backs of the use case")
    said = ws.model("second", fallback=[{"answer": {"label": "none"}}]).chat("a bus?")
    assert (reply.text, streamed, reply.model, reply.cost_usd) == (SORRY, SORRY, STATED, 0.0)
    assert reply.degraded and reply.fallback == STATED
    assert json.loads(said.text) == {"label": "none"}


def test_a_call_with_fallbacks_has_the_seconds_of_the_use_case(tmp_path):
    ws = wb.connect("small", root=repository(tmp_path, model=FALLING))
    now, messages = ws.context.clock.monotonic(), [{"role": "user", "content": "x"}]
    by_handle, by_client = (
        ws.model()._call("x", {}),
        ws._client_call("chat", {"model": "first", "messages": messages}),
    )
    for call in (by_handle, by_client):
        assert now + 19 < call.deadline <= ws.context.clock.monotonic() + 20
    assert ws.model("second")._call("x", {}).deadline is None


@pytest.mark.parametrize(
    ("fallback", "error", "said"),
    [
        (["secnd"], NotFoundError, "second"),
        (["first"], ConfigError, "asked before"),
        (["wordllama-256"], ConfigError, "for embedding"),
        ([{"answer": "x"}, "second"], ConfigError, "nothing after it"),
        ([{"anser": "x"}], ConfigError, "a stated answer"),
        ([7], ConfigError, "a stated answer"),
    ],
)
def test_a_wrong_fallback_of_a_call_is_an_error_before_any_model_is_asked(tmp_path, fallback, error, said):
    ws = wb.connect("small", root=repository(tmp_path, model="first"))
    with pytest.raises(error, match=said):
        ws.model(fallback=fallback)


def test_a_run_names_the_fallbacks_and_its_digest_covers_them(tmp_path):
    root = repository(tmp_path, model=FALLING)
    ws = wb.connect("small", root=root)
    plain = dataclasses.replace(ws, use_case=dataclasses.replace(ws.use_case, model="first"))
    told, before = ws.describe(), plain.describe()
    assert told["model_fallback"] == ["second@1", {"answer": SORRY}]
    assert told["model"] == before["model"] == "first@1"
    assert "model_fallback" not in before and told["model_digest"] != before["model_digest"]


def test_the_page_stands_on_the_fallbacks_too(tmp_path):
    root = repository(tmp_path, model=FALLING)
    told = wb.connect("small", root=root).describe()
    case = dataclasses.replace(case_of(root), prompt=None, memory=None)
    run = SimpleNamespace(settings={name: value for name, value in told.items() if name != "prompt"})
    used = [(asset.kind, asset.reference) for asset in evidence._versions(root, case, [run])]
    assert used == [("model", "first@1"), ("fall-back", "second@1")]
    assert evidence._versions(root, case, [run])[1].digest


def test_a_version_pins_every_model(tmp_path):
    case = case_of(repository(tmp_path, model=FALLING))
    pinned = config.pinned(case, {"model": "first@1", "model.1": "second@1"})
    assert pinned.model_choice.name == "first@1"
    assert pinned.model_choice.fallback == ("second@1", StatedAnswer(answer=SORRY))
    assert pinned.model_choice.seconds == 20.0
    plain = dataclasses.replace(case, model="first")
    assert config.pinned(plain, {"model": "first@1"}).model == "first@1"


def test_a_plain_name_leaves_the_settings_of_the_stages_as_they_were(tmp_path):
    root = repository(tmp_path, model="first")
    assert of_stage("judge", case_of(root), "")["model"] == "first"
    (tmp_path / "other").mkdir()
    falling = repository(tmp_path / "other", model=FALLING)
    assert of_stage("judge", case_of(falling), "")["model"]["fallback"][0] == "second"


def problems(root):
    return [(f.problem, f.warning) for f in _models(root, "small", case_of(root)) if f.problem]


def test_check_names_a_fallback_that_is_unknown_or_of_another_kind(tmp_path):
    assert problems(repository(tmp_path, model=FALLING)) == []
    for model, said in (("secnd", "second"), ("wordllama-256", "for embedding")):
        (tmp_path / model).mkdir()
        ((problem, warning),) = problems(
            repository(tmp_path / model, model=f"{{name: first, fallback: [{model}]}}")
        )
        assert said in problem and not warning


def test_a_stated_answer_is_unscored_and_a_fallbacks_answer_counts_beside_its_score():
    case = Case(id="1", tenant="acme", inputs={"question": "?"}, expected={})

    def row(fallback):
        record = {"port": "model", "operation": "chat", "fallback": fallback, "hits": []}
        return scored_row(case, CaseAttempt(case="1", tenant="acme", output="yes", records=[record]), [])

    assert (row("")["status"], row("")["fallback"]) == ("scored", 0)
    assert (row("b@1")["status"], row("b@1")["fallback"]) == ("scored", 1)
    assert row(STATED)["status"] == "unscored" and row(STATED)["error"].startswith("stated_answer: ")


def test_the_card_of_a_fallback_is_read_as_it_is_saved(tmp_path):
    root = repository(tmp_path, model=FALLING)
    (candidate, _) = wb.connect("small", root=root)._candidates(load_card(root, "first"))
    card: ModelCard = load_card(root, "second")
    assert (candidate.target, candidate.model) == (card.reference, card.model)
    assert (candidate.identity, candidate.defaults) == (card.identity(), card.wire_defaults())


@pytest.mark.parametrize("fallback", ["second", {"answer": "later"}, StatedAnswer(answer="later")])
def test_a_fallback_that_is_no_list_is_one_error(tmp_path, fallback):
    ws = wb.connect("small", root=repository(tmp_path, model=FALLING))
    with pytest.raises(ConfigError, match="fallback is a list") as caught:
        ws.model("first", fallback=fallback)
    assert "fallback=[" in caught.value.hint


def test_a_client_names_a_version_of_a_card_as_the_handle_does(tmp_path):
    root = repository(tmp_path, model=FALLING)
    unpriced(root, "second")
    ws = wb.connect("small", root=root, mode="live")
    ws.boundary._models |= {"second@1": FakeModel(["one"]), "second@2": FakeModel(["two"])}
    for name, said in (("second@1", "one"), ("second@2", "two")):
        answer = ws.openai().chat.completions.create(model=name, messages=[{"role": "user", "content": "?"}])
        assert answer.choices[0].message.content == said
    with pytest.raises(openai.NotFoundError, match="second"):
        ws.openai().chat.completions.create(model="second@9", messages=[{"role": "user", "content": "?"}])


@pytest.mark.parametrize(("model", "limited"), [("first", True), ("second", False)])
def test_the_seconds_of_a_model_hold_without_fallbacks_too(tmp_path, model, limited):
    ws = wb.connect("small", root=repository(tmp_path, model="{name: first, seconds: 30}"))
    assert (ws.model(model).make_call("chat", {}, {}).deadline is not None) == limited


def unpriced(root, name):
    """Remove the price of a card."""
    path = root / f"pipelines/models/{name}/2.yaml"
    text = (path.with_name("1.yaml")).read_text()
    path.write_text(re.sub(r"price_per_million.*\n", "", text))
    save(root, f"model/{name}", reason="no price")


JOB = """jobs:
  nightly: {use_case: small, sample: data/small/questions.jsonl}
"""


@pytest.mark.parametrize("name", ["first", "second"])
def test_check_names_a_model_of_unknown_price_as_an_error_only_where_a_job_needs_it(tmp_path, name):
    root = repository(tmp_path, model=FALLING)
    unpriced(root, name)
    ((problem, warning),) = problems(root)
    assert f"price of the model '{name}' is unknown" in problem and warning
    params = root / "params.yaml"
    params.write_text(params.read_text() + JOB)
    ((problem, warning),) = problems(root)
    assert (
        "the job nightly states what it costs" in problem and "price_per_million" in problem and not warning
    )


def test_a_job_asks_no_model_of_unknown_price(tmp_path):
    root = repository(tmp_path, model="first")
    unpriced(root, "first")
    ws = connected(root, first=FakeModel())
    job = dataclasses.replace(ws, execution=dataclasses.replace(ws.execution, live_memory=True))
    with pytest.raises(ConfigError, match="price of the model 'first' is unknown"):
        job.model().chat("a taxi?")
    assert ws.describe()["model_price"] == {"first@2": ""}


def test_a_promotion_names_each_model_of_unknown_price():
    def draft(**settings):
        return SimpleNamespace(run=SimpleNamespace(settings=settings))

    assert list(requirements._not_priced(draft())) == []
    listed = {"a@1": "genai-prices 1", "b@1": ""}
    (blocker,) = requirements._not_priced(draft(model_price=listed))
    assert "model b@1 is unknown" in blocker.what and "price_per_million" in blocker.fix


def test_a_run_says_when_no_card_states_a_price_and_nothing_else(tmp_path):
    ws = wb.connect("small", root=repository(tmp_path, model=FALLING))
    assert "model_price" not in ws.describe()


@pytest.mark.parametrize(("live", "given"), [(False, False), (True, True)])
def test_a_stated_answer_is_given_by_a_job_and_never_in_a_judged_run(tmp_path, quick, live, given):
    root = repository(tmp_path, model="{name: first, fallback: [{answer: later}]}")
    execution = Execution(
        notebook="", use_case="small", tape="tape.jsonl", job="small", publish="out", live_memory=live
    )
    made = boundary.of_use_case(root, "small", case_of(root), execution)
    made._models["first@1"] = down()
    ws = wb.connect("small", root=root, through=made)
    if given:
        assert ws.model().chat("a taxi?").text == "later"
    else:
        with pytest.raises(UnavailableError):
            ws.model().chat("a taxi?")
