"""Prompts: immutable versions in `.prompty` files, rendered strictly and edited from a notebook.

A file is YAML front matter between `---` lines, followed by chat turns. Each turn starts with a line
`system:`, `user:` or `assistant:` (the Prompty format). Turns are Jinja2 templates. Each turn is rendered
separately in a sandbox, so an input value cannot start a new turn. A turn that renders to nothing is left
out, except the last one: a prompt with three examples renders with fewer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, overload

from workbench import arguments, files, registry, schemas
from workbench.errors import ConfigError, nearest
from workbench.prompts import sandbox
from workbench.types import Hit, Message, Role

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

InputType = Literal["string", "integer", "number", "boolean", "list", "passages"]
_PYTHON: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": (list, tuple),
    "passages": (list, tuple),
}
_DRAFT = "draft-"
#: Rounds of nested loops over constant ranges.
_ROUNDS = 100_000
#: What the values of inputs can raise in a template, beside Jinja2's own errors.
_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
_ROLE_LINE = re.compile(r"^(system|user|assistant):[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a prompt: its type and the class of its data.

    An input with a `kind`, such as `person`, is an identifier of that kind as a whole.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    type: InputType
    data_class: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A prompt's front matter. `output` is the JSON schema of the answer, or null for free text.

    `parameters` are wire parameters, such as `max_tokens`, that override those of the model card.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    owner: str
    reason: str
    inputs: dict[str, Input]
    description: str = ""
    parent: int | None = None
    output: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A rendered prompt, the argument of `ws.model().chat`.

    `data_classes` are the classes of its inputs and of its passages. `inputs` are what it was rendered with.
    """

    messages: tuple[Message, ...] = field(repr=False)
    prompt: str
    digest: str
    passages: tuple[Hit, ...] = field(default=(), repr=False)
    output: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data_classes: tuple[str, ...] = ()
    identifiers: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


