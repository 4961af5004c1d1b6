"""The conversations of the suite by Python's clients of OpenAI's API: `OpenAI` and `AsyncOpenAI`."""

from __future__ import annotations

import asyncio
import functools
import inspect

import aiohttp
import openai


async def converse(suite, *, base_url, keys, is_async):
    """Return what each conversation of the suite told, as converse.cjs prints it."""
    kind = openai.AsyncOpenAI if is_async else openai.OpenAI
    client = kind(base_url=base_url, api_key="unused")
    clients = {name: client.with_options(api_key=key) for name, key in keys.items()}
    work = [_conversation(clients, item) for item in suite]
    try:
        if not is_async:  # a thread for each conversation
            work = [asyncio.to_thread(asyncio.run, conversation) for conversation in work]
        return await asyncio.gather(*work)
    finally:
        await _value(client.close())


async def _conversation(clients, conversation):
    told = {"name": conversation["name"], "answers": []}
    client = clients[conversation.get("key", "full")]
    headers, before = conversation["headers"], None
    try:
        for ask in conversation["asks"]:
            before = await _asked(client, ask, headers, before, told)
            if before is not None:
                told["answers"].append(_plain(before))
    except openai.APIError as error:
        told["error"] = _failure(error)
    return told


async def _asked(client, ask, headers, before, told):
    if ask["verb"] == "fetch":
        told["answers"].append(await _fetched(client, ask, headers))
        return None
    verb = functools.reduce(getattr, ask["verb"].split("."), client)
    options = {"extra_headers": {**headers, **ask.get("headers", {})}}
    if seconds := ask.get("timeout"):
        # a timeout is repeated by the client, and this one is not
        owner = ask["verb"].rpartition(".")[0].split(".")
        verb = functools.reduce(getattr, owner, client.with_options(max_retries=0)).create
        options["timeout"] = seconds
    given = [ask["id"]] if "id" in ask else []
    answer = verb(*given, **_completed(ask.get("request", {}), before), **options)
    if ask["verb"].endswith(".stream"):
        return await _collected(answer)
    if not ask.get("request", {}).get("stream"):
        return await _value(answer)
    stream, events = await _value(answer), []
    told["answers"].append({"events": events})
    async for event in _each(stream):
        events.append(_plain(event))
        if len(events) == ask.get("leave"):
            await _value(stream.close())
            break
    return None


async def _fetched(client, ask, headers):
    """Return the answer to a request of plain HTTP."""
    key = {"Authorization": f"Bearer {client.api_key}"}
    url, stated = str(client.base_url).rstrip("/") + ask["path"], {**key, **headers, **ask.get("headers", {})}
    async with (
        aiohttp.ClientSession() as plain,
        plain.request(ask["method"], url, headers=stated, json=ask.get("request")) as answer,
    ):
        return {"status": answer.status, "body": await answer.json()}


async def _collected(manager):
    """Return the whole answer that the client makes of a stream."""
    is_async = hasattr(manager, "__aenter__")
    stream = await manager.__aenter__() if is_async else manager.__enter__()
    try:
        last = getattr(stream, "get_final_completion", None) or stream.get_final_response
        return await _value(last())
    finally:
        await _value((manager.__aexit__ if is_async else manager.__exit__)(None, None, None))


def _completed(request, before):
    """Return a request with the answer before it in the place of "$answer"."""
    found = dict(request)
    for name in ("messages", "input"):
        if isinstance(found.get(name), list):
            found[name] = [
                part for item in found[name] for part in (_turns(before) if item == "$answer" else [item])
            ]
    return found


def _turns(answer):
    return answer.output if hasattr(answer, "output") else [answer.choices[0].message]


def _failure(error):
    headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "type": error.type,
        "message": error.message,
        "retry_after": headers.get("retry-after"),
    }


def _plain(answer):
    return answer.model_dump(mode="json", exclude_unset=True) | (
        {"output_text": answer.output_text} if hasattr(answer, "output_text") else {}
    )


async def _value(answer):
    return await answer if inspect.isawaitable(answer) else answer


async def _each(stream):
    if hasattr(stream, "__aiter__"):
        async for event in stream:
            yield event
    else:
        for event in stream:
            yield event
