"""Model cards: provider, price, limits and weights of a model, in `pipelines/models/<name>/<n>.yaml`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from workbench import files
from workbench.errors import ConfigError, nearest
from workbench.types import JSON, Usage

Provider = Literal["local", "openai", "wordllama"]
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens; 0 for a model on this machine."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    input_usd: float
    output_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """Limits of one request: tokens, and bytes of the answer after decompression."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    context_tokens: int
    max_output_tokens: int | None = None
    max_response_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file inside an installed package, and its digest."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    package: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The package that computes the answers; another version may give other answers."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    package: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of the embedded server.

    Identical answers need these defaults: one slot, one thread, no prompt cache (other thread
    counts change a third of the longer answers). `port` 0 is any free one; with a fixed port,
    further servers take the ports after it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    n_ctx: int = 4096
    n_parallel: int = 1
    n_threads: int = 1
    cache_prompt: bool = False
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model. `model` is its name on the wire, `api_key` the NAME of an environment variable.

    `recorded` is False for a deterministic computation in this process, whose calls the
    tape omits. Without `price_per_million` a price is unknown.
    `version` comes from the file's name; 0 is a card that was not saved.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    provider: Provider
    model: str
    kind: Literal["chat", "embedding"]
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
    version: int = 0

    @classmethod
    def unsaved(cls, model: str) -> ModelCard:
        """Return a card for a model without a saved card: it has no defaults and an unknown price."""
        return cls(
            name=model,
            provider="openai",
            model=model,
            kind="chat",
            purpose="named in params.yaml, without a card",
            licence="unknown",
            region="unknown",
            limits=ModelLimits(context_tokens=4096),  # what any of today's models takes
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
            server = dataclasses.asdict(self.server)
            identity["server"] = {key: value for key, value in server.items() if key != "port"}
        return identity

    def wire_defaults(self) -> dict[str, Any]:
        """Return the default wire parameters of every request to this model."""
        if self.provider == "local":
            return {**self.defaults, "cache_prompt": self.server.cache_prompt}
        return dict(self.defaults)

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the price of an answer in US dollars, or None if price or usage is unknown."""
        price = self.price_per_million
        if price is None or usage.input_tokens is None:
            return None
        output = usage.output_tokens or 0
        return (usage.input_tokens * price.input_usd + output * price.output_usd) / 1_000_000

    def overridden(
        self,
        *,
        provider: str | None = None,
        base_url: str | None = None,
        model: str | None = None,
        api_key: str | None = None,
    ) -> ModelCard:
        """Return the card for another endpoint, as set in `params.yaml`.

        Price, weights and runtime describe the old endpoint and are dropped. Raises ConfigError.
        """
        target = provider or ("openai" if base_url else self.provider)
        if target not in get_args(Provider):
            raise ConfigError(
                f"unknown provider {target!r} ({nearest(target, get_args(Provider))})",
                hint="provider: openai, with a base_url, is any OpenAI-compatible endpoint",
            )
        if target == self.provider and not (base_url or model or api_key):
            return self
        if target != "openai":
            raise ConfigError(
                f"only provider 'openai' can be pointed elsewhere; {self.name!r} would be {target!r}",
                hint="name another model card instead, or set provider: openai and base_url",
            )
        moved = dataclasses.replace(
            self,
            provider="openai",
            base_url=base_url or self.base_url,
            model=model or self.model,
            api_key=api_key or self.api_key,
            price_per_million=None,
            weights=None,
            tokenizer=None,
            runtime=None,
            recorded=True,
        )
        return checked_card(moved, where="params.yaml")


def checked_card(card: ModelCard, *, where: str) -> ModelCard:
    """Return the card; raise ConfigError if its keys contradict each other."""
    if card.api_key is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", card.api_key):
        raise ConfigError(
            f"{where}: api_key: must be the NAME of an environment variable, never the key itself",
            hint=f"write api_key: {OPENAI_KEY}, put the key into the environment, and revoke a key "
            "that stood in a file",
        )
    if card.provider == "openai":
        url = urlsplit(card.base_url or OPENAI_URL)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.password:
            raise ConfigError(
                f"{where}: base_url: must be http(s)://HOST/…, without a user or password",
                hint="for example base_url: https://api.openai.com/v1",
            )
        return card if card.base_url else dataclasses.replace(card, base_url=OPENAI_URL)
    missing = [key for key in ("weights", "runtime") if getattr(card, key) is None]
    if missing:
        raise ConfigError(f"{where}: provider {card.provider!r} needs the key {missing[0]!r}")
    if card.base_url or card.api_key:
        raise ConfigError(f"{where}: base_url and api_key are only for provider 'openai'")
    return card
