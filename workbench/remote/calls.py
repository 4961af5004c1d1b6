"""A call as JSON: what a caller may state of it. The gateway resolves everything else by reference.

A caller states no identity of a model or a memory, no principal beyond fewer rights than its own, no clock,
no price, no card, and nothing of a fall-back but its name or its stated answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from workbench import files
from workbench.context import current_invocation
from workbench.errors import ConfigError, nearest
from workbench.identity import Principal
from workbench.ports import Call
from workbench.ports.privacy import DeclaredData
from workbench.remote import passages
from workbench.remote.protocol import MOST_BYTES, MOST_LEVELS
from workbench.remote.values import read_arguments, written
from workbench.types import JSON
from workbench.wire.shape import is_deeper

#: The version of this form.
_FORMAT: Final = 1
#: Labels that the gateway writes itself.
_OWN_LABELS: Final = frozenset(
    {"recorded", "job", "run", "row", "prompt", "prompt_digest", "passages", "data_class"}
)
_ID: Final = re.compile(r"[0-9a-z-]{1,64}")
#: Most characters of a name, and most names of a list.
_MOST_CHARACTERS: Final = 1_000
_MOST_NAMES: Final = 10_000
_MOST_LABELS: Final = 32
_HINT: Final = "connect with the workbench of the gateway: workbench doctor names both versions"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPrompt:
    """The claim that the turns of a call are a prompt, rendered with `inputs`; see `remote.passages`.

    Without inputs the claim cannot be verified: a value among them is not JSON. `digest` is that of the
    caller's prompt.
    """

    reference: str
    digest: str = ""
    inputs: JSON | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedInvocation:
    """The invocation of a task that a call is part of: its id, case, repeat, task and the case's columns."""

    id: str
    case: str = ""
    repeat: int = 0
    task: str = ""
    columns: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCall:
    """What a caller states of a call.

    `target` is the reference of a model's card or the name of a memory, whose spec has the `version`.
    `payload` is wire JSON for a model and the verb's arguments for a memory. `caller` is a random id of the
    caller's process, to which invocations, runs and served passages belong. `seconds` are left until the
    call's deadline. `fallbacks` are names of models and stated answers, `{"answer": text}`. `passages` and
    the hits in a prompt's inputs are references to hits that the gateway served, or hits as a whole.
    `principal` has fewer rights than the caller's own. `ended` maps invocations that have ended to the error
    that ended them.
    """

    port: str
    operation: str
    target: str
    payload: JSON
    use_case: str
    caller: str
    version: int | None = None
    labels: JSON = field(default_factory=dict)
    tenant: str = ""
    purpose: str = ""
    session: str = ""
    subject: str = ""
    principal: Principal | None = None
    seconds: float | None = None
    retries: int | None = None
    defaulted: tuple[str, ...] = ()
    fallbacks: tuple[str | JSON, ...] = ()
    declared: DeclaredData | None = None
    passages: tuple[JSON, ...] = ()
    prompt: AskedPrompt | None = None
    invocation: AskedInvocation | None = None
    run_scope: str = ""
    ended: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """The target with its version, as `handbook@2`."""
        return self.target if self.version is None else f"{self.target}@{self.version}"

    @property
    def streamed(self) -> bool:
        """Whether the answer is asked as a stream."""
        return self.port == "model" and self.payload.get("stream") is True

    @classmethod
    def read(cls, body: bytes) -> AskedCall:
        """Return the call in a request's body; raise ConfigError, which names the field, for an odd one."""
        try:
            raw = orjson.loads(body)
        except ValueError as error:
            raise ConfigError(f"the body of the call is not JSON: {error}", hint=_HINT) from None
        if not isinstance(raw, dict) or is_deeper(body, raw, MOST_LEVELS):
            what = f"nested deeper than {MOST_LEVELS} levels" if isinstance(raw, dict) else "no object"
            raise ConfigError(f"the body of the call is {what}", hint=_HINT)
        stated = raw.pop("format", None)
        if stated != _FORMAT:
            raise ConfigError(
                f"the form of the call is {stated!r}, and this gateway reads {_FORMAT}", hint=_HINT
            )
        found: dict[str, Any] = {name: _field(name, value) for name, value in raw.items()}
        if missing := [name for name in _NEEDED if name not in found]:
            raise ConfigError(f"the call has no {missing[0]}", hint=_HINT)
        if found["port"] == "memory":
            found["payload"] = read_arguments(found["operation"], found["payload"])
        return cls(**found)


