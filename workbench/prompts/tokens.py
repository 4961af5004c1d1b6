"""How many tokens chat turns take: the model's own count where it offers one, else an estimate."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import RefusedError, UnavailableError

Wire = dict[str, Any]
#: Words, single digits, white space that a word does not carry with it, and every other sign.
_PIECE = re.compile(r"[^\W\d_]+|\d|\s+|[\W_]")
#: What the embedded model's template puts around a turn, and around them all.
_TURN, _REQUEST = 6, 4
#: An empty turn: what a request takes without its content.
EMPTY: Sequence[Wire] = ({"role": "user", "content": ""},)
#: A refusal by a control or by a recording that is not there has no status; the others are about the key.
_NOT_FOR_THE_ROUTE = frozenset({None, 401, 402, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """How tokens are counted, and whether that is the model's own count.

    `count` is given chat turns as wire JSON and returns the tokens a request with them takes, with
    all that the model's template adds. It may be async; one that is not runs on the workbench's own
    loop and must be quick.
    """

    name: str
    exact: bool
    count: Callable[[Sequence[Wire]], int | Awaitable[int]]

    def __str__(self) -> str:
        return self.name if self.exact else f"{self.name} (an estimate)"

    async def __call__(self, messages: Sequence[Wire]) -> int:
        """Tokens of a request with these turns; UnavailableError when the count is no number of tokens."""
        counted = self.count(messages)
        tokens = await counted if inspect.isawaitable(counted) else counted
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise UnavailableError(
                f"the token counter {self.name!r} gave no number of tokens",
                hint="count as estimated: workbench.prompts.tokens.ESTIMATE",
            )
        return tokens


def of_model(name: str, count: Callable[[Sequence[Wire]], Awaitable[int]]) -> Counter:
    """The count of the model `name`, asked with `count`: once for the same turns, and never for none."""
    counted: dict[bytes, int] = {}

    async def once(messages: Sequence[Wire]) -> int:
        if not messages:
            return 0
        key = hashlib.sha256(repr(list(messages)).encode()).digest()
        if key not in counted:
            counted[key] = await count(messages)
        return counted[key]

    return Counter(name=f"the model {name}", exact=True, count=once)


async def offered(counter: Counter) -> Counter:
    """`counter` if it counts; the estimate when its server refuses to, and not for who is asking."""
    if not counter.exact:
        return counter
    try:
        await counter(EMPTY)
    except RefusedError as error:
        if error.status in _NOT_FOR_THE_ROUTE:
            raise
        return ESTIMATE
    return counter


def estimated(text: str) -> int:
    """About how many tokens a text has in any model's vocabulary: rather too many than too few.

    One for each four letters begun of an English word, one for each digit and other sign, one for
    each byte of what is not ASCII; a single space belongs to its word. Against the embedded model's
    tokenizer it is a third too high at the median, and was too low for none of 160 English texts.
    """
    return sum(_tokens(piece) for piece in _PIECE.findall(text))


def _tokens(piece: str) -> int:
    if piece == " ":
        return 0
    if not piece.isascii():
        return len(piece.encode("utf-8", "surrogatepass"))
    return -(-len(piece) // 4) if piece.isalpha() else len(piece)


def _of_request(messages: Sequence[Wire]) -> int:
    return _REQUEST + sum(_TURN + estimated(str(message["content"])) for message in messages)


#: For models that do not count for us.
ESTIMATE = Counter(name="letters, digits and signs", exact=False, count=_of_request)
