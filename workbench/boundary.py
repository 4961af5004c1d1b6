"""The one boundary of a workspace: the controls that exist, around the adapters, over log and tape."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config import Mode
from workbench.controls import onion
from workbench.controls.observe import Observe
from workbench.controls.output import Output
from workbench.controls.replay import Replay
from workbench.controls.retry import Patience, Retry
from workbench.controls.tape import Journal, Tape
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.models import ModelCard, card_names, load_card, open_model
from workbench.observations import Lines
from workbench.ports import Call, Memory, Model
from workbench.types import Event, Usage

if TYPE_CHECKING:
    from workbench.memory.snapshot import Snapshot
    from workbench.memory.sqlite import SQLiteStore

STATE = Path(".workbench/state")
CACHE = Path(".workbench/cache")
CALLS = STATE / "calls.jsonl"
JOURNAL = CACHE / "answers.jsonl"
#: An embedded server answers one caller at a time; the others' waiting counts as silence.
_PATIENCE = Patience(timeout_s=180, deadline_s=600)

OnUse = Callable[[str, str], None]


def open_tape(path: Path) -> Tape:
    """The tape in a file, or an empty one where there is none yet."""
    return Tape.read(path) if path.exists() else Tape(path)


class Boundary:
    """Every call of a process to a model or a memory, in one place.

    `cards` replaces cards of the repository by others of the same name, as params.yaml may.
    `snapshot` is a folder whose pinned memory is searched instead of live memory, `memories` another
    place than the repository's for live ones. `on_use` is told
    the key of each recording used or made, and whether it stands on the tape or in the cache.
    """

    def __init__(
        self,
        root: Path,
        *,
        mode: Mode,
        tape: Tape,
        cards: Mapping[str, ModelCard] | None = None,
        snapshot: Path | None = None,
        memories: Path | None = None,
        on_use: OnUse | None = None,
    ) -> None:
        self.root = root
        self._memories = memories or root / STATE / "memories"
        self._cards = dict(cards or {})
        self._models: dict[str, Model] = {}
        self._stores: dict[tuple[str, int], SQLiteStore] = {}
        self._snapshot_folder = snapshot
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()
        self.replay = Replay(mode, tape=tape, journal=Journal(root / JOURNAL), on_use=on_use)
        self.handler = onion.fold(
            {
                "observe": Observe(Lines(root / CALLS), price=self._price),
                "output": Output(),
                "replay": self.replay,
                "retry": Retry(_PATIENCE),
            },
            self._leaf,
        )

    def card(self, name: str) -> ModelCard:
        """A model card, as this workspace was told to use it."""
        with self._lock:
            if name not in self._cards:
                self._cards[name] = load_card(self.root, name)
            return self._cards[name]

    def card_for(self, model: str, *, prefer: str) -> ModelCard:
        """The card a client means by `model`: a card's name, or the model's own name on one."""
        if model in {prefer, self.card(prefer).model}:
            return self.card(prefer)
        names = card_names(self.root)
        named = [name for name in names if model in {name, self.card(name).model}]
        if not named:
            raise NotFoundError(
                f"no model card is called {model!r} ({nearest(model, names)})",
                hint=f"model={prefer!r} is what this use case is set to",
            )
        return self.card(named[0])

    def snapshot(self) -> Snapshot | None:
        """The pinned memory of this execution, verified when first needed."""
        if self._snapshot_folder is None:
            return None
        with self._lock:
            if self._snapshot is None:
                from workbench.memory.snapshot import open_snapshot

                self._snapshot = open_snapshot(self._snapshot_folder)
            return self._snapshot

    async def aclose(self) -> None:
        """Give back servers, connections and files."""
        for model in self._models.values():
            await model.aclose()
        for store in self._stores.values():
            store.close()
        self._models, self._stores = {}, {}

    def _price(self, target: str, usage: Usage) -> float | None:
        return self.card(target).cost_usd(usage)

    def _leaf(self, call: Call) -> AsyncIterator[Event]:
        return self._model(call) if call.port == "model" else self._memory(call)

    async def _model(self, call: Call) -> AsyncIterator[Event]:
        card = self.card(call.target)
        with self._lock:
            if call.target not in self._models:
                self._models[call.target] = open_model(card, self.root)
            model = self._models[call.target]
        left = None if call.deadline is None else call.deadline - call.context.clock.monotonic()
        ask = {"chat": model.chat, "embed": model.embed}[call.operation]
        async with aclosing(ask(call.payload, timeout_s=left)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    async def _memory(self, call: Call) -> AsyncIterator[Event]:
        if call.operation not in {"add", "search", "count", "forget"}:
            raise NotFoundError(f"no memory does {call.operation!r}")
        # In a thread: SQLite waits for its file, and this loop serves every other call.
        view = await asyncio.to_thread(self.view, call.target, call.identity["version"], call.context.tenant)
        yield Event(data=await asyncio.to_thread(getattr(view, call.operation), **call.payload))

    def view(self, name: str, version: int, tenant: str) -> Memory:
        """One tenant's view of a memory: of the pinned snapshot if it is that memory's, else live."""
        pinned = self.snapshot()
        if pinned is not None and pinned.manifest.memory == name:
            return pinned.tenant(tenant)
        from workbench.memory.sqlite import SQLiteStore

        with self._lock:
            if (name, version) not in self._stores:
                path = self._memories / name / f"{version}.sqlite"
                self._stores[name, version] = SQLiteStore(path, name=name)
            return self._stores[name, version].tenant(tenant)


def chosen_card(root: Path, name: str, overrides: Mapping[str, Any]) -> ModelCard:
    """The use case's model card with the endpoint that params.yaml names, if it names one."""
    card = load_card(root, name)
    if card.kind != "chat":
        raise ConfigError(f"the model {name!r} is for {card.kind}, not for chat", hint="name another model")
    return card.overridden(**overrides) if any(overrides.values()) else card


def recorded(card: ModelCard) -> dict[str, Any]:
    """The label that keeps computations of this process off the tape."""
    return {} if card.recorded else {"recorded": False}