#: Saves a draft with a reason, after the newest version that its author has seen; None for any.
Saver = Callable[["Prompt", str, int | None], "Prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt: a saved version, or a draft when `number` is None."""

    header: Header
    turns: tuple[tuple[Role, str], ...]
    digest: str
    number: int | None = None
    saver: Saver | None = field(default=None, repr=False, compare=False)
    #: Opens the editor of this prompt in its workspace.
    editor: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The asset's name."""
        return self.header.name

    @property
    def reference(self) -> str:
        """The reference, such as `answer@2`, or `answer@draft-1f2e3d4c` for a draft with that digest."""
        return f"{self.name}@{self.number or _DRAFT + self.digest[:8]}"

    def render(self, /, **inputs: Any) -> Rendered:
        """Render the turns with `inputs`, without those that render to nothing; the last turn always stays.

        Raises ConfigError for a missing, unknown or mistyped input, and for a turn that cannot be
        rendered with these values.
        """
        _check_inputs(self.header, inputs)
        rendered = [
            Message(role=role, content=_render(text, inputs, f"{self.reference}: {role} turn"))
            for role, text in self.turns
        ]
        messages = (*(turn for turn in rendered[:-1] if turn.content.strip()), rendered[-1])
        passages = tuple(
            hit
            for name, declared in self.header.inputs.items()
            if declared.type == "passages"
            for hit in inputs[name]
        )
        return Rendered(
            messages=messages,
            prompt=self.reference,
            digest=self.digest,
            passages=passages,
            inputs=inputs,
            output=self.header.output,
            parameters=self.header.parameters,
            data_classes=tuple(
                sorted(
                    {declared.data_class for declared in self.header.inputs.values()}
                    | {name for hit in passages if (name := getattr(hit, "data_class", ""))}
                )
            ),
            identifiers=tuple(
                (inputs[name], declared.kind, declared.data_class)
                for name, declared in self.header.inputs.items()
                if declared.kind and inputs[name]
            ),
        )

    @overload
    def edit(self, *, task: Any = None, scorers: Sequence[Any] | None = None) -> Any: ...

    @overload
    def edit(
        self,
        *,
        system: str | None = None,
        user: str | None = None,
        examples: Sequence[tuple[str, str]] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Prompt: ...

    def edit(self, *, task: Any = None, scorers: Sequence[Any] | None = None, **turns: Any) -> Any:
        """Return a draft with changed turns; without any, open the editor of this prompt.

        `system` and `user` are the texts of these turns, `examples` are (user, assistant) pairs, and
        `parameters` are wire parameters. `task` is what the editor runs on cases, with `scorers`, by default
        those of the use case. Raises ConfigError for turns that cannot be parsed and for both at once.
        """
        if not turns:
            return self._opened(task=task, scorers=scorers)
        if task is not None or scorers is not None:
            raise ConfigError(
                "a draft has turns, and the editor a task: not both",
                hint='prompt.edit(system="…") or prompt.edit(task=answer)',
            )
        return self._edited(**turns)

    def _opened(self, **options: Any) -> Any:
        if self.editor is None:
            raise ConfigError(
                f"{self.reference} belongs to no workspace, whose cases and model its editor needs",
                hint='take it from ws.prompt("…"), or name a turn: prompt.edit(system="…")',
            )
        return self.editor(self, **options)

    def _edited(
        self,
        *,
        system: str | None = None,
        user: str | None = None,
        examples: Sequence[tuple[str, str]] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Prompt:
        old_system = [text for role, text in self.turns if role == "system"]
        middle = list(self.turns[len(old_system) : -1])
        if examples is not None:
            middle = [turn for u, a in examples for turn in (("user", u), ("assistant", a))]
        new_system = [system] if system is not None else old_system
        turns = (
            *(("system", text) for text in new_system),
            *middle,
            ("user", user if user is not None else self.turns[-1][1]),
        )
        return self.with_turns(turns, parameters=parameters)

    def with_turns(
        self, turns: Sequence[tuple[str, str]], *, parameters: Mapping[str, Any] | None = None
    ) -> Prompt:
        """Return a draft with these turns, and `parameters` beside the prompt's own.

        Raises ConfigError for turns that cannot be parsed, and for a line such as `user:` in a turn, which
        would begin another one.
        """
        where = f"draft of {self.reference}"
        for role, text in turns:
            if found := _ROLE_LINE.search(text):
                line = text.count("\n", 0, found.start()) + 1
                raise ConfigError(
                    f"{where}: {role} turn, line {line}: {found[0].strip()!r} alone on a line begins a turn",
                    hint="write something else on that line, or make it a turn of its own",
                )
        header = dataclasses.replace(
            self.header,
            parent=self.number if self.number is not None else self.header.parent,
            parameters={**self.header.parameters, **(parameters or {})},
        )
        draft = parse(compose(header, turns), where=where)
        return dataclasses.replace(draft, number=None, saver=self.saver, editor=self.editor)

    def save(self, *, reason: str, after: int | None = None) -> Prompt:
        """Save this draft as the next version with its `reason`; return the saved prompt.

        `after` is the newest version that you have seen. Raises ConfigError for a saved prompt, an empty
        reason, a prompt outside a repository, and a version that is newer than `after`.
        """
        if self.number is not None:
            raise ConfigError(
                f"{self.reference} is saved already", hint="edit it first: prompt.edit(system=…)"
            )
        if not reason.strip():
            raise ConfigError("a new version needs a reason", hint='draft.save(reason="why it is better")')
        if self.saver is None:
            raise ConfigError("this prompt belongs to no repository", hint='take it from ws.prompt("…")')
        saved = self.saver(self, reason, after)
        return dataclasses.replace(saved, editor=self.editor)

    def __str__(self) -> str:
        return "\n\n".join(f"{role}:\n{text}" for role, text in self.turns)


def is_draft(reference: str) -> bool:
    """Return whether a prompt's reference names an unsaved draft."""
    return reference.partition("@")[2].startswith(_DRAFT)


def parse(text: str, *, where: str) -> Prompt:
    """Parse a prompt from its file's text; raise ConfigError, prefixed with `where`, when it is invalid."""
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        raise ConfigError(
            f"{where}: the front matter between two lines of --- is missing",
            hint="begin the file as pipelines/prompts/answer/2.prompty does",
        )
    front, body = text[4:].split("\n---\n", 1)
    header = files.parse(Header, files.parse_yaml(front + "\n", where=where), where=where)
    pieces = _ROLE_LINE.split(body)
    if pieces[0].strip():
        raise ConfigError(
            f"{where}: there is text before the first turn",
            hint="begin the turn with a line system: or user:",
        )
    for name, declared in header.inputs.items():
        if declared.kind and declared.type != "string":
            raise ConfigError(
                f"{where}: inputs.{name}.kind: an identifier is a string, not a {declared.type}",
                hint=f"remove kind, or write type: string under {name}",
            )
    turns = tuple(
        (cast("Role", role), content.strip("\n"))
        for role, content in zip(pieces[1::2], pieces[2::2], strict=True)
    )
    if not turns or turns[-1][0] != "user":
        raise ConfigError(f"{where}: the last turn must be 'user:'", hint="end the file with a user: turn")
    _check_templates(header, turns, where)
    if header.output is not None:
        _check_schema(header.output, where)
    return Prompt(header=header, turns=turns, digest=files.digest(text.encode()))


def compose(header: Header, turns: Sequence[tuple[str, str]]) -> str:
    """Return the file text of a prompt; the inverse of `parse`."""
    raw = {k: v for k, v in dataclasses.asdict(header).items() if v not in (None, {}, "")}
    raw["inputs"] = {
        name: {k: v for k, v in dataclasses.asdict(value).items() if v}
        for name, value in header.inputs.items()
    }
    body = "\n\n".join(f"{role}:\n{text}" for role, text in turns)
    return f"---\n{files.yaml_text(raw)}---\n{body}\n"


def load(root: Path, reference: str, *, author: str) -> Prompt:
    """Load a saved prompt and check its digest; `author` signs the versions saved from it."""
    prompt = read(registry.resolve(root, "prompt", reference))

    def saver(draft: Prompt, reason: str, after: int | None) -> Prompt:
        header = dataclasses.replace(draft.header, reason=reason)
        data = compose(header, draft.turns).encode()
        parse(data.decode(), where=f"draft of {draft.name}")
        entry = registry.VersionEntry(
            digest=files.digest(data), author=author, reason=reason, parent=header.parent
        )
        saved = registry.save_entry(root, "prompt", draft.name, data, entry, seen=after)
        return load(root, str(saved), author=author)

    return dataclasses.replace(prompt, saver=saver)


def read(version: registry.Version) -> Prompt:
    """Read the prompt of a version; raise ConfigError when its name differs from the version's."""
    prompt = _parsed(version.path)
    if prompt.name != version.name:
        raise ConfigError(
            f"{version.path}: the name {prompt.name!r} differs from the folder's, {version.name!r}",
            hint=f"write name: {version.name}",
        )
    return dataclasses.replace(prompt, number=version.number)


@files.until_changed
def _parsed(path: Path) -> Prompt:
    return parse(files.read_text(path), where=str(path))


def _render(text: str, inputs: Mapping[str, Any], where: str) -> str:
    from jinja2 import TemplateError, nodes

    try:
        rendered = sandbox.render(text, inputs)
    except (TemplateError, *_FAILURES) as error:
        line = _line_of(error)
        found = sandbox.environment().parse(text).find_all(nodes.Name)
        used = {node.name for node in found if node.lineno == line}
        names = ", ".join(name for name in inputs if name in used)
        raise ConfigError(
            f"prompt {where}, line {line}{f', with {names}' if names else ''}: {error}",
            hint="pass another value, or correct the template: ws.prompt(…).edit(user=…)",
        ) from None
    return arguments.text(rendered, f"prompt {where}: the text")


def _line_of(error: BaseException) -> int:
    """Return the line of a turn in which an error was raised: Jinja2 maps the frames of templates."""
    line = getattr(error, "lineno", None) or 1
    trace = error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line = trace.tb_lineno
        trace = trace.tb_next
    return int(line)


def _check_inputs(header: Header, inputs: Mapping[str, Any]) -> None:
    for name in inputs:
        if name not in header.inputs:
            raise ConfigError(
                f"prompt {header.name!r} has no input {name!r} ({nearest(name, header.inputs)})",
                hint=f"prompt.render({', '.join(f'{known}=…' for known in header.inputs)})",
            )
    for name, declared in header.inputs.items():
        if name not in inputs:
            raise ConfigError(
                f"prompt {header.name!r} needs the input {name!r}", hint=f"prompt.render({name}=…)"
            )
        value = inputs[name]
        wrong_bool = isinstance(value, bool) and declared.type in {"integer", "number"}
        if wrong_bool or not isinstance(value, _PYTHON[declared.type]):
            raise ConfigError(
                f"prompt {header.name!r}: input {name!r} is {type(value).__name__}, declared {declared.type}",
                hint=f"pass a {declared.type}, or change the type of {name} under inputs:",
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(
                f"prompt {header.name!r}: input {name!r} is {value}", hint="pass a finite number"
            )


def _check_templates(header: Header, turns: Sequence[tuple[str, str]], where: str) -> None:
    from jinja2 import TemplateSyntaxError, meta

    environment = sandbox.environment()
    used: set[str] = set()
    for role, text in turns:
        try:
            tree = environment.parse(text)
            problems = sorted(_problems(tree, environment))
            if not problems:
                environment.compile(tree)
                used |= meta.find_undeclared_variables(tree)
        except TemplateSyntaxError as error:
            problems = [(error.lineno, error.message or "", "correct the Jinja2 syntax of that line")]
        except (SyntaxError, RecursionError, MemoryError):  # of the Python that Jinja2 makes of it
            problems = [(1, "the template is nested too deep", "write it with fewer parentheses and blocks")]
        for line, problem, hint in problems:
            raise ConfigError(f"{where}: {role} turn, line {line}: {problem}", hint=hint)
    for name in sorted(used - set(header.inputs)):
        raise ConfigError(
            f"{where}: undefined variable {name!r} ({nearest(name, header.inputs)})",
            hint=f"declare it under inputs: with a type and a data_class, or remove {{{{ {name} }}}}",
        )


def _problems(tree: nodes.Template, environment: SandboxedEnvironment) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the problem and the fix of what no rendering can do, or not in bounded time."""
    from jinja2 import nodes

    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        tag = {nodes.Include: "include", nodes.Extends: "extends"}.get(type(node), "import")
        yield node.lineno, f"`{tag}` names another file; a prompt is one file", "write its text in this turn"
    kinds: tuple[tuple[type[nodes.Filter | nodes.Test], Mapping[str, Any]], ...]
    kinds = ((nodes.Filter, environment.filters), (nodes.Test, environment.tests))
    for kind, known in kinds:
        for used in tree.find_all(kind):
            if used.name not in known:
                what = f"unknown {kind.__name__.lower()} {used.name!r} ({nearest(used.name, known)})"
                yield used.lineno, what, "jinja.palletsprojects.com/templates lists those that exist"
    macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
    called = {name: {n.name for n in macros[name].find_all(nodes.Name)} & macros.keys() for name in macros}
    for name, macro in macros.items():
        reached: set[str] = set()
        while more := set().union(called[name], *(called[other] for other in reached)) - reached:
            reached |= more
        if name in reached:
            yield macro.lineno, f"the macro {name!r} calls itself", "write it as a loop"
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            yield loop.lineno, "a recursive loop may never end", "write a loop for each level"
    yield from _endless(tree, 1)


def _endless(node: nodes.Node, rounds: int) -> Iterator[tuple[int, str, str]]:
    """Yield the loops over constant ranges that have, with the loops around them, too many rounds."""
    from jinja2 import nodes

    if isinstance(node, nodes.For):
        match node.iter:
            case nodes.Call(node=nodes.Name(name="range"), args=limits):
                with contextlib.suppress(nodes.Impossible, TypeError, ValueError, OverflowError):
                    rounds *= len(range(*(limit.as_const() for limit in limits)))
                if rounds > _ROUNDS:
                    yield node.lineno, f"the loop has more than {_ROUNDS:,} rounds", "shorten its range"
                    return
    for child in node.iter_child_nodes():
        yield from _endless(child, rounds)


def _check_schema(schema: Mapping[str, Any], where: str) -> None:
    jsonschema = schemas.jsonschema()
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(
            f"{where}: output{error.json_path[1:]} is not valid: {error.message}",
            hint="correct the schema: json-schema.org/understanding-json-schema",
        ) from None
