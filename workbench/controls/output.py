"""Output validation: checks an answer against its JSON schema and repairs it once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, Final

import orjson

from workbench import files, schemas, wire
from workbench.controls.position import Position
from workbench.errors import ConfigError, InvalidOutputError
from workbench.ports import Call, Handler
from workbench.types import JSON, Event

#: Outside of privacy and replay, so that restored and recorded answers are validated too. Only answers that
#: the model writes have a schema.
POSITION: Final = Position(
    name="output",
    operations=frozenset({"model.chat", "model.respond"}),
    after=("access",),
    before=("privacy", "replay"),
)
#: The fields of a request that state the form of its answer, in both dialects.
_FORMS: Final = ("response_format", "text")
_MOST: Final = 8  # violations reported; an answer may have hundreds


class Output:
    """Validates the complete answer against the request's JSON schema; repairs a plain reply once.

    A stream is validated at its end, when its events have been passed on: it is not repaired.
    """

    def applies(self, call: Call) -> bool:
        """Return whether the request states the form of its answer."""
        return any(call.payload.get(name) is not None for name in _FORMS)

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on; raise InvalidOutputError if the answer violates its schema after the repair."""
        speaks = wire.dialect(call.operation)
        schema = _schema(call.payload, speaks)
        if schema is None or call.payload.get("stream"):
            taken = []
            async for event in proceed(call):
                if schema is not None:
                    taken.append(event)
                yield event
            if schema is not None and (broken := _violations(speaks.fold(taken), schema, speaks)):
                raise _invalid(call, broken)
            return
        reply = [event async for event in proceed(call)]
        answer = speaks.fold(reply)
        if broken := _violations(answer, schema, speaks):
            call.span.note(usage_before_repair=speaks.usage_of(answer))
            reply = [event async for event in proceed(_repair(call, answer, broken))]
            answer = speaks.fold(reply)
            if broken := _violations(answer, schema, speaks):
                spent = call.span.facts["usage_before_repair"] + speaks.usage_of(answer)
                call.span.note(usage_before_repair=spent)  # neither answer is passed on to be counted
                raise _invalid(call, broken)
            call.span.note(repaired=True)
        for event in reply:
            yield event


def _invalid(call: Call, broken: list[str]) -> InvalidOutputError:
    return InvalidOutputError(
        f"{call.target}: the answer does not fit its schema: {'; '.join(broken)}",
        hint="raise max_tokens, loosen the schema, or add an example to the prompt",
        violations=broken,
    )


def _repair(call: Call, answer: JSON, broken: list[str]) -> Call:
    """Return the call with the invalid answer and its violations added to the messages."""
    wrong = "\n".join(f"- {violation}" for violation in broken)
    speaks = wire.dialect(call.operation)
    turns = [
        {"role": "assistant", "content": speaks.text_of(answer)},
        {
            "role": "user",
            "content": f"That answer does not fit the required format:\n{wrong}\n"
            "Answer the question again with the corrected JSON only.",
        },
    ]
    return dataclasses.replace(call, payload=speaks.continued(call.payload, turns))


def _schema(payload: JSON, speaks: wire.Dialect) -> bytes | None:
    """Return the schema of the answer as canonical JSON, or None if the request has none."""
    kind, schema = speaks.output_format(payload)
    if kind not in {"json_schema", "json_object"}:
        return None
    if kind == "json_object":
        return b'{"type":"object"}'
    if not isinstance(schema, Mapping):
        raise ConfigError(
            f"{speaks.schema_at} is missing",
            hint='{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}} for chat, '
            '{"type": "json_schema", "name": …, "schema": {…}} for responses',
        )
    canonical = files.canonical(schema)
    _validator(canonical, speaks.schema_at)  # refuses an invalid schema before the model is called
    return canonical


@functools.lru_cache(maxsize=128)
def _validator(canonical: bytes, where: str) -> Any:
    """Compile the JSON Schema 2020-12 that a request states at `where`.

    References to other documents are not followed.
    """
    import referencing

    jsonschema = schemas.jsonschema()
    schema = orjson.loads(canonical)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(
            f"{where}{error.json_path[1:]} is not valid: {error.message}",
            hint="correct the schema: json-schema.org/understanding-json-schema",
        ) from None
    return jsonschema.Draft202012Validator(schema, registry=referencing.Registry())


def _violations(answer: JSON, schema: bytes, speaks: wire.Dialect) -> list[str]:
    """Return the violations of each choice as paths and rules, without content of the answer."""
    found: list[str] = []
    outcomes = speaks.outcomes_of(answer)
    for position, (content, reason) in enumerate(outcomes):
        if reason in {"tool_call", "refusal", "filtered"}:  # no answer; a repair would ask in vain
            continue
        where = "$" if len(outcomes) == 1 else f"choices[{position}] $"
        found += [where + rule for rule in _broken(reason, content, schema, speaks.schema_at)]
    return found[:_MOST]


def _broken(reason: str, content: object, schema: bytes, where: str) -> Iterator[str]:
    if reason == "truncated":
        yield ": cut off at the limit of tokens"
        return
    if not isinstance(content, str) or not content:
        yield ": empty"
        return
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        yield ": not JSON"
        return
    import referencing.exceptions

    try:
        for error in _validator(schema, where).iter_errors(value):
            yield f"{error.json_path[1:]}: {_rule(error)}"
    except RecursionError:
        yield ": nested too deep"
    except referencing.exceptions.Unresolvable as error:
        raise ConfigError(
            f"{where} refers to {error.ref!r}, which it does not define",
            hint="add the definition to the schema's $defs",
        ) from None


def _rule(error: Any) -> str:
    """Return the violated rule as the schema states it; jsonschema's message would quote the answer."""
    rule = error.validator_value
    if error.validator == "required":
        rule = [name for name in rule if name not in error.instance]
    text = orjson.dumps(rule).decode()
    return f"{error.validator} {text if len(text) <= 120 else text[:119] + '…'}"
