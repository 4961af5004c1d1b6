"""The front end of all panels: one anywidget whose module draws a view and sends the actions of a person.

The module is front.js beside this file. It needs no build step and no network.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


class Front(anywidget.AnyWidget):
    """A view in the browser. `on_action` is called with each message of a person: `{action, value}`.

    With `while_busy` it is called while a cell runs too, in a thread of the kernel, where kernel and page
    have subshells (docs/design/widgets.md).
    """

    _esm = _HERE / "front.js"
    _css = _HERE / "front.css"
    content = traitlets.Dict().tag(sync=True)

    def __init__(
        self, content: dict[str, Any], *, on_action: Callable[[Any], None], while_busy: bool = False
    ) -> None:
        # Two views at once could be sent in another order than they are kept.
        self._showing = threading.Lock()
        super().__init__(content=content)
        self.on_msg(lambda _widget, message, _buffers: on_action(message))
        if while_busy:
            # ipykernel sends what a page answers to the shell that opened the comm, which is the busy one.
            with contextlib.suppress(AttributeError, TypeError):  # another kernel's comm
                self.comm._reply_subshell_for = lambda _data, sent_to: sent_to  # noqa: SLF001

    def show(self, content: dict[str, Any]) -> None:
        """Draw another view, from any thread."""
        with self._showing:
            self.content = content

    def bundle(self) -> dict[str, Any]:
        """Return the reference to the widget by which Jupyter shows it."""
        made = self._repr_mimebundle_()
        data = made[0] if isinstance(made, tuple) else made
        return {kind: value for kind, value in (data or {}).items() if kind.startswith("application/")}
