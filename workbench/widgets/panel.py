"""Panels: Python objects with a view that a person touches. They work the same without a front end.

A panel keeps its state in Python. `view` returns what is shown now, and each method `on_NAME` is an action
that a button or a field of the view names. In a notebook, the front end draws the view and sends actions;
elsewhere `print(panel)` gives the same view as text, and a program calls the methods.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from math import isfinite
from typing import Any, ClassVar

from workbench.display import harmless
from workbench.errors import WorkbenchError
from workbench.widgets.cutting import LONGEST, cut, storable
from workbench.widgets.nodes import Node, Words

#: 0 where no person looks, as when papermill runs a notebook: panels are text and HTML then.
SWITCH = "WORKBENCH_WIDGETS"
#: Characters of a notice: what is wrong and what to type fit, a value that an error repeats does not.
_LONGEST_NOTICE = 2_000


class Panel(ABC):
    """A view with actions. `notice` is what a person is told of the last action.

    `longest_text` is the number of characters of the longest text that a front end may send.
    """

    longest_text: int = LONGEST
    notice: str = ""
    _busy: str = ""
    #: Whether its actions may be done in another thread while a cell runs, as the kernel and the page can.
    while_busy: ClassVar[bool] = False
    _received: int = 0
    _front: Any = None
    _task: asyncio.Future[None] | None = None

    @abstractmethod
    def view(self) -> Node:
        """Return what is shown now."""

    def card_html(self) -> str:
        """Return HTML for where no front end draws the view, such as an executed copy; empty for none."""
        return ""

    # -- actions -------------------------------------------------------------------------

    def act(self, action: str, value: Any = None) -> None:
        """Do what a person asked for, and show the result.

        An error becomes the notice, and nothing else changes. An action that is a coroutine goes on beside
        the cell; meanwhile `busy` names it, and no other coroutine begins.
        """
        try:
            self.notice = ""
            method = self._method(action)
            _check_kind(method, action, value)
            done = method(value)
        except Exception as error:  # noqa: BLE001  (a person at a panel is told of it; a kernel logs it unseen)
            self.notice = told(error)
            done = None
        if inspect.iscoroutine(done):
            self._begin(action, done)
        self.refresh()

    def _begin(self, action: str, work: Coroutine[Any, Any, Any]) -> None:
        """Let an action go on beside the cell; a second one, as of a double click, does not begin."""
        if self._busy:
            work.close()
            self.notice = f"{self._busy} goes on: wait for its end, or stop it first"
            return
        self._busy = action
        self._task = asyncio.ensure_future(self._finish(work))  # the loop holds tasks weakly
        self._task.add_done_callback(lambda _: self._end_unbegun(work))

    def on_stop(self, _: Any) -> None:
        """End the action that goes on; what it has finished stays."""
        if self._task is not None:
            self._task.cancel()

    def receive(self, message: Any) -> None:
        """Do the action of a front end's message; one of another form or too large changes nothing.

        Every message is answered by a view, also where nothing has changed: a page that gets none says so.
        """
        self._received += 1
        value = message.get("value") if isinstance(message, Mapping) else None
        if not isinstance(message, Mapping) or not isinstance(message.get("action"), str):
            self.notice = "the page sent a message of another form: reload the page"
        elif problem := self._problem(value):
            self.notice = problem
        else:
            return self.act(message["action"], value)
        return self.refresh()

    def _problem(self, value: Any) -> str:
        """Return why no button or field of a view sends this value; empty if one may."""
        if isinstance(value, str):
            if len(value) > self.longest_text:
                most = f"at most {self.longest_text:,} can be entered here"
                return f"the text has {len(value):,} characters; {most}"
            if storable(value) != value:
                return "the text holds half of a surrogate pair, which no file keeps: type it again"
        elif not (value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value))):
            return "the page sent a value of another form: reload the page"
        return ""

    @property
    def busy(self) -> str:
        """The action that goes on, or an empty text."""
        return self._busy

    def refresh(self) -> None:
        """Send the view as it is now to the front ends that show it."""
        if self._front is not None:
            self._front.show(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the form that the front end draws: view, notice, what goes on, and messages so far.

        Where a view cannot be made, as of a file that was damaged meanwhile, it says why.
        """
        try:
            view = self.view().to_json()
        except Exception as error:  # noqa: BLE001  (as above)
            view = _undrawable(error).to_json()
        notice = cut(self.notice, _LONGEST_NOTICE)
        return {"view": view, "notice": notice, "busy": self._busy, "received": self._received}

    def _method(self, action: str) -> Callable[[Any], Any]:
        method = getattr(self, f"on_{action}", None) if action.isidentifier() else None
        if method is None:
            raise WorkbenchError(f"the panel has no action {action!r}", hint="run the cell again")
        return method  # type: ignore[no-any-return]

    def _end_unbegun(self, work: Coroutine[Any, Any, Any]) -> None:
        """End an action that was stopped before its first step, of which `_finish` knows nothing."""
        if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
            work.close()
            self._busy, self.notice = "", "stopped"
            self.refresh()

    async def _finish(self, work: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self.notice = "stopped"
        except Exception as error:  # noqa: BLE001  (as above)
            self.notice = told(error)
        finally:
            self._busy = ""
            self.refresh()

    # -- showing -------------------------------------------------------------------------

    def __str__(self) -> str:
        try:
            lines = self.view().lines()
        except Exception as error:  # noqa: BLE001  (as above)
            lines = _undrawable(error).lines()
        notice = [harmless(cut(self.notice, _LONGEST_NOTICE))] if self.notice else []
        return "\n".join([*lines, *notice]).strip("\n")

    def mimebundle(self, *, html: str = "") -> dict[str, Any]:
        """Return the forms for Jupyter: text, HTML if there is one, and the widget where a kernel runs."""
        bundle: dict[str, Any] = {"text/plain": str(self)}
        if shown := html or self.card_html():
            bundle["text/html"] = shown
        if not has_front_end():
            return bundle
        if self._front is None:
            from workbench.widgets.front import Front

            self._front = Front(self.to_json(), on_action=self.receive, while_busy=self.while_busy)
        self.refresh()
        return {**self._front.bundle(), **bundle}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002
        return self.mimebundle()


def has_front_end() -> bool:
    """Whether this process is a kernel to which a front end may be connected."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None and not is_run_by_program()


def is_reached_while_busy() -> bool:
    """Whether this process is a kernel that handles messages of a page while a cell runs, by subshells."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    told = getattr(getattr(shell, "kernel", None), "kernel_info", None) or {}
    return "kernel subshells" in told.get("supported_features", ())


def is_run_by_program() -> bool:
    """Whether a program runs the notebook, as the judge, a job and `workbench run` do: no person looks."""
    return os.environ.get(SWITCH, "1") == "0"


def told(error: Exception) -> str:
    """Return an error in one text: its message and the next command, or the kind of one that is not ours."""
    if isinstance(error, WorkbenchError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _check_kind(method: Callable[[Any], Any], action: str, value: Any) -> None:
    """Raise WorkbenchError for a value of another type than the argument, where that is `str` or `int`."""
    (argument,) = inspect.signature(method).parameters.values()
    kind = {"str": str, "int": int}.get(str(argument.annotation))
    if kind is not None and type(value) is not kind:
        wanted = "a text" if kind is str else "a whole number"
        raise WorkbenchError(
            f"{action} takes {wanted}, not {type(value).__name__}", hint="run the cell again"
        )


def _undrawable(error: Exception) -> Node:
    return Words(text=f"this cannot be shown: {told(error)}", tone="bad")


def unavailable(what: str, hint: str) -> Node:
    """Return the view of something that is gone, with what to type."""
    return Words(text=f"{what}\n  -> {hint}", tone="warn")
