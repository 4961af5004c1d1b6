"""Embeddings computed in this process from the token vectors of the installed package `wordllama`.

The package's two files are read directly, because its loader may use the network and configures the root
logger on import. A text's vector is the mean of its tokens' vectors, as in the package's `embed`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigError, RefusedError
from workbench.layout import CACHE
from workbench.models import weights
from workbench.models.card import ModelCard
from workbench.types import JSON, Event

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

_TENSOR = "embedding.weight"


class WordLlamaModel:
    """Text embeddings of 256 dimensions, L2-normalised and byte-identical on every machine.

    The files are loaded on first use. Sums use double precision and a fixed order, so that a vector does not
    depend on the processor or on the other texts of the call.
    """

    def __init__(self, card: ModelCard, root: Path) -> None:
        self.card = card
        self._cache = root / CACHE
        self._loaded: tuple[Tokenizer, np.ndarray[Any, Any]] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"WordLlamaModel({self.card.name!r})"

    def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:  # noqa: ARG002 - the port's
        """Raise RefusedError: an embedding model has no chat answers."""
        raise RefusedError(
            f"{self.card.name!r} is an embedding model and cannot chat",
            hint='name a card of kind chat: ws.model("NAME")',
            status=501,
        )

    async def embed(
        self,
        payload: JSON,
        *,
        timeout_s: float | None = None,  # noqa: ARG002 - the port's; a computation cannot time out
    ) -> AsyncGenerator[Event, None]:
        """Yield the answer of `/embeddings` for a text or a list of texts, vectors in their order."""
        wanted = payload.get("dimensions")
        if wanted is not None and wanted != self.card.dimensions:
            raise RefusedError(
                f"{self.card.name!r} has vectors of {self.card.dimensions} dimensions, not of {wanted!r}",
                hint="leave dimensions out, or name a card of an endpoint that shortens vectors",
                status=400,
            )
        asked = payload.get("input")
        texts = [asked] if isinstance(asked, str) else asked
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise RefusedError(
                f"{self.card.name!r} embeds a text or a list of texts, not token numbers",
                hint="turn off tokenising in the client; in LangChain: check_embedding_ctx_length=False",
                status=400,
            )
        rows, tokens = await asyncio.to_thread(self._vectors, list(texts))
        yield Event(
            data={
                "object": "list",
                "model": self.card.model,
                "data": [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def respond(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """Raise RefusedError: an embedding model writes no responses."""
        return self.chat(payload, timeout_s=timeout_s)

    def moderate(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:  # noqa: ARG002 - the port's
        """Raise RefusedError: an embedding model moderates nothing."""
        raise RefusedError(
            f"{self.card.name!r} is an embedding model and does not moderate",
            hint="name a card of kind moderation: pipelines/models/NAME/1.yaml",
            status=501,
        )

    def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """Raise RefusedError: only chat requests are counted."""
        return self.chat(payload, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Release the token vectors (16 MB); the next call loads them again."""
        self._loaded = None

    def _vectors(self, texts: list[str]) -> tuple[list[list[float]], int]:
        """Return a unit vector for each text (zeros for a text without tokens), and the number of tokens."""
        import numpy as np

        tokenizer, table = self._load()
        rows, tokens = [], 0
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            tokens += len(encoding.ids)
            total = table[encoding.ids].sum(axis=0, dtype=np.float64)
            length = math.sqrt(math.fsum(total * total))
            unit = total / length if length else total
            rows.append(unit.astype(np.float32).tolist())
        return rows, tokens

    def _load(self) -> tuple[Tokenizer, np.ndarray[Any, Any]]:
        with self._lock:
            if self._loaded is None:
                from safetensors import safe_open
                from tokenizers import Tokenizer

                card = self.card
                if card.weights is None or card.tokenizer is None:
                    raise ConfigError(
                        f"the model card {card.reference!r} names no weights or no tokenizer",
                        hint="add weights: and tokenizer: as pipelines/models/wordllama-256/1.yaml does",
                    )
                path = weights.find(card.weights, cache=self._cache)
                tokenizer = Tokenizer.from_file(str(weights.find(card.tokenizer, cache=self._cache)))
                tokenizer.no_padding()
                tokenizer.no_truncation()
                with safe_open(str(path), framework="np") as tensors:
                    table = tensors.get_tensor(_TENSOR)
                self._loaded = tokenizer, table
            return self._loaded
