"""What it costs to validate an endpoint's answers, over parsing their JSON alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import orjson

from benchmarks.measuring import Row
from workbench.models.chat_format import ChunkReader, read_chat
from workbench.models.endpoint_errors import EndpointErrors
from workbench.models.framing import Frame

ERRORS = EndpointErrors(url="http://127.0.0.1/v1")
SHARED = {"id": "chatcmpl-1", "created": 1_790_000_000, "model": "m", "system_fingerprint": "fp"}
USAGE = {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400}


def body(part: str, message: dict, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, part: message, "logprobs": None, "finish_reason": finish}
    return orjson.dumps({**SHARED, **more, "choices": [choice]})


def microseconds(work: Callable[[bytes], object], data: bytes, *, calls: int = 5_000) -> float:
    """CPU time of one call, the median of nine batches."""
    batches = []
    for _ in range(9):
        began = time.process_time()
        for _ in range(calls):
            work(data)
        batches.append((time.process_time() - began) / calls * 1e6)
    return statistics.median(batches)


def reading_answers() -> Row:
    """A whole answer of 100 words, a streamed word and a streamed piece of a tool call."""
    events = ChunkReader(ERRORS)
    answer = body("message", {"role": "assistant", "content": "word " * 100}, "stop", usage=USAGE)
    word = body("delta", {"content": " word"})
    call = body("delta", {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]})

    def read(data: bytes) -> object:
        return events.read(Frame(data))

    whole = microseconds(lambda data: read_chat(data, ERRORS), answer) - microseconds(orjson.loads, answer)
    over = [microseconds(read, data) - microseconds(orjson.loads, data) for data in (word, call)]
    return (
        "validating an answer; a streamed word; a streamed piece of a tool call",
        f"{whole:.1f} µs; {over[0]:.1f} µs; {over[1]:.1f} µs",
        "<= 15 µs; 3 µs; 3 µs",
    )
