"""The front end of all panels: one anywidget whose module draws a view and sends the actions of a person.

The module is front.js beside this file. It needs no build step and no network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


class Front(anywidget.AnyWidget):
    """A view in the browser. `on_action` is called with each message of a person: `{action, value}`."""

    _esm = _HERE / "front.js"
    _css = _HERE / "front.css"
    content = traitlets.Dict().tag(sync=True)

    def __init__(self, content: dict[str, Any], *, on_action: Callable[[Any], None]) -> None:
        super().__init__(content=content)
        self.on_msg(lambda _widget, message, _buffers: on_action(message))

    def show(self, content: dict[str, Any]) -> None:
        """Draw another view."""
        self.content = content

    def bundle(self) -> dict[str, Any]:
        """Return the reference to the widget by which Jupyter shows it."""
        made = self._repr_mimebundle_()
        data = made[0] if isinstance(made, tuple) else made
        return {kind: value for kind, value in (data or {}).items() if kind.startswith("application/")}
