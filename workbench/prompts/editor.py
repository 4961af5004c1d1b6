"""The editor of a prompt: its turns, a preview for a case, a trial on cases, and saving with a reason."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from workbench import _sync, arguments, files
from workbench.display import Card
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.experiments.scorers import Scorer
from workbench.experiments.task import Task
from workbench.prompts import editor_view
from workbench.prompts.kept_drafts import KeptDrafts
from workbench.prompts.live_preview import LivePreview
from workbench.prompts.preview import Preview
from workbench.prompts.prompt import Prompt
from workbench.prompts.shown_case import ShownCase
from workbench.prompts.surroundings import Surroundings
from workbench.prompts.trial import DRAFT, TODAY, PromptTrial
from workbench.types import Reply
from workbench.widgets.nodes import Node
from workbench.widgets.panel import Panel, is_run_by_program, told
from workbench.widgets.table import PAGE

#: Cases of a trial, unless a person says otherwise.
CASES: Final = 12
_MOST_PASSAGES: Final = 100
#: Seconds after a change before passages are searched and tokens counted anew.
_PAUSE_S: Final = 0.3
_NO_TASK: Final = "the editor was opened without a task, so it has nothing to run on cases"


class PromptEditor(Panel):
    """A prompt that is being edited. The texts may be invalid at any time; `preview` then says why.

    What is not saved is kept in a file, and the next editor of this prompt and person begins with it.
    """

    longest_text = 4 << 20  # a prompt with long examples fits, a file does not

    def __init__(
        self,
        prompt: Prompt,
        around: Surroundings,
        *,
        task: Task | None = None,
        scorers: Sequence[Scorer] | None = None,
    ) -> None:
        if task is not None and not isinstance(task, Task):
            raise ConfigError(f"{task!r} is not a task", hint="put @wb.task above the function")
        self.base, self.around, self.task, self.scorers = prompt, around, task, scorers
        self.turns: list[tuple[str, str]] = list(prompt.turns)
        self.parameters: dict[str, Any] = {}
        self.n_cases, self.reason, self.flips_from = CASES, "", 0
        self.done = self.total = 0
        self.trial: PromptTrial | None = None
        self.reply: Reply | None = None
        self.seen = around.newest(prompt.name)
        self.newer: int | None = None
        self.kept_note = ""
        self.shown_case = ShownCase(around)
        self.live = LivePreview(around, prompt.header)
        self._renewal: asyncio.Future[None] | None = None
        self._restore()

    # -- what is edited ------------------------------------------------------------------

    @property
    def system(self) -> str:
        """The text of the system turns; setting it leaves one of them, and none for an empty text."""
        return "\n\n".join(text for role, text in self.turns if role == "system")

    @system.setter
    def system(self, text: str) -> None:
        self.set(system=text)

    @property
    def user(self) -> str:
        """The text of the last turn."""
        return self.turns[-1][1]

    @user.setter
    def user(self, text: str) -> None:
        self.set(user=text)

    @property
    def changed(self) -> bool:
        """Whether the texts or parameters differ from the version that they were begun from."""
        ours = [(role, text.strip("\n")) for role, text in self.turns]
        return ours != list(self.base.turns) or bool(self.parameters)

    @property
    def draft(self) -> Prompt:
        """The texts as a prompt without a number; ConfigError, with the line, when they cannot be parsed."""
        return self.base.with_turns(self.turns, parameters=self.parameters)

    def set(
        self,
        *,
        system: str | None = None,
        user: str | None = None,
        examples: Sequence[tuple[str, str]] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Change turns, as `prompt.edit` does; a template that is wrong is kept, and `preview` names it."""
        heads = [turn for turn in self.turns if turn[0] == "system"]
        middle = self.turns[len(heads) : -1]
        if system is not None:
            heads = [("system", _checked(system))] if system else []
        if examples is not None:
            middle = [
                turn for u, a in examples for turn in (("user", _checked(u)), ("assistant", _checked(a)))
            ]
        last = self.turns[-1] if user is None else ("user", _checked(user))
        if parameters is not None:
            self.parameters = dict(parameters)
        self._change([*heads, *middle, last])

    def set_turn(self, number: int, text: str) -> None:
        """Change the text of one turn, counted from 0."""
        if not 0 <= number < len(self.turns):
            raise NotFoundError(
                f"the prompt has no turn {number}", hint=f"turns 0 to {len(self.turns) - 1}; editor.turns"
            )
        turns = list(self.turns)
        turns[number] = (turns[number][0], _checked(text))
        self._change(turns)

    def add_example(self, user: str = "", assistant: str = "") -> None:
        """Add an example, a user and an assistant turn, before the last turn."""
        example = [("user", _checked(user)), ("assistant", _checked(assistant))]
        self._change([*self.turns[:-1], *example, self.turns[-1]])

    def remove_example(self) -> None:
        """Remove the last example; ConfigError without one."""
        if [role for role, _ in self.turns[-3:]] != ["user", "assistant", "user"]:
            raise ConfigError("the prompt has no example to remove", hint="editor.add_example(user, answer)")
        self._change([*self.turns[:-3], self.turns[-1]])

    def reset(self, version: int | None = None) -> None:
        """Go back to the version that was opened, or take another one; what is not saved is given up."""
        if version is not None:
            self.base = self.around.version(f"{self.base.name}@{version}")
        self._restart(self.base)

    # -- the case that is shown ----------------------------------------------------------

    def show_case(self, text: str) -> None:
        """Show a case: the one with this id, else the next one whose inputs hold the text."""
        self.shown_case.show(text)
        self._another_case()

    def step_case(self, by: int = 1) -> None:
        """Show the next case, or with `by=-1` the one before; the first follows the last."""
        self.shown_case.step(by)
        self._another_case()

    def fill(self, **values: str) -> None:
        """Fill variables of the prompt with other texts than the case's, until another case is shown."""
        for name in values:
            if name not in self.base.header.inputs:
                raise NotFoundError(
                    f"the prompt has no input {name!r} ({nearest(name, self.base.header.inputs)})",
                    hint="editor.fill(question=…)",
                )
        self.shown_case.typed |= {name: arguments.text(str(value), name) for name, value in values.items()}
        self._renew()

    @property
    def passages_wanted(self) -> int:
        """The number of passages that a search returns; set it to see the prompt with more or fewer."""
        return self.live.k

    @passages_wanted.setter
    def passages_wanted(self, k: int) -> None:
        self.live.k = arguments.whole_number(k, "passages_wanted", least=1)
        self._renew()

    # -- preview, answer, trial, saving -------------------------------------------------

    async def _preview(self) -> Preview:
        """Return the draft rendered for the shown case, with its tokens and price; errors are in `problem`.

        Searches the passages that the prompt takes, as the case's tenant, and lets the model count.
        """
        await self.live.find(self.shown_case)
        await self.live.count(self.shown_case, self.shown().rendered)
        return self.shown()

    preview, preview_async = _sync.twins(_preview)

    async def _ask(self) -> Reply:
        """Return the model's answer to the draft for the shown case; ConfigError if it cannot be rendered."""
        await self.live.find(self.shown_case)
        draft, case = self.draft if self.changed else self.base, self.shown_case
        self.reply = await self.around.ask(case.tenant, draft.render(**self.live.values(case)))
        return self.reply

    ask, ask_async = _sync.twins(_ask)

    async def _run(self, k: int | None = None) -> PromptTrial:
        """Run the task on `k` cases, once by the opened version and once by the draft, and compare them.

        The cases are drawn by the use case's seed. Answers that are known already are not asked again, so
        a run that was stopped goes on where it ended. Raises ConfigError without a task or a change.
        """
        task, cases = self._checked_trial(), self.shown_case.known()
        wanted = self.n_cases if k is None else arguments.whole_number(k, "k", least=1)
        sample, draft = cases.sample(wanted, seed=self.around.seed), self.draft
        self.done, self.total = 0, 2 * len(sample)
        base = self.base if self.base.number is None else self.base.reference
        arms: dict[str, dict[str, Any]] = {TODAY: {"prompt": base}, DRAFT: {"prompt": draft}}
        runs = await self.around.compare(self._counting(task), sample, self.scorers, arms)
        if runs.comparison is None:
            raise ConfigError("there is nothing to compare", hint="editor.run(12)")
        self.flips_from = 0
        self.trial = PromptTrial.of(
            draft, base=self.base.reference, comparison=runs.comparison[DRAFT], cases=sample
        )
        return self.trial

    run, run_async = _sync.twins(_run)

    def save(self, *, reason: str, after: int | None = None) -> Prompt:
        """Save the draft as the next version and return it.

        ConfigError without a change or a reason, and when another version was saved since the editor was
        opened: read it, and name it with `after`. The texts stay in the editor then.
        """
        if not self.changed:
            raise ConfigError(f"nothing differs from {self.base.reference}", hint="change a turn first")
        try:
            saved = self.draft.save(reason=reason, after=self.seen if after is None else after)
        except ConfigError:
            newest = self.around.newest(self.base.name)
            self.newer = newest if newest > self.seen else None
            raise
        self._restart(saved)
        self.reason = ""
        return saved

    # -- actions of the panel ------------------------------------------------------------

    def on_add_example(self, _: Any) -> None:
        """Add an empty example."""
        self.add_example()

    def on_remove_example(self, _: Any) -> None:
        """Remove the last example."""
        self.remove_example()

    def on_reset(self, version: Any) -> None:
        """Go back to a version."""
        self.reset(version)
        self.notice = f"the texts are those of {self.base.reference}"

    def on_case(self, text: str) -> None:
        """Show the case that a person names."""
        self.show_case(text)

    def on_step(self, by: int) -> None:
        """Show the next case or the one before."""
        self.step_case(by)

    def on_passages(self, text: str) -> None:
        """Set how many passages are searched."""
        self.passages_wanted = _number(text, "passages", most=_MOST_PASSAGES)

    def on_cases(self, text: str) -> None:
        """Set on how many cases the draft is tried."""
        self.n_cases = _number(text, "cases", most=max(1, len(self.shown_case)))

    def on_reason(self, text: str) -> None:
        """Keep the reason that is being written."""
        self.reason = arguments.text(text, "reason")

    def on_flips(self, first: int) -> None:
        """Show another page of the cases that flipped."""
        last = max(0, len(self.trial.flips) - 1) if self.trial is not None else 0
        self.flips_from = min(max(0, first), last) // PAGE * PAGE

    def on_save(self, after: Any) -> None:
        """Save with the reason that was written."""
        saved = self.save(reason=self.reason, after=after)
        self.notice = f"saved as {saved.reference}: name it under prompt in params.yaml, then dvc repro"

    async def on_ask(self, _: Any) -> None:
        """Ask the model for the shown case."""
        await self.ask_async()

    async def on_run(self, _: Any) -> None:
        """Try the draft on cases, and show how far it is."""
        self._checked_trial()
        work = asyncio.ensure_future(self.run_async())
        try:
            while not (await asyncio.wait({work}, timeout=0.5))[0]:
                self.refresh()
            work.result()
        finally:
            work.cancel()
            self.done = self.total = 0

    # -- showing -------------------------------------------------------------------------

    def view(self) -> Node:
        """Return the editor as it is now."""
        return editor_view.view_of(self)

    def card_html(self) -> str:
        """Return the turns and the preview's amount as a card."""
        shown = self.shown()
        rows = [(role, text) for role, text in self.turns]
        notes = [text for text in (shown.problem, shown.amount) if text]
        return Card(title=f"editor of {self.base.reference}", head=("turn", "text"), rows=rows,
                    notes=notes).html()  # fmt: skip

    def shown(self) -> Preview:
        """Return the preview with what is known without a call: passages that were found, tokens counted."""
        return self.live.preview(self.shown_case, lambda: self.draft if self.changed else self.base)

    def mimebundle(self, *, html: str = "") -> dict[str, Any]:
        """Return the forms for Jupyter, and search and count beside the cell."""
        bundle = super().mimebundle(html=html)
        self._renew()
        return bundle

    # -- internals -----------------------------------------------------------------------

    def _method(self, action: str) -> Callable[[Any], Any]:
        """Return the method of an action; a field names its turn as `turn_0`, its input as `input_NAME`."""
        kind, _, which = action.partition("_")
        if kind == "turn" and which.isdecimal():
            return partial(self.set_turn, int(which))
        if kind == "input" and which in self.base.header.inputs:
            return lambda text: self.fill(**{which: text})
        return super()._method(action)

    def _change(self, turns: list[tuple[str, str]]) -> None:
        self.turns, self.reply = turns, None  # the answer was to another text
        self._keep()
        self._renew()

    def _keep(self) -> None:
        """Keep what is not saved in a file; a file that cannot be written becomes a note."""
        if is_run_by_program():
            return
        try:
            if not self.changed:
                self._kept.discard()
                written = True
            else:
                written = self._kept.write(
                    base=self.base.reference,
                    at=self.around.now(),
                    turns=self.turns,
                    parameters=self.parameters,
                )
            self.kept_note = "" if written else "the text is too long to outlive the kernel: save it"
        except WorkbenchError as error:
            self.kept_note = f"what is not saved ends with the kernel: {error.message}"

    def _restore(self) -> None:
        around = self.around
        self._kept = KeptDrafts(
            around.drafts, use_case=around.use_case, prompt=self.base.name, author=around.author
        )
        # A program's run of a notebook must not depend on what a person has left unsaved on this machine.
        found = None if is_run_by_program() else self._kept.newest()
        if found is None:
            damaged = self._kept.damaged
            self.kept_note = f"an unsaved text cannot be read: {', '.join(damaged)}" if damaged else ""
            return
        self.turns, self.parameters = [*found.turns], dict(found.parameters)
        at = found.at[:16].replace("T", " ")
        self.kept_note = f"restored: what was not saved on {at} UTC, begun from {found.base}"

    def _restart(self, prompt: Prompt) -> None:
        self.base, self.turns, self.parameters = prompt, list(prompt.turns), {}
        self.seen, self.newer = self.around.newest(prompt.name), None
        self.trial = self.reply = None
        self._keep()
        self._renew()

    def _another_case(self) -> None:
        self.reply = None
        self._renew()

    def _renew(self) -> None:
        """Search and count beside the cell, where a front end shows the result."""
        if self._front is None:
            return
        with contextlib.suppress(RuntimeError):  # no loop runs here
            asyncio.get_running_loop()
            if self._renewal is not None:
                self._renewal.cancel()
            self._renewal = asyncio.ensure_future(self._renewed())

    async def _renewed(self) -> None:
        await asyncio.sleep(_PAUSE_S)
        try:
            await self.preview_async()
        except Exception as error:  # noqa: BLE001  (the panel tells a person of it)
            self.notice = told(error)
        self.refresh()

    @property
    def problem_of_trial(self) -> str:
        """Why no trial can be run: no task, no cases, or no change; empty if one can."""
        if self.task is None:
            return f'{_NO_TASK}: ws.prompt("{self.base.name}").edit(task=answer)'
        if not len(self.shown_case):
            return self.shown_case.why_none or "the use case has no cases"
        return "" if self.changed else f"nothing differs from {self.base.reference}: change a turn first"

    def _checked_trial(self) -> Task:
        if self.task is None or self.problem_of_trial:
            what, _, hint = self.problem_of_trial.partition(": ")
            raise ConfigError(what, hint=hint)
        return self.task

    def _counting(self, task: Task) -> Task:
        """Return the task, which counts the cases that it is done with."""

        def done(ws: Any, case: Any) -> Any:
            try:
                return task(ws, case)
            finally:
                self.done += 1

        async def done_async(ws: Any, case: Any) -> Any:
            try:
                return await task(ws, case)
            finally:
                self.done += 1

        return replace(task, function=done_async if inspect.iscoroutinefunction(task.function) else done)


def _checked(text: str) -> str:
    return arguments.text(text, "the turn")


def _number(text: str, what: str, *, most: int) -> int:
    """Return a whole number that a person entered; ConfigError for another one."""
    number = int(text) if str(text).strip().isdecimal() and len(str(text)) < 10 else 0
    if not 1 <= number <= most:
        raise ConfigError(f"{what} is {files.shortened(str(text))!r}, not a whole number from 1 to {most:,}")
    return number