def encode_call(
    call: Call, *, caller: str, served: passages.ServedHits, own: Principal | None = None, **more: JSON
) -> bytes:
    """Return a call as the body of a request.

    `served` are the hits that the gateway gave to this `caller`. A principal other than `own` is stated: it
    has fewer rights. Raise ConfigError for a payload that is not JSON, or above the bound of bytes.
    """
    context = call.context
    fields: dict[str, Any] = {
        "format": _FORMAT,
        "port": call.port,
        "operation": call.operation,
        "target": call.target,
        "payload": orjson.Fragment(_payload(call)),
        "use_case": context.use_case,
        "caller": caller,
        "tenant": context.tenant,
        "purpose": context.purpose,
        "session": context.session,
        "subject": context.subject,
        "retries": call.retries,
        "defaulted": sorted(call.defaulted),
        "fallbacks": [c.target if c.answer is None else {"answer": c.answer} for c in call.fallbacks],
        "passages": [served.stated(hit) for hit in call.passages],
        **_situation(call, served),
        **more,
    }
    if own is not None and context.principal != own:
        fields["principal"] = _principal(context.principal)
    body = orjson.dumps({name: value for name, value in fields.items() if value not in _ABSENT})
    if len(body) > MOST_BYTES:
        raise ConfigError(
            f"the call has {len(body):,} bytes, more than the {MOST_BYTES:,} that a gateway reads",
            hint=_IN_PARTS.get(call.name, "ask in smaller parts"),
        )
    return body


#: How a verb whose arguments are too large is called in parts.
_IN_PARTS: Final = {"memory.add": "kb.ingest(…) sends documents in parts; or kb.add(…) some pages at a time"}
#: Values of fields that are left out.
_ABSENT: Final[tuple[Any, ...]] = (None, "", [], {})


def _payload(call: Call) -> bytes:
    """Return the payload as JSON, which holds it exactly."""
    if call.port == "memory":
        return written(call.payload, what=f"memory.{call.operation}")
    try:
        encoded = orjson.dumps(call.payload)
        if b"null" in encoded:  # a number that is not finite becomes null
            files.check_exact(call.payload, where="the request")
    except TypeError as error:
        raise ConfigError(
            f"the request is not JSON: {error}", hint="pass only strings, numbers, lists and mappings"
        ) from None
    return encoded


def _situation(call: Call, served: passages.ServedHits) -> JSON:
    """Return what a call is part of, and what is declared of its data."""
    fields: dict[str, Any] = {
        "labels": {name: value for name, value in call.labels.items() if name not in _OWN_LABELS}
    }
    if call.port == "memory" and "version" in call.identity:
        fields["version"] = int(call.identity["version"])
    if call.deadline is not None:
        fields["seconds"] = max(call.deadline - call.context.clock.monotonic(), 0.0)
    digest = str(call.labels.get("prompt_digest") or "")
    if call.prompt is not None:
        inputs = passages.stated_inputs(call.prompt.inputs, served)
        fields["prompt"] = {"reference": call.prompt.reference, "digest": digest, "inputs": inputs}
    elif isinstance(claimed := call.labels.get("prompt"), str):
        fields["prompt"] = {"reference": claimed, "digest": digest}
    if call.declared is not None:
        declared = call.declared
        fields["declared"] = {"classes": declared.classes, "identifiers": declared.identifiers}
    around = current_invocation()
    if around is not None:
        fields["invocation"] = {
            "id": around.parent or f"{id(around):x}",
            "case": around.case,
            "repeat": around.repeat,
            "task": around.task,
            "columns": _columns(around.columns),
        }
    return fields


def _columns(columns: JSON) -> JSON:
    """Return the columns of a case; a value that is not JSON has no texts to protect."""
    found: dict[str, Any] = {}
    for name, value in columns.items():
        try:
            found[name] = orjson.Fragment(orjson.dumps(value))
        except TypeError:
            continue
    return found


def _principal(principal: Principal) -> JSON:
    return {
        "name": principal.name,
        "kind": principal.kind,
        "groups": principal.groups,
        "clearance": principal.clearance,
        "assurance": principal.assurance,
        "admin": principal.admin,
    }


