"""Show the progress of a run: one line in a terminal, a panel with a button to stop it in a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator
from typing import Any, Protocol, TextIO

from workbench import _sync
from workbench.display import harmless
from workbench.experiments.progress import Progress
from workbench.widgets.nodes import Button, Group, Meter, Node, Words
from workbench.widgets.panel import Panel, has_front_end, is_reached_while_busy

#: Seconds before anything is shown: of a shorter run its result is enough.
_DELAY_S = 0.5
#: Seconds between two lines of a log.
_LOG_S = 10.0
_STOP = "Stop and keep what is finished"
_OR_INTERRUPT = "Or interrupt the kernel: the button ■, or the key I twice."
_INTERRUPT = "To stop and keep what is finished, interrupt the kernel: the button ■, or the key I twice."


class Shows(Protocol):
    """Shows a progress again and again, `every_s` seconds, and its end once."""

    every_s: float

    def show(self, progress: Progress) -> None:
        """Show it as it is now."""

    def end(self, progress: Progress) -> None:
        """Show it for the last time."""


@contextlib.asynccontextmanager
async def shown(progress: Progress) -> AsyncIterator[None]:
    """Show the progress while the block runs, if it takes longer than a moment and no runner reads it."""
    if progress.path is not None or not progress.total:
        try:
            yield
        finally:
            progress.end()
        return
    ticking = asyncio.ensure_future(_tick(progress))
    try:
        yield
    finally:
        progress.end()
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if (shows := await ticking) is not None:
                shows.end(progress)


async def _tick(progress: Progress) -> Shows | None:
    """Show the progress until it is cancelled; return what showed it, or None when nothing did."""
    shows: Shows | None = None
    try:
        await asyncio.sleep(_DELAY_S)
        shows = PanelDisplay(progress) if has_front_end() else lines_for(sys.stderr)
        while True:
            await progress.ask_room()
            shows.show(progress)
            await asyncio.sleep(shows.every_s)
    except asyncio.CancelledError:
        return shows
    except Exception as error:  # noqa: BLE001 - what only shows a run never ends it
        sys.stderr.write(f"the progress is not shown any more: {type(error).__name__}\n")
        return None


def lines_for(stream: TextIO) -> Shows:
    """Return what shows a progress in a stream: one line again and again in a terminal, else a log."""
    return _TerminalLine(stream) if stream.isatty() else _PlainLines(stream)


class _TerminalLine:
    """One line of a terminal, written anew."""

    every_s = 0.25

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, progress: Progress) -> None:
        columns = shutil.get_terminal_size().columns
        line = harmless(str(progress))
        self._write(f"\r\x1b[2K{line if len(line) < columns else line[: columns - 2] + '…'}")

    def end(self, progress: Progress) -> None:
        self._write(f"\r\x1b[2K{harmless(str(progress))}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._stream.write(text)
            self._stream.flush()


class _PlainLines(_TerminalLine):
    """Lines of a file or a pipe."""

    every_s = _LOG_S

    def show(self, progress: Progress) -> None:
        self._write(f"{harmless(str(progress))}\n")

    end = show


class ProgressPanel(Panel):
    """The progress of a run, with a button that stops it and keeps what is finished.

    `interrupted` is whether a cell waits for the run, so that an interrupt of the kernel stops it too: not
    every kernel handles a button meanwhile.
    """

    while_busy = True

    def __init__(self, progress: Progress, *, interrupted: bool = False) -> None:
        self._progress, self._interrupted = progress, interrupted

    def stop(self) -> None:
        """End the run and keep what is finished, from another cell or thread."""
        self._progress.stop()
        self.refresh()

    def on_stop(self, _: Any) -> None:
        """Stop the run."""
        self._progress.stop()

    def view(self) -> Node:
        """Return the share that is done, what is known, and the button; of a run that has ended, one line."""
        progress = self._progress
        if progress.ended:
            return Words(text=str(progress), tone="warn" if progress.errors or progress.stopped else "muted")
        first, *others = progress.facts()
        nodes: list[Node] = [
            Words(text=progress.title, heading=4),
            Meter(value=progress.done, most=max(1, progress.total), label=first),
            *(Words(text=text, tone="warn" if " error" in text else "") for text in others),
        ]
        return Group(label=progress.title, nodes=[*nodes, Group(row=True, nodes=self._stops())])

    def _stops(self) -> list[Node]:
        """Return the button, or the way that is left where no click reaches a kernel whose cell waits."""
        stop = Button(label=_STOP, action="stop", disabled=self._progress.stopped)
        if not self._interrupted:
            return [stop]
        if is_reached_while_busy():
            return [stop, Words(text=_OR_INTERRUPT, tone="muted")]
        return [Words(text=_INTERRUPT, tone="muted")]


class PanelDisplay:
    """A panel below the cell that runs. Its last state replaces the first in the stored output."""

    every_s = 0.5

    def __init__(self, progress: Progress) -> None:
        self.panel = ProgressPanel(progress, interrupted=_sync.main_thread_waits())
        self._handle: Any = None

    def show(self, progress: Progress) -> None:  # noqa: ARG002 - the panel holds it
        """Show the panel, or send what has changed."""
        if self._handle is None:
            from IPython.display import display

            self._handle = display(self.panel, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self.panel.refresh()

    def end(self, progress: Progress) -> None:  # noqa: ARG002
        """Send the last state, also to where only text is read."""
        self.panel.refresh()
        if self._handle is not None:
            self._handle.update(self.panel)
