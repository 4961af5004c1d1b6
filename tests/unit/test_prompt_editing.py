"""The editor of a prompt in a workspace: its cases, searches, model, price, scorers and saved versions."""

from __future__ import annotations

import asyncio

import pytest
from small_use_case import small_repository

import workbench as wb
from workbench import layout, registry
from workbench.config import Price
from workbench.errors import ConfigError
from workbench.experiments.task import Answer, task
from workbench.models import ModelCard
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths


def answered(payload):
    """The page that stands in the request."""
    return payload["messages"][-1]["content"].splitlines()[0]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return small_repository(tmp_path_factory.mktemp("small"))


def connected(root, home, *, price=None):
    card = ModelCard(
        name="smollm2-135m", provider="openai", model="m", kind="chat", purpose="p", licence="l", region="r",
        limits=ModelCard.unsaved("m").limits, price_per_million=price or Price(input_usd=0.0),
    )  # fmt: skip
    boundary = Boundary(
        root, mode="live", tape=Tape(home / "tape"), cards=[card], places=StatePaths(home=home)
    )
    model = boundary._models["smollm2-135m"] = FakeModel(answered)
    ws = wb.connect("small", root=root, through=boundary)
    ws.memory().ingest()
    return ws, model


@task
def answer(ws, case: wb.Question) -> Answer:
    """Answer from the best page."""
    hits = ws.memory().search(case.question)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits[:1]))


def test_edit_without_arguments_opens_the_editor_of_the_workspace(repository, tmp_path):
    ws, model = connected(repository, tmp_path)
    editor = ws.prompt().edit()
    assert editor.shown_case.id == "q1" and len(editor.shown_case) == 4 and not model.calls
    assert "passages were found" in str(editor) and editor.shown().passages[0].tenant == "acme"
    assert "an estimate" in editor.shown().amount
    assert editor.preview().amount.endswith(
        "counted by the model smollm2-135m · 0 USD (price on the model's card)"
    )
    reply = editor.ask()
    assert reply.text.startswith("A taxi") and ws.calls()["prompt"][-1] == "brief@1"
    editor.system = "Be short."
    editor.ask()
    assert ws.calls()["prompt"][-1].startswith("brief@draft-")
    assert list((tmp_path / layout.DRAFTS).glob("*.json"))
    editor.reset()


def test_a_price_is_that_of_the_card_with_the_longest_answer(repository, tmp_path):
    ws, _ = connected(repository, tmp_path, price=Price(input_usd=1.0, output_usd=10.0))
    price = ws.prompt().edit().shown().price
    assert price.most_tokens == 48, "the prompt's own limit"
    assert price.most_usd == pytest.approx(price.input_usd + 48 * 10 / 1e6) and price.source == "card"


def test_a_trial_uses_the_scorers_of_the_use_case_and_saves_from_the_loop_too(repository, tmp_path):
    ws, _ = connected(repository, tmp_path)
    editor = ws.prompt().edit(task=answer)
    editor.user = "{{ question }}\n{{ passages[0].text }}"
    trial = editor.run(4)
    assert [line.metric for line in trial.comparison.lines] == [
        "accuracy", "recall_at_5", "grounded", "cross_tenant_hits",
    ]  # fmt: skip
    assert trial.comparison["accuracy"].worsened and "too few to decide" in trial.verdict
    with pytest.raises(ConfigError, match="needs a reason"):
        editor.save(reason=" ")
    named = editor.save(reason="the question first")
    assert named.reference == "brief@2"
    assert registry.load(repository, "prompt", "brief").versions[2].author == ws.context.principal.name
    assert named.edit(task=answer).base.reference == "brief@2"

    async def in_a_cell():
        made = named.edit()
        made.system = "Be short."
        return await made.preview_async()

    assert asyncio.run(in_a_cell()).rendered.messages[0].content == "Be short."
