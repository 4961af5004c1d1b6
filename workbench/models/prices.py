"""Prices of models: those of a card, else the list prices that the package `genai-prices` bundles."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from workbench.config import Price
from workbench.types import Usage

#: The package of list prices. Its data is part of its version, so that equal locks give equal prices.
PACKAGE: Final = "genai-prices"
#: Of a list price that depends on the day or the hour, the last one by day: a replayed run keeps its cost.
_AT: Final = dt.datetime(2500, 1, 1, 12, tzinfo=dt.UTC)
#: The names of our prices in the package's data.
_NAMES: Final[Mapping[str, str]] = {
    "input_usd": "input_mtok",
    "output_usd": "output_mtok",
    "cached_input_usd": "cache_read_mtok",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrice:
    """The list price of a model: its prices by the least number of input tokens to which each applies.

    `source` is the package and its version. The first price applies from 0 tokens.
    """

    source: str
    steps: tuple[tuple[int, Price], ...]

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the price of an answer in US dollars, or None if its usage is unknown."""
        read = usage.input_tokens or 0
        price = next(price for start, price in reversed(self.steps) if read > start or not start)
        return price.cost_usd(usage)


@cache
def list_price(base_url: str, model: str) -> ListPrice | None:
    """Return the list price of a model at an endpoint, or None if the package knows none.

    The endpoint's address names the provider; a name alone is not enough, because any server may offer it.
    """
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot  # it takes 0.3 s

    try:
        _, found = DataSnapshot(providers=providers, from_auto_update=False).find_provider_model(
            model, None, None, base_url
        )
    except LookupError:
        return None
    listed = vars(found.get_prices(_AT))
    values = {name: listed.get(key) for name, key in _NAMES.items()}
    if values["input_usd"] is None:  # an image, an hour of audio
        return None
    starts = {tier.start for value in values.values() for tier in getattr(value, "tiers", ())}
    steps = tuple((start, _price_from(values, start)) for start in (0, *sorted(starts)))
    return ListPrice(source=f"{PACKAGE} {version(PACKAGE)}", steps=steps)


def _price_from(values: Mapping[str, Any], start: int) -> Price:
    """Return the price of requests with more input tokens than `start`."""
    found = {name: _amount(value, start) for name, value in values.items() if value is not None}
    return Price(**found)


def _amount(value: Any, start: int) -> float:
    """Return a price, or of a price by steps the one that applies above `start` input tokens."""
    for tier in reversed(getattr(value, "tiers", ())):
        if start >= tier.start:
            return float(tier.price)
    return float(getattr(value, "base", value))
