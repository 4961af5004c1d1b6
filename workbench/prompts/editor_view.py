"""The view of a prompt's editor: turns beside the preview, a trial on cases, and saving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from workbench.display import number, span
from workbench.prompts.preview import Preview
from workbench.prompts.prompt import Prompt
from workbench.prompts.shown_case import ShownCase
from workbench.prompts.surroundings import Surroundings
from workbench.prompts.trial import PromptTrial
from workbench.types import Reply
from workbench.widgets.nodes import Button, Details, Field, Group, Meter, Node, Tone, Words
from workbench.widgets.table import PAGE, Grid, Heading, texts

#: Lines of the field of a turn.
_LEAST_ROWS, _MOST_ROWS = 3, 14
_WIDE = 60
_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "undecided": "warn", "same": "warn"}


class EditorState(Protocol):
    """What the view shows of an editor."""

    base: Prompt
    turns: list[tuple[str, str]]
    around: Surroundings
    shown_case: ShownCase
    reply: Reply | None
    trial: PromptTrial | None
    kept_note: str
    reason: str
    n_cases: int
    flips_from: int
    done: int
    total: int
    newer: int | None

    @property
    def changed(self) -> bool:
        """Whether something is not saved."""

    @property
    def busy(self) -> str:
        """The action that goes on."""

    @property
    def passages_wanted(self) -> int:
        """The number of passages that are searched."""

    @property
    def problem_of_trial(self) -> str:
        """Why no trial can be run; empty if one can."""

    def shown(self) -> Preview:
        """Return the preview with what is known."""


def view_of(editor: EditorState) -> Node:
    """Return the editor as it is now.

    What comes and goes is in groups of its own: the page keeps the focus where the nodes around it stay.
    """
    shown = editor.shown()
    state = "not saved" if editor.changed else "unchanged"
    head: list[Node] = [Words(text=f"Prompt {editor.base.reference} · {state}", heading=2)]
    head += [Words(text=editor.kept_note, tone="warn")] if editor.kept_note else []
    sides = Group(row=True, nodes=(_turns(editor), _preview(editor, shown)))
    return Group(
        label=f"Editor of the prompt {editor.base.name}",
        nodes=(Group(nodes=head), sides, _trial(editor), _saving(editor)),
    )


def _turns(editor: EditorState) -> Node:
    fields = [
        Field(label=f"Turn {n + 1}: {role}", action=f"turn_{n}", text=text, rows=_rows(text), live=True)
        for n, (role, text) in enumerate(editor.turns)
    ]
    removable = [role for role, _ in editor.turns[-3:]] == ["user", "assistant", "user"]
    undo = f"Undo: back to {editor.base.reference}"
    adding = "editor.add_example(user, assistant)"
    buttons = (
        Button(label="Add an example", action="add_example", python=adding),
        Button(
            label="Remove the last example",
            action="remove_example",
            disabled=not removable,
            python="editor.remove_example()",
        ),
        Button(label=undo, action="reset", disabled=not editor.changed, python="editor.reset()"),
    )
    return Group(
        label="Turns",
        nodes=(Words(text="Turns", heading=3), Group(nodes=fields), Group(row=True, nodes=buttons)),
    )


def _rows(text: str) -> int:
    lines = sum(1 + len(line) // _WIDE for line in text.splitlines())
    return min(_MOST_ROWS, max(_LEAST_ROWS, lines + 1))


def _preview(editor: EditorState, shown: Preview) -> Node:
    asking = Button(
        label=f"Ask {editor.around.model}",
        action="ask",
        disabled=bool(editor.busy) or shown.rendered is None,
        python="editor.ask()",
    )
    return Group(
        label="Preview",
        nodes=(
            Words(text="Preview", heading=3),
            *_case(editor),
            *_inputs(editor),
            Group(nodes=list(_rendered(shown))),
            Group(row=True, nodes=(asking,)),
            Group(nodes=_answer(editor.reply)),
        ),
    )


def _rendered(shown: Preview) -> Iterator[Node]:
    if shown.problem:
        yield Words(text=shown.problem, tone="bad" if shown.rendered is None else "warn")
    for turn in shown.rendered.messages if shown.rendered is not None else ():
        yield Words(text=turn.role, tone="muted")
        yield Words(text=turn.content, code=True)
    if shown.amount:
        yield Words(text=shown.amount, tone="muted")
    yield from _passages(shown)


def _case(editor: EditorState) -> Iterator[Node]:
    case = editor.shown_case
    if case.case is None:
        yield Words(text=f"no case is shown: {case.why_none or 'the use case has none'}", tone="warn")
        return
    label = f"Case {case.place + 1:,} of {len(case):,}, of {case.tenant}: id or a text"
    yield Group(row=True, nodes=(
        Field(label=label, action="case", text=case.id),
        Button(label="Previous case", action="step", value=-1, shortcut="k", python="editor.step_case(-1)"),
        Button(label="Next case", action="step", value=1, shortcut="j", python="editor.step_case()"),
    ))  # fmt: skip


def _inputs(editor: EditorState) -> Iterator[Node]:
    case, header = editor.shown_case, editor.base.header
    for name, declared in header.inputs.items():
        if declared.type == "passages":
            label, text = f"{name}: how many are searched", str(editor.passages_wanted)
            yield Field(label=label, action="passages", text=text)
        elif declared.type != "list":
            text = case.typed.get(name, str(case.inputs.get(name, "")))
            yield Field(label=f"{name} ({declared.type})", action=f"input_{name}", text=text, live=True)


def _passages(shown: Preview) -> list[Node]:
    if not shown.passages:
        return []
    inner: list[Node] = []
    for n, hit in enumerate(shown.passages, start=1):
        inner += [Words(text=f"{n} · {hit.source} · {hit.score:.4f}", tone="muted"), Words(text=hit.text)]
    return [Details(summary=f"{len(shown.passages)} passages were found", nodes=inner)]


def _answer(reply: Reply | None) -> list[Node]:
    if reply is None:
        return []
    facts = [reply.model, f"{reply.usage.output_tokens or 0} tokens of output"]
    facts += [f"{number(reply.cost_usd)} USD"] if reply.cost_usd is not None else ["cost unknown"]
    facts += ["replayed"] if reply.replayed else []
    facts += [f"incomplete: {reply.reason}"] if reply.reason else []
    return [Words(text=reply.text, code=True), Words(text=" · ".join(facts), tone="muted")]


def _trial(editor: EditorState) -> Node:
    problem, running = editor.problem_of_trial, editor.busy == "run"
    nodes: list[Node] = [
        Words(text=f"Compare with {editor.base.reference}", heading=3),
        Group(row=True, nodes=(
            Field(label="Number of cases", action="cases", text=str(editor.n_cases)),
            Button(label="Run on these cases", action="run", primary=True,
                   disabled=bool(problem or editor.busy), python=f"editor.run({editor.n_cases})"),
            Button(label="Stop", action="stop", disabled=not editor.busy),
        )),
    ]  # fmt: skip
    state: list[Node] = [Words(text=problem, tone="muted")] if problem else []
    if running and editor.total:
        label = f"{editor.done} of {editor.total} answers"
        state.append(Meter(value=min(editor.done, editor.total), most=editor.total, label=label))
    result = _result(editor.trial, editor.flips_from) if editor.trial is not None else []
    if editor.trial is not None and editor.trial.is_of_another_text(editor.turns):
        state.append(Words(text="the texts have changed since this run", tone="warn"))
    return Group(label="Trial", nodes=(*nodes, Group(nodes=state), Group(nodes=result)))


def _result(trial: PromptTrial, first: int) -> list[Node]:
    rows = [
        texts(line.metric, number(line.baseline), number(line.value), f"{line.effect:+.3g}",
              span(line.interval, signed=True),
              "" if line.verdict is None else f"+{len(line.improved)} -{len(line.worsened)}")
        for line in (*trial.comparison.lines, *trial.comparison.amounts)
    ]  # fmt: skip
    heads = [Heading(label="metric")]
    heads += [Heading(label=label, numeric=True) for label in (trial.base, "draft", "effect")]
    heads += [Heading(label="interval"), Heading(label="flips")]
    caption = f"{trial.prompt.reference} against {trial.base} on {len(trial.cases)} cases"
    return [
        Words(text=trial.verdict, tone=_TONES.get(trial.comparison.verdict, "")),
        Grid(caption=caption, headings=heads, rows=rows, total=len(rows)),
        *_flips(trial, first),
    ]


def _flips(trial: PromptTrial, first: int) -> list[Node]:
    flips = trial.flips
    if not flips:
        return []
    marks: dict[bool, tuple[str, Tone]] = {True: ("better", "good"), False: ("worse", "bad")}
    rows: list[list[Node]] = []
    for flip in flips[first : first + PAGE]:
        word, tone = marks[flip.better]
        case = Button(label=flip.case, action="case", value=flip.case)
        rows.append([case, Words(text=word, tone=tone), *texts(flip.today, flip.draft)])
    labels = ("case", "the draft is", trial.base, "draft")
    heads = [Heading(label=label) for label in labels]
    caption = f"Cases whose {trial.first.metric} changed"
    return [Grid(caption=caption, headings=heads, rows=rows, first=first, total=len(flips), page="flips")]


def _saving(editor: EditorState) -> Node:
    unchanged = not editor.changed
    after, python = editor.newer, 'editor.save(reason="why it is better")'
    buttons = [
        Button(
            label="Save as the next version",
            action="save",
            disabled=unchanged,
            primary=bool(editor.reason.strip()),
            python=python,
        )
    ]
    if after is not None:
        theirs = f"{editor.base.name}@{after}"
        buttons = [
            Button(label=f"Save after {theirs}", action="save", value=after,
                   python=f'editor.save(reason="…", after={after})'),
            Button(label=f"Give mine up for {theirs}", action="reset", value=after,
                   python=f"editor.reset({after})"),
        ]  # fmt: skip
    why = "Reason: why it is better"
    return Group(
        label="Save",
        nodes=(
            Words(text="Save", heading=3),
            Field(label=why, action="reason", text=editor.reason, rows=2, live=True),
            Group(row=True, nodes=buttons),
        ),
    )
