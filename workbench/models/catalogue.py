"""Load model cards of a repository, and open the adapter of a card's provider."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from workbench import files, registry
from workbench.errors import ConfigError
from workbench.models.card import OPENAI_KEY, OPENAI_URL, ModelCard, checked_card
from workbench.ports import Model


def load_card(root: Path, reference: str) -> ModelCard:
    """Load the card `name`, `name@2` or `name@label` and check its digest; a bare name is the newest."""
    return read_card(registry.resolve(root, "model", reference))


def read_card(found: registry.Version) -> ModelCard:
    """Read the card of a version; raise ConfigError when it is invalid or has another name."""
    raw = files.read_yaml(found.path)
    card = files.parse(ModelCard, raw, where=str(found.path))
    if card.name != found.name or {"version", "moved"} & raw.keys():
        raise ConfigError(
            f"{found.path}: name must be {found.name!r}, and version is the number of the file",
            hint=f"write name: {found.name}, and remove the keys version and moved",
        )
    return dataclasses.replace(checked_card(card, where=str(found.path)), version=found.number)


def open_model(card: ModelCard, root: Path) -> Model:
    """Return the adapter for a card. The first call starts its server or opens its connection."""
    if card.provider == "local":
        from workbench.models.local import LocalModel

        return LocalModel(card, root)
    if card.provider == "wordllama":
        from workbench.models.embeddings import WordLlamaModel

        return WordLlamaModel(card, root)
    from workbench.models.openai import OpenAIModel

    key_name = card.api_key or OPENAI_KEY
    return OpenAIModel(
        card.base_url or OPENAI_URL,
        os.environ.get(key_name) or None,
        key_name=key_name,
        max_bytes=card.limits.max_response_bytes,
        stateful=card.stateful,
    )
