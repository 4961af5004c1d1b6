"""The faults of the fault server, and the plan that says which request gets which fault."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from workbench.errors import ConfigError, nearest

#: What the server does instead of a plain right answer. A status (`400` to `599`) is a fault too.
FAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "429": "answers 429 without Retry-After",
        "429-after": "answers 429 with Retry-After: 1",
        "429-date": "answers 429 with Retry-After as an HTTP date, one second ahead",
        "500": "answers 500; so do 400 to 599 with their own number",
        "hang": "reads the request and never answers",
        "hang-body": "stops in the middle of its answer, with the connection open",
        "drip": "sends one byte every 50 ms",
        "reset": "resets the connection instead of an answer",
        "reset-body": "resets the connection in the middle of its answer",
        "short-body": "closes the connection before the Content-Length that it stated",
        "truncated": "ends its JSON, or its stream, in the middle of a value",
        "empty": "answers 200 with an empty body",
        "error-event": "states an error inside a stream, or an error object with status 200",
        "html": "answers 200 with an HTML page",
        "content-type": "answers with a wrong content type",
        "endless": "sends text without an end",
        "large": "sends an answer of 100 MB whose length it states",
        "large-chunked": "sends an answer of 100 MB whose length it does not state",
        "usage-missing": "leaves the usage out",
        "usage-negative": "states negative token counts",
        "usage-absurd": "states token counts of 10**18 and as text",
        "other-model": "names another model than the one that was asked",
        "keep-alive": "sends comments, or blanks before a plain answer, to keep the connection alive",
        "crlf": "ends lines with CRLF",
        "split": "sends pieces of 7 bytes, which split characters and events",
        "no-done": "leaves out the event that ends a stream",
    }
)
#: The name of a right answer in a plan and in the counts.
OK: Final = "ok"
#: How many numbers a distribution takes.
_NUMBERS: Final = {"": 1, "uniform": 2, "exponential": 1, "normal": 2, "lognormal": 2}


class Plan:
    """Which request gets which fault: rates for each fault, or a list of faults used in order.

    A list may name `ok`; after its end every answer is right. Rates are drawn by the seed and the number of
    the request, so that two servers with one seed do the same. Raises ConfigError for an unknown name, and
    for rates that are negative or add up to more than 1.
    """

    def __init__(self, faults: Mapping[str, float] | Sequence[str] = (), *, seed: int = 0) -> None:
        for name in faults:
            _check_name(name)
        rates = [*faults.values()] if isinstance(faults, Mapping) else []
        if any(rate < 0 for rate in rates) or sum(rates) > 1 + 1e-9:
            raise ConfigError(
                f"the rates of faults are {rates}, and must be at least 0 and add up to at most 1",
                hint='for example {"500": 0.3, "hang": 0.05}',
            )
        self._faults = dict(faults) if isinstance(faults, Mapping) else list(faults)
        self._seed = seed

    def fault(self, number: int) -> str:
        """Return the fault of a request, which are numbered from 0; `ok` for a right answer."""
        if isinstance(self._faults, list):
            return self._faults[number] if number < len(self._faults) else OK
        drawn = self.random(number, "fault").random()
        for name, rate in self._faults.items():
            drawn -= rate
            if drawn < 0:
                return name
        return OK

    def random(self, number: int, use: str) -> random.Random:
        """Return the random numbers of a request for one use."""
        return random.Random(f"{self._seed}:{number}:{use}")  # noqa: S311 - repeatable, not secret


class Latency:
    """A distribution of seconds before an answer.

    It is written as `0.02`, `uniform:A,B`, `exponential:MEAN`, `normal:MEAN,SD` or `lognormal:MEDIAN,SIGMA`.
    Raises ConfigError for another text.
    """

    def __init__(self, text: str | float = 0.0) -> None:
        kind, _, numbers = str(text).rpartition(":")
        try:
            self._numbers = [float(number) for number in numbers.split(",")]
        except ValueError:
            self._numbers = []
        if len(self._numbers) != _NUMBERS.get(kind) or min(self._numbers) < 0:
            raise ConfigError(
                f"the latency {text!r} is not a distribution",
                hint="0.02, uniform:0.01,0.05, exponential:0.02, normal:0.02,0.01 or lognormal:0.02,0.5",
            )
        self._kind = kind

    def draw(self, source: random.Random) -> float:
        """Return seconds of this distribution, at least 0."""
        first, *rest = self._numbers
        match self._kind:
            case "uniform":
                return source.uniform(first, rest[0])
            case "exponential":
                return source.expovariate(1 / first) if first else 0.0
            case "normal":
                return max(0.0, source.gauss(first, rest[0]))
            case "lognormal":
                return first * source.lognormvariate(0, rest[0])
        return first


def is_fault(name: str) -> bool:
    """Return whether a plan may name this fault: one of `FAULTS`, a status of an error, or `ok`."""
    return name in FAULTS or name == OK or (len(name) == 3 and name.isdecimal() and 400 <= int(name) < 600)


def _check_name(name: str) -> None:
    """Raise ConfigError unless a fault has this name."""
    if is_fault(name):
        return
    raise ConfigError(
        f"the fault server knows no fault {name!r} ({nearest(name, FAULTS)})",
        hint="list the faults: python -m workbench.testing.fault_server --help",
    )
