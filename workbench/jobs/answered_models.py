"""Which models answered a run, by the recorded answers, and whether they are those that were judged.

A version of any age writes the answers of its run into the slot's journal, each as the endpoint gave it. The
version's own tape and the judge's tape of its commit hold the answers that were judged.
"""

from __future__ import annotations

import collections
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from workbench import files

#: Most bytes of one recorded answer; a longer line is counted as one that states no model.
_MOST_LINE = 64 << 20
_MOST_TEXT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredModel:
    """A model that answered: the card that was asked, and the names that the answers state ("" for none)."""

    target: str
    model: str
    fingerprint: str
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison:
    """How the models of a run differ from those that were judged.

    `changed` are sentences, one for each judged card whose answers state another model or fingerprint.
    `unjudged` are cards that answered and were not judged, such as a fall-back. `unstated` counts answers
    that state no model.
    """

    changed: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    unstated: int = 0


def models_of(*tapes: Path | bytes) -> tuple[AnsweredModel, ...]:
    """Return the models of the answers in tapes and journals, files or their bytes; a missing file has none.

    A torn or purged line is skipped, as every reader of a journal does.
    """
    found = collections.Counter(named for tape in tapes for named in _named(tape))
    return tuple(
        AnsweredModel(target=target, model=model, fingerprint=fingerprint, answers=count)
        for (target, model, fingerprint), count in sorted(found.items())
    )


def compare_models(judged: Iterable[AnsweredModel], answered: Iterable[AnsweredModel]) -> ModelComparison:
    """Return how the models that answered differ from those that were judged, card by card.

    A fingerprint counts only where both the judged answers of that model and the run's state one.
    """
    known: dict[str, dict[str, set[str]]] = {}
    for item in judged:
        if item.model:
            prints = known.setdefault(item.target, {}).setdefault(item.model, set())
            prints.update([item.fingerprint] if item.fingerprint else [])
    changed, unjudged, unstated = [], set(), 0
    for item in answered:
        if not item.model:
            unstated += item.answers
        elif item.target not in known:
            unjudged.add(item.target)
        elif item.model not in known[item.target]:
            changed.append(f"{item.target}: {item.model} answered, {_listed(known[item.target])} was judged")
        else:
            prints = known[item.target][item.model]
            if item.fingerprint and prints and item.fingerprint not in prints:
                changed.append(
                    f"{item.target}: fingerprint {item.fingerprint} answered, {_listed(prints)} was judged"
                )
    return ModelComparison(changed=tuple(changed), unjudged=tuple(sorted(unjudged)), unstated=unstated)


def _named(tape: Path | bytes) -> Iterator[tuple[str, str, str]]:
    """Yield card, model and fingerprint of each recorded answer of a chat model; refusals have none."""
    if isinstance(tape, Path) and not tape.is_file():
        return
    newest: dict[str, tuple[str, str, str]] = {}
    with io.BytesIO(tape) if isinstance(tape, bytes) else _opened(tape) as file:
        while line := file.readline(_MOST_LINE):
            found = _entry(line)
            if found is not None:
                newest[found[0]] = found[1]
    yield from newest.values()


def _opened(path: Path) -> IO[bytes]:
    return open(files.open_regular(path), "rb")  # noqa: PTH123  of a descriptor


def _entry(line: bytes) -> tuple[str, tuple[str, str, str]] | None:
    """Return the key and the names of a line; None for one that is no answer of a chat model."""
    try:
        entry = orjson.loads(line)
        events = entry["result"]["events"]
        if not str(entry["operation"]).endswith(("chat", "respond")):
            return None
        card = _text(entry["target"]["name"]).partition("@")[0]  # a version pins one card of a name
        return entry["key"], (card, *_names(events))
    except (ValueError, KeyError, TypeError):
        return None


def _names(events: Iterable[Any]) -> tuple[str, str]:
    """Return the last model and fingerprint that the events of an answer state."""
    model = fingerprint = ""
    for event in events:
        if not isinstance(event, Mapping):
            continue
        inner = event.get("response")
        for part in (event, inner if isinstance(inner, Mapping) else {}):
            model = _text(part.get("model")) or model
            fingerprint = _text(part.get("system_fingerprint")) or fingerprint
    return model, fingerprint


def _text(value: Any) -> str:
    """Return a printable text of bounded length, "" for another value: an endpoint wrote it."""
    if not isinstance(value, str):
        return ""
    return "".join(sign for sign in value[:_MOST_TEXT] if sign.isprintable())


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return " or ".join(shown[:3]) + (" …" if shown[3:] else "")