def _field(name: str, value: Any) -> Any:
    """Return a field of a call; raise ConfigError, which names it, for an unknown or an odd one."""
    read = _READERS.get(name)
    if read is None:
        raise ConfigError(f"a call has no field {name!r} ({nearest(name, _READERS)})", hint=_HINT)
    try:
        return read(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the field {name!r} of the call: {error}", hint=_HINT) from None


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _MOST_CHARACTERS:
        raise ValueError(f"not a text of at most {_MOST_CHARACTERS} characters")
    return value


def _id(value: Any) -> str:
    if type(value) is not str or not _ID.fullmatch(value):
        raise ValueError("not an id of lower-case letters, digits and dashes")
    return value


def _port(value: Any) -> str:
    if value not in {"model", "memory"}:
        raise ValueError("not model or memory")
    return str(value)


def _mapping(value: Any) -> JSON:
    if type(value) is not dict:
        raise ValueError("not an object")
    return value


def _labels(value: Any) -> JSON:
    if own := sorted(_OWN_LABELS & _mapping(value).keys()):
        raise ValueError(f"{own[0]} is written by the gateway")
    if len(value) > _MOST_LABELS:
        raise ValueError(f"more than {_MOST_LABELS} labels")
    return {_text(name): _label(label) for name, label in value.items()}


def _label(value: Any) -> Any:
    """Return a label, which every record of the call holds."""
    return value if value is None or type(value) in {bool, int, float} else _text(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a whole number of 0 or more")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in {int, float} or value < 0:
        raise ValueError("not seconds of 0 or more")
    return float(value)


def _names(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > _MOST_NAMES:
        raise ValueError(f"not a list of at most {_MOST_NAMES} texts")
    return tuple(map(_text, value))


def _fallbacks(value: Any) -> tuple[str | JSON, ...]:
    if type(value) is not list or len(value) > _MOST_NAMES:
        raise ValueError("not a list")
    return tuple(_stated_answer(item) if type(item) is dict else _text(item) for item in value)


def _stated_answer(value: JSON) -> JSON:
    if set(value) != {"answer"} or type(value["answer"]) is not str:
        raise ValueError('a stated answer is {"answer": text}')
    return value


def _declared(value: Any) -> DeclaredData:
    found = _only(value, {"classes", "identifiers"})
    identifiers = found.get("identifiers", [])
    if type(identifiers) is not list or any(type(i) is not list or len(i) != 3 for i in identifiers):
        raise ValueError("identifiers are lists of value, kind and class")
    texts = [tuple(part if type(part) is str else _text(part) for part in item) for item in identifiers]
    return DeclaredData(classes=_names(found.get("classes", [])), identifiers=tuple(texts))  # type: ignore[arg-type]


def _prompt(value: Any) -> AskedPrompt:
    found = _only(value, {"reference", "digest", "inputs"})
    inputs = found.get("inputs")
    return AskedPrompt(
        reference=_text(found["reference"]),
        digest=_text(found.get("digest", "")),
        inputs=None if inputs is None else passages.check_inputs(inputs),
    )


def _invocation(value: Any) -> AskedInvocation:
    found = _only(value, {"id", "case", "repeat", "task", "columns"})
    return AskedInvocation(
        id=_text(found["id"]),
        case=_text(found.get("case", "")),
        repeat=_count(found.get("repeat", 0)),
        task=_text(found.get("task", "")),
        columns=_mapping(found.get("columns", {})),
    )


def _ended(value: Any) -> Mapping[str, str | None]:
    return {_text(name): None if error is None else _text(error) for name, error in _mapping(value).items()}


def _asked_principal(value: Any) -> Principal:
    found = _only(value, {"name", "kind", "groups", "clearance", "assurance", "admin"})
    if found["kind"] not in {"user", "job"} or found["assurance"] not in {"asserted", "authenticated"}:
        raise ValueError("the kind is user or job, the assurance asserted or authenticated")
    if type(found["admin"]) is not bool:
        raise ValueError("admin is true or false")
    return Principal(
        name=_text(found["name"]),
        kind=found["kind"],
        groups=_names(found["groups"]),
        clearance=_count(found["clearance"]),
        assurance=found["assurance"],
        admin=found["admin"],
    )


def _only(value: Any, known: set[str]) -> JSON:
    if unknown := sorted(set(_mapping(value)) - known):
        raise ValueError(f"unknown key {unknown[0]!r} ({nearest(unknown[0], known)})")
    return value  # type: ignore[no-any-return]


_NEEDED: Final = ("port", "operation", "target", "payload", "use_case", "caller")
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "port": _port,
    "operation": _text,
    "target": _text,
    "payload": _mapping,
    "use_case": _text,
    "caller": _id,
    "version": _count,
    "labels": _labels,
    "tenant": _text,
    "purpose": _text,
    "session": _text,
    "subject": _text,
    "principal": _asked_principal,
    "seconds": _seconds,
    "retries": _count,
    "defaulted": _names,
    "fallbacks": _fallbacks,
    "declared": _declared,
    "passages": passages.check_passages,
    "prompt": _prompt,
    "invocation": _invocation,
    "run_scope": _id,
    "ended": _ended,
}
