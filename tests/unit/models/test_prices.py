"""The price of a model: the card's, else its endpoint's list price, and what each kind of token costs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys

import pytest

from workbench.errors import ConfigError
from workbench.models.card import ModelCard
from workbench.models.prices import ListPrice, Price, list_price
from workbench.types import Usage
from workbench.workspace import candidates

OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
MILLION = 1_000_000


def card(model, **more):
    return dataclasses.replace(ModelCard.unsaved(model), **more)


def test_the_price_of_the_card_wins():
    stated = card("gpt-4o-mini", price_per_million=Price(input_usd=9.0, output_usd=1.0))
    assert stated.price_source == "card"
    assert stated.cost_usd(Usage(input_tokens=MILLION, output_tokens=MILLION)) == 10.0


def test_a_known_endpoint_has_the_list_price_of_the_locked_package():
    listed = card("gpt-4o-mini")
    assert listed.price_source == f"genai-prices {importlib.metadata.version('genai-prices')}"
    assert listed.cost_usd(Usage(input_tokens=MILLION, output_tokens=MILLION)) == pytest.approx(0.75)
    half_cached = Usage(input_tokens=MILLION, output_tokens=0, cached_tokens=MILLION // 2)
    assert listed.cost_usd(half_cached) == pytest.approx(0.15 / 2 + 0.075 / 2)


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        ("gpt-4o-mini", "https://models.example.com/v1"),
        ("gpt-4o-mini", "http://127.0.0.1:8000/v1"),
        ("our-own-model", OPENAI),
    ],
)
def test_a_name_at_another_server_has_no_price(model, base_url):
    unknown = card(model, base_url=base_url)
    assert (unknown.price(), unknown.price_source) == (None, "")
    assert unknown.cost_usd(Usage(input_tokens=1)) is None
    with pytest.raises(ConfigError, match=f"price of the model '{model}' is unknown, and a job") as caught:
        unknown.check_priced(why="a job states what it costs")
    assert "price_per_million" in caught.value.hint


def test_a_price_by_steps_applies_to_all_tokens_of_a_long_request():
    listed = list_price(GOOGLE, "gemini-2.5-pro")
    (zero, short), (start, long) = listed.steps
    assert (zero, start) == (0, 200_000) and long.input_usd > short.input_usd
    for read, price in ((200_000, short), (200_001, long)):
        usage = Usage(input_tokens=read, output_tokens=10)
        assert listed.cost_usd(usage) == pytest.approx(
            (read * price.input_usd + 10 * price.output_usd) / MILLION
        )


def test_cached_and_reasoning_tokens_are_parts_that_have_prices_of_their_own():
    price = Price(input_usd=2.0, output_usd=8.0, cached_input_usd=0.5, reasoning_usd=4.0)
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=400, reasoning_tokens=60)
    assert price.cost_usd(usage) == pytest.approx((600 * 2 + 400 * 0.5 + 40 * 8 + 60 * 4) / MILLION)
    absurd = Usage(input_tokens=10, output_tokens=5, cached_tokens=1000, reasoning_tokens=1000)
    assert price.cost_usd(absurd) == pytest.approx((10 * 0.5 + 5 * 4) / MILLION)
    assert Price(input_usd=2.0, output_usd=8.0).cost_usd(usage) == pytest.approx((2000 + 800) / MILLION)
    assert price.cost_usd(Usage(output_tokens=5)) is None


def test_list_prices_are_of_the_package_alone_and_loaded_when_one_is_needed():
    code = """
import socket, sys
def refuse(*_, **__): raise SystemExit("the network was reached for")
socket.socket.connect = socket.getaddrinfo = refuse
from workbench.models.card import ModelCard
assert "genai_prices" not in sys.modules
assert ModelCard.unsaved("gpt-4o-mini").price_source
assert "genai_prices" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_list_price_does_not_depend_on_the_clock():
    assert isinstance(list_price("https://api.deepseek.com/v1", "deepseek-chat"), ListPrice)
    first = list_price.__wrapped__("https://api.deepseek.com/v1", "deepseek-chat")
    assert first == list_price("https://api.deepseek.com/v1", "deepseek-chat")


def test_a_model_of_unknown_price_is_warned_of_once(capsys, monkeypatch):
    monkeypatch.setattr(candidates, "_warned", set())
    for model in ("our-own-model", "our-own-model", "gpt-4o-mini"):
        candidates.warn_of_unknown_price(card(model))
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "'our-own-model'" in said and "docs/params.md" in said
