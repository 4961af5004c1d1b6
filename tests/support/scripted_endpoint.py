"""An OpenAI-compatible endpoint that calls tools and fills schemas as a script says, in both dialects.

The model's name chooses what it does: `scripted` answers, `busy` is rate limited, `failing` fails, `refusing`
refuses, `breaking` ends a stream with an error, `slow` takes its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import orjson
from aiohttp import web
from endpoint import begin_stream, endpoint

from workbench.testing import wire_answers

TEXT = wire_answers.TEXT
STATUS = {"busy": 429, "failing": 500, "refusing": 400}
MODELS = ("scripted", "breaking", "slow", *STATUS)


class ScriptedEndpoint:
    """Answers in `/chat/completions` and `/responses`; `received` counts the requests."""

    def __init__(self) -> None:
        self.received = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port of the loopback; gives the base URL."""
        with endpoint(self._answer) as url:
            yield url

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.received += 1
        payload, operation = await request.json(), request.path.rpartition("/")[2]
        model = payload["model"]
        if status := STATUS.get(model):
            headers = {"Retry-After": "7"} if status == 429 else {}
            body = wire_answers.error_object(f"the script says {status}", status)
            return web.json_response(body, status=status, headers=headers)
        if not payload.get("stream"):
            await asyncio.sleep(30 if model == "slow" else 0)
            return web.json_response(_whole(operation, payload))
        response = await begin_stream(request)
        pieces = _streamed(operation, payload)
        if model == "breaking":
            pieces = [*pieces[:5], wire_answers.stated_error(operation, "the script breaks off")]
        with contextlib.suppress(ConnectionError):  # the reader left
            for piece in pieces:
                await response.write(piece)
                await asyncio.sleep(0.1 if model == "slow" else 0)
        return response


def _whole(operation, payload):
    call, text = _decided(operation, payload)
    answer = wire_answers.whole(operation, payload, text)
    if call is None:
        return answer
    name, arguments = call
    if operation == "responses":
        return answer | {"output": [_call_item(name, arguments, "completed")]}
    function = {"name": name, "arguments": arguments}
    message = {"role": "assistant", "content": None, "tool_calls": [_call(function)]}
    return answer | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def _streamed(operation, payload):
    call, text = _decided(operation, payload)
    pieces = wire_answers.streamed(operation, payload, text)
    if call is None:
        return pieces
    if operation == "responses":
        return _response_events(_whole(operation, payload), *call)
    name, arguments = call
    first = {"name": name, "arguments": ""}
    parts = [{"index": 0, "function": {"arguments": piece}} for piece in _fragments(arguments)]
    chunks = [_chunk(payload, {"tool_calls": [part]}) for part in [{"index": 0, **_call(first)}, *parts]]
    # after the text: its finish reason, the usage if asked for, and the end
    rest = pieces[-3:] if (payload.get("stream_options") or {}).get("include_usage") else pieces[-2:]
    return [pieces[0], *chunks, rest[0].replace(b'"stop"', b'"tool_calls"'), *rest[1:]]


def _chunk(payload, delta):
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": payload["model"]}
    return b"data: " + orjson.dumps(shared | {"choices": [choice]}) + b"\n\n"


def _call(function):
    return {"id": "call_1", "type": "function", "function": function}


def _call_item(name, arguments, status):
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": status}
    return item | {"name": name, "arguments": arguments}


def _response_events(whole, name, arguments):
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    at = {"item_id": "fc_1", "output_index": 0}
    events = [
        {"type": "response.created", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _call_item(name, "", "in_progress"),
        },
        *(
            {"type": "response.function_call_arguments.delta", **at, "delta": piece}
            for piece in _fragments(arguments)
        ),
        {"type": "response.function_call_arguments.done", **at, "name": name, "arguments": arguments},
        {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]},
        {"type": "response.completed", "response": whole},
    ]
    return [
        f"event: {event['type']}\ndata: ".encode() + orjson.dumps(event | {"sequence_number": n}) + b"\n\n"
        for n, event in enumerate(events)
    ]


def _fragments(text):
    return [text[at : at + 6] for at in range(0, len(text), 6)]


def _decided(operation, payload):
    """The tool call of the answer, or None, and its text.

    The first tool is called once; then the text quotes its result. A tool called `final_answer` takes it.
    """
    if operation == "responses":
        asked = payload["input"] if isinstance(payload["input"], list) else []
        results = [item["output"] for item in asked if item.get("type") == "function_call_output"]
        tools = {t["name"]: t["parameters"] for t in payload.get("tools") or ()}
        form = (payload.get("text") or {}).get("format") or {}
        schema = form.get("schema")
    else:
        # smolagents shows a result to the model as a message of the user
        seen = [m for m in payload["messages"] if m["role"] == "tool" or "Observation:" in str(m["content"])]
        results = [m["content"] for m in seen if m["role"] in {"tool", "user"}]
        tools = {t["function"]["name"]: t["function"]["parameters"] for t in payload.get("tools") or ()}
        schema = ((payload.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if tools and not results:
        name, parameters = next(iter(tools.items()))
        return (name, orjson.dumps(example(parameters)).decode()), ""
    text = f"The tool said: {_text(results[-1])}" if results else TEXT
    text *= 1 + 4 * (payload["model"] == "slow")
    if schema:
        text = orjson.dumps(example(schema)).decode()
    if results and "final_answer" in tools:
        return ("final_answer", orjson.dumps({"answer": text}).decode()), ""
    return None, text


def _text(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def example(schema, root=None):
    """A value of a JSON schema: Bern, 21, true."""
    root = schema if root is None else root
    if "$ref" in schema:
        found = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return example(found, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example(schema[key][0], root)
    if schema.get("type") == "object":
        return {name: example(part, root) for name, part in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [example(schema["items"], root)]
    plain = {"integer": 21, "number": 21, "boolean": True}.get(schema.get("type"), "Bern")
    return schema.get("enum", [plain])[0]
