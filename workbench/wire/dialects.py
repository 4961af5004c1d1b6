"""Choose the wire shape of a model operation: chat, respond, embed, moderate or count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from workbench.errors import NotFoundError, nearest
from workbench.types import JSON, Usage
from workbench.wire.chat import CHAT
from workbench.wire.embeddings import EMBEDDINGS
from workbench.wire.moderations import MODERATIONS
from workbench.wire.responses import RESPONSES
from workbench.wire.shape import Dialect, unstreamed


def _counted(payload: JSON) -> Dialect:
    """Return the dialect of the request whose tokens are counted."""
    return CHAT if "messages" in payload else RESPONSES


def _input_texts(payload: JSON) -> Iterator[str]:
    return _counted(payload).input_texts(payload)


#: The count of a request's tokens, which the endpoint does not charge for.
_COUNT: Final = unstreamed(
    "count",
    "/chat/completions/input_tokens",
    usage_of=lambda _: Usage(),
    input_texts=_input_texts,
    input_messages=lambda payload: _counted(payload).input_messages(payload),
)
#: Every dialect by its operation.
DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {each.operation: each for each in (CHAT, RESPONSES, EMBEDDINGS, MODERATIONS, _COUNT)}
)


def dialect(operation: str) -> Dialect:
    """Return the wire shape of a model operation, as `chat` or `model.chat`; raise NotFoundError."""
    found = DIALECTS.get(operation) or DIALECTS.get(operation.removeprefix("model."))
    if found is None:
        raise NotFoundError(
            f"no dialect is called {operation!r} ({nearest(operation, DIALECTS)})",
            hint=f"the operations of a model are {', '.join(DIALECTS)}",
        )
    return found
