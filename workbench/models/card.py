"""Model cards: provider, price, limits and weights of a model, in `pipelines/models/<name>/<n>.yaml`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from workbench import files
from workbench.config import Price
from workbench.errors import ConfigError, nearest
from workbench.models.prices import ListPrice, list_price
from workbench.types import JSON, Usage

Provider = Literal["local", "openai", "wordllama"]
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
#: Most US dollars of a million tokens.
_MOST_USD = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """The limits of one request and of the endpoint.

    Of a request, tokens, and bytes of the answer after decompression. Of the endpoint, requests and tokens
    within a minute, which the processes of a machine share, and calls in flight of one process.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    context_tokens: int
    max_output_tokens: int | None = None
    max_response_bytes: int = 64 * 2**20
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file in an installed package, and its SHA-256."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    package: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The package that computes the answers; another version may compute other answers."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    package: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of the embedded server.

    Byte-identical answers need the defaults: one slot, one thread and no prompt cache (with other numbers of
    threads a third of the longer answers differ). `port` 0 is any free port; with another value, further
    servers use the ports after it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    n_ctx: int = 4096
    n_parallel: int = 1
    n_threads: int = 1
    cache_prompt: bool = False
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model: `model` is its name on the wire, `api_key` the NAME of an environment variable.

    `recorded` is False for a deterministic computation in this process, whose calls are not on the tape.
    `dialect` is the wire format that `ws.model()` speaks; with `stateful`, a response may refer to what the
    endpoint keeps. Without `price_per_million`, the list price of the model at its endpoint applies, if one
    is known. `version` is the number of the card's file; 0 marks a card that is not saved. `moved` marks a
    card whose endpoint or price is that of params.yaml.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    provider: Provider
    model: str
    kind: Literal["chat", "embedding", "moderation"]
    purpose: str
    licence: str
    region: str
    limits: ModelLimits
    notes: str = ""
    price_per_million: Price | None = None
    dimensions: int | None = None
    weights: Weights | None = None
    tokenizer: Weights | None = None
    runtime: Runtime | None = None
    server: ServerSettings = field(default_factory=ServerSettings)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    api_key: str | None = None
    recorded: bool = True
    dialect: Literal["chat", "responses"] = "chat"
    stateful: bool = False
    version: int = 0
    moved: bool = False

    @classmethod
    def unsaved(cls, model: str) -> ModelCard:
        """Return a card for a model without a saved card, with no defaults and an unknown price."""
        return cls(
            name=model,
            provider="openai",
            model=model,
            kind="chat",
            purpose="named in params.yaml, without a card",
            licence="unknown",
            region="unknown",
            limits=ModelLimits(context_tokens=4096),  # the least of current models
            base_url=OPENAI_URL,
        )

    @property
    def reference(self) -> str:
        """The card's name and version, as `smollm2-135m@1`."""
        return f"{self.name}@{self.version}" if self.version else self.name

    def identity(self) -> JSON:
        """Return the fields that can change an answer, which are part of a recording's key."""
        identity: dict[str, Any] = {"provider": self.provider, "model": self.model}
        if self.provider == "openai":
            return {**identity, "base_url": self.base_url}
        if self.weights:
            identity["weights"] = self.weights.sha256
        if self.tokenizer:
            identity["tokenizer"] = self.tokenizer.sha256
        if self.runtime:
            identity["runtime"] = f"{self.runtime.package} {self.runtime.version}"
        if self.provider == "local":
            names = [field.name for field in dataclasses.fields(self.server) if field.name != "port"]
            identity["server"] = {name: getattr(self.server, name) for name in names}
        return identity

    def wire_defaults(self) -> dict[str, Any]:
        """Return the default wire parameters of every request to this model."""
        if self.provider == "local":
            return {**self.defaults, "cache_prompt": self.server.cache_prompt}
        return dict(self.defaults)

    def price(self) -> Price | ListPrice | None:
        """Return the price on the card, else the list price of the model at its endpoint, else None."""
        if self.price_per_million is not None or self.provider != "openai":
            return self.price_per_million
        return list_price(self.base_url or OPENAI_URL, self.model)

    @property
    def price_source(self) -> str:
        """Where the price is from: `card`, `params.yaml`, the package of the list price, or empty."""
        if self.price_per_million is not None:
            return "params.yaml" if self.moved else "card"
        found = self.price()
        return found.source if isinstance(found, ListPrice) else ""

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the price of an answer in US dollars, or None if price or usage is unknown."""
        price = self.price()
        return None if price is None else price.cost_usd(usage)

    def check_priced(self, *, why: str) -> None:
        """Raise ConfigError if the price is unknown; `why` says what needs it."""
        if not self.price_source and self.kind != "moderation":
            raise ConfigError(
                f"the price of the model {self.name!r} is unknown, and {why}",
                hint=self.price_hint,
            )

    @property
    def price_hint(self) -> str:
        """Where to write the price of this model."""
        key = "price_per_million: {input_usd: …, output_usd: …}"
        if self.moved or not self.version:
            place, page = "beside base_url of the use case in params.yaml", "docs/params.md"
        else:
            place, page = "into the next version of its card", "docs/models.md"
        return f"write {key} {place}, 0 for a model that costs nothing ({page})"

    def overridden(
        self,
        *,
        provider: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        price: Price | None = None,
    ) -> ModelCard:
        """Return the card for another endpoint, as set in `params.yaml`; raise ConfigError for a wrong one.

        The new card has no weights and runtime, which describe the saved endpoint, and `price` replaces its
        price. With the same endpoint and another key alone, the card's price stays.
        """
        target = provider or ("openai" if base_url else self.provider)
        if target not in get_args(Provider):
            raise ConfigError(
                f"unknown provider {target!r} ({nearest(target, get_args(Provider))})",
                hint="write provider: openai and a base_url in params.yaml for an OpenAI-compatible endpoint",
            )
        if target == self.provider and not (base_url or api_key or price):
            return self
        if target != "openai":
            raise ConfigError(
                f"params.yaml can move a model only to provider 'openai', not {self.name!r} to {target!r}",
                hint="name another model card in params.yaml, or write provider: openai and a base_url",
            )
        same = self.provider == target and base_url in {None, self.base_url}
        moved = dataclasses.replace(
            self,
            provider="openai",
            base_url=base_url or self.base_url,
            api_key=api_key or self.api_key,
            price_per_million=price or (self.price_per_million if same else None),
            moved=not same or price is not None,
            weights=None,
            tokenizer=None,
            runtime=None,
            recorded=True,
        )
        return checked_card(moved, where="params.yaml")


def checked_card(card: ModelCard, *, where: str) -> ModelCard:
    """Return the card; raise ConfigError if its keys contradict each other or a limit is below 1."""
    _check_paid(card, where=where)
    if card.api_key is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", card.api_key):
        raise ConfigError(
            f"{where}: api_key: must be the NAME of an environment variable, not the key itself",
            hint=f"write api_key: {OPENAI_KEY}, then export {OPENAI_KEY}=…; revoke a key that was in a file",
        )
    if card.provider == "openai":
        url = urlsplit(card.base_url or OPENAI_URL)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.password:
            raise ConfigError(
                f"{where}: base_url: must be http(s)://HOST/…, without a user or password",
                hint=f"for example base_url: {OPENAI_URL}",
            )
        return card if card.base_url else dataclasses.replace(card, base_url=OPENAI_URL)
    if card.dialect != "chat" or card.stateful or card.kind == "moderation":
        raise ConfigError(
            f"{where}: dialect: responses, stateful and kind: moderation are only for provider 'openai'",
            hint="remove the key, or write provider: openai and the base_url of an endpoint",
        )
    missing = [key for key in ("weights", "runtime") if getattr(card, key) is None]
    if missing:
        raise ConfigError(
            f"{where}: provider {card.provider!r} needs the key {missing[0]!r}",
            hint=f"add {missing[0]}: as pipelines/models/smollm2-135m/1.yaml does",
        )
    if card.base_url or card.api_key:
        raise ConfigError(
            f"{where}: base_url and api_key are only for provider 'openai'",
            hint="remove them, or write provider: openai",
        )
    return card


def _check_paid(card: ModelCard, *, where: str) -> None:
    """Raise ConfigError for limits and prices that are none, and for an endpoint that nothing would pay."""
    for key, number in dataclasses.asdict(card.limits).items():
        if number is not None and number < 1:
            raise ConfigError(
                f"{where}: limits.{key} must be 1 or more, found {number}",
                hint=f"write the endpoint's own limit, or remove limits.{key}",
            )
    prices = dataclasses.asdict(card.price_per_million) if card.price_per_million else {}
    for key, amount in prices.items():
        if amount is not None and not 0 <= amount <= _MOST_USD:
            raise ConfigError(
                f"{where}: price_per_million.{key} must be 0 to {_MOST_USD:g}, found {amount:g}",
                hint="write US dollars per million tokens, 0 for a model that costs nothing",
            )
    if card.provider == "openai" and not card.recorded:
        raise ConfigError(
            f"{where}: recorded: false is only for a computation in this process: nothing would record "
            "or pay the calls to an endpoint",
            hint="remove the key recorded",
        )
