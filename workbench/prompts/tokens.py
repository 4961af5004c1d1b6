"""The number of tokens that chat turns take: the model's own count, or an estimate."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import UnavailableError

Wire = Mapping[str, Any]
#: Words, single digits, white space that does not belong to a word, and every other sign.
_PIECE, _WORD = re.compile(r"[^\W\d_]+|\d|\s+|[\W_]"), re.compile(r"[A-Za-z]+")
#: Tokens that the embedded model's template adds to a turn, and to a request.
_TURN, _REQUEST = 6, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Counts the tokens of a request under the name that a report shows.

    `count` takes chat turns as wire JSON and includes what the model's template adds. It may be async;
    a plain function runs on the event loop and must be quick.
    """

    name: str
    count: Callable[[Sequence[Wire]], int | Awaitable[int]]

    async def __call__(self, messages: Sequence[Wire]) -> int:
        """Return the tokens of a request; UnavailableError when `count` returns anything but 0 or more."""
        counted = self.count(messages)
        tokens = await counted if inspect.isawaitable(counted) else counted
        if type(tokens) is not int or tokens < 0:
            raise UnavailableError(
                f"the token counter {self.name!r} returned {tokens!r}, not a number of tokens",
                hint="use an estimate: workbench.prompts.tokens.ESTIMATE",
            )
        return tokens


def of_model(name: str, count: Callable[[Sequence[Wire]], Awaitable[int]]) -> Counter:
    """Return the counter of the model `name`, which calls `count` once for each different request."""
    counted = {"[]": 0}

    async def once(messages: Sequence[Wire]) -> int:
        key = repr(list(messages))
        if key not in counted:
            counted[key] = await count(messages)
        return counted[key]

    return Counter(name=f"the model {name}", count=once)


def estimated(text: str) -> int:
    """Return an estimate of a text's tokens for any model, rather too many than too few.

    Four letters of an English word are a token, as is each digit, each other sign and each byte that is not
    ASCII; a single space belongs to its word. Against the embedded model's tokenizer the estimate is a third
    too high at the median, and was too low for none of 160 English texts.
    """
    return sum(
        -(-len(piece) // 4) if _WORD.fullmatch(piece) else len(piece.encode("utf-8", "surrogatepass"))
        for piece in _PIECE.findall(text)
        if piece != " "
    )


#: The counter for models that do not count.
ESTIMATE = Counter(
    name="letters, digits and signs (an estimate)",
    count=lambda turns: _REQUEST + sum(_TURN + estimated(str(turn["content"])) for turn in turns),
)
