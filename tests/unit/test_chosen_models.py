"""Which model a use case asks: a card of the repository, that card at another endpoint, or no card at all."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

import workbench as wb
from workbench.controls.position import OPERATIONS
from workbench.errors import ConfigError, NotFoundError
from workbench.models import ModelCard, load_card
from workbench.models.local import LocalModel
from workbench.models.prices import Price
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths, chosen_card

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {"provider": "openai", "base_url": "http://models.example/v1"}


def test_two_lines_send_the_card_s_model_elsewhere_under_its_own_name():
    card, moved = chosen_card(ROOT, "smollm2-135m", {}), chosen_card(ROOT, "smollm2-135m", ELSEWHERE)
    assert (moved.provider, moved.base_url, moved.model) == ("openai", ELSEWHERE["base_url"], card.model)
    assert moved.reference == card.reference and moved.wire_defaults()["temperature"] == 0
    assert card.price_per_million is not None and moved.price_per_million is None
    assert moved.identity() != card.identity()


@pytest.mark.parametrize("name", ["gpt-4o-mini", "meta-llama/Llama-3.1-8B", "llama3:8b", "claude@20240620"])
def test_a_model_without_a_card_is_what_the_endpoint_calls_it(name):
    card = chosen_card(ROOT, name, ELSEWHERE)
    assert (card.model, card.reference, card.base_url) == (name, name, ELSEWHERE["base_url"])
    assert (card.price_per_million, card.wire_defaults(), card.recorded) == (None, {}, True)
    assert chosen_card(ROOT, name, {"provider": "openai"}).base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("smollm2-153m", {}, "nearest: 'smollm2-135m'"),
        ("smollm2-153m", {"provider": "local"}, "nearest: 'smollm2-135m'"),
        ("smollm2-153m", {"base_url": "http://models.example/v1"}, "nearest: 'smollm2-135m'"),
        ("gpt-4o-mini", {"provider": "opnai"}, "unknown provider 'opnai' .*nearest: 'openai'"),
        (
            "gpt-4o-mini",
            {**ELSEWHERE, "base_url": "http://me:pw@models.example"},
            "without a user or password",
        ),
        ("gpt-4o-mini", {**ELSEWHERE, "api_key": "sk-1234"}, "must be the NAME of an environment variable"),
        ("wordllama-256", {}, "is for embedding, not for chat"),
    ],
)
def test_what_cannot_be_asked_is_one_error_with_the_next_step(name, overrides, said):
    with pytest.raises((ConfigError, NotFoundError), match=said) as caught:
        chosen_card(ROOT, name, overrides)
    assert caught.value.hint and "sk-1234" not in str(caught.value)


def test_a_price_in_params_yaml_is_that_of_the_moved_card(tmp_path):
    price = Price(input_usd=0.5, output_usd=2.0)
    for name in ("smollm2-135m", "gpt-4o-mini"):
        moved = chosen_card(ROOT, name, {**ELSEWHERE, "price": price})
        assert (moved.price(), moved.price_source) == (price, "params.yaml")
        unpriced = chosen_card(ROOT, name, ELSEWHERE)
        with pytest.raises(ConfigError, match="price") as caught:
            unpriced.check_priced(why="a job states what it costs")
        assert "beside base_url of the use case in params.yaml" in caught.value.hint
    saved = dataclasses.replace(chosen_card(ROOT, "gpt-4o-mini", ELSEWHERE), name="saved", version=1)
    assert "the next version of its card" in dataclasses.replace(saved, moved=False).price_hint


def test_another_key_alone_keeps_the_price_of_the_card():
    price = Price(input_usd=1.0)
    card = dataclasses.replace(ModelCard.unsaved("m"), price_per_million=price, version=1)
    keyed = card.overridden(api_key="OTHER_KEY")
    assert (keyed.api_key, keyed.price(), keyed.price_source) == ("OTHER_KEY", price, "card")
    assert card.overridden(base_url="http://models.example/v1").price() is None


@pytest.mark.parametrize("amount", [-0.1, float("inf"), float("nan")])
def test_a_price_below_0_or_without_end_is_an_error(amount):
    with pytest.raises(
        ConfigError, match=r"params\.yaml: price_per_million\.input_usd must be 0 to"
    ) as caught:
        chosen_card(ROOT, "smollm2-135m", {**ELSEWHERE, "price": Price(input_usd=amount)})
    assert caught.value.hint


def test_a_workspace_asks_under_that_name_and_its_runs_say_so(tmp_path):
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    text = (ROOT / "params.yaml").read_text()
    before = "    model: smollm2-135m\n"
    assert before in text
    after = (
        "    model: meta-llama/Llama-3.1-8B\n    provider: openai\n    base_url: http://models.example/v1\n"
    )
    (tmp_path / "params.yaml").write_text(text.replace(before, after, 1))
    ws = wb.connect("answers", root=tmp_path)
    assert ws.model().card.model == ws.describe()["model"] == "meta-llama/Llama-3.1-8B"
    assert ws.bind(settings={"model": "smollm2-135m"}).describe()["model"] == "smollm2-135m@1"
    assert ws.describe()["model_price"] == {"meta-llama/Llama-3.1-8B": ""}
    priced = after + "    price_per_million: {input_usd: 2}\n"
    (tmp_path / "params.yaml").write_text(text.replace(before, priced, 1))
    (source,) = wb.connect("answers", root=tmp_path).describe()["model_price"].values()
    assert source.startswith("params.yaml ") and '"input_usd":2.0' in source


def test_a_call_computes_its_cost_once_for_its_reply_and_its_record(tmp_path, monkeypatch):
    card = dataclasses.replace(ModelCard.unsaved("m"), price_per_million=Price(input_usd=1.0, output_usd=2.0))
    boundary = Boundary(
        ROOT, mode="live", tape=Tape(tmp_path / "t"), cards=[card], places=StatePaths(home=tmp_path)
    )
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    boundary._models["m"] = FakeModel(["one two", "{}", "{}"])  # the first answer is repaired
    ws = wb.connect("answers", root=ROOT, through=boundary)
    model, counted = ws.model("m"), Counter()
    for owner, name in ((ModelCard, "cost_usd"), (Boundary, "card")):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *how, f=function, n=name: counted.update([n]) or f(*how))
    repaired, plain = (model.chat("question", response_format=form) for _ in range(2))
    assert counted == {"cost_usd": 2, "card": 2}
    tokens = [(reply.usage.input_tokens, reply.usage.output_tokens) for reply in (repaired, plain)]
    assert plain.cost_usd == (tokens[1][0] + 2 * tokens[1][1]) / 1e6 < repaired.cost_usd
    assert repaired.cost_usd > (tokens[0][0] + 2 * tokens[0][1]) / 1e6  # both answers were paid
    assert ws.calls()["cost_usd"].to_list() == [repaired.cost_usd, plain.cost_usd]


def test_closing_closes_every_model_and_store_also_when_one_fails():
    class Kept:
        def __init__(self, name):
            self.name = name

        async def aclose(self):
            closed.append(self.name)
            if self.name != "store":
                raise OSError(self.name)

    closed, boundary = [], wb.connect("answers", root=ROOT, mode="replay").boundary
    boundary._models = {"a": Kept("a"), "b": Kept("b")}
    boundary.stores = Kept("store")
    with pytest.raises(OSError, match=r"a|b"):
        asyncio.run(boundary.aclose())
    assert sorted(closed) == ["a", "b", "store"]


def test_a_local_model_is_closed_while_its_server_starts():
    model, stopped = LocalModel(load_card(ROOT, "smollm2-135m"), ROOT), []
    starting = SimpleNamespace(started=False)
    model._pool = SimpleNamespace(servers=[starting], stop=lambda: stopped.append(starting))
    asyncio.run(model.aclose())
    assert stopped == [starting]


def test_every_port_that_has_operations_has_a_leaf():
    leaves = wb.connect("answers", root=ROOT, mode="replay").boundary._leaves
    assert leaves.keys() == {name.partition(".")[0] for name in OPERATIONS}
