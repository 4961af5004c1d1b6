"""The names of attributes and metrics: OpenTelemetry's GenAI conventions, and OpenInference."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

#: The revision of open-telemetry/semantic-conventions-genai that the names follow; it has no tagged release.
REVISION: Final = "004902b8cb70aa5ae6ca4ae07132b7daabcd3e10"
#: The value of `gen_ai.operation.name` for an operation of a port; other operations have none.
OPERATIONS: Final[Mapping[str, str]] = {
    "model.chat": "chat",
    "model.respond": "chat",
    "model.embed": "embeddings",
    "memory.search": "retrieval",
    "memory.remember": "create_memory",
    "memory.add": "create_memory",
    "memory.publish": "upsert_memory",
    "memory.forget": "delete_memory",
    "tool.invoke": "execute_tool",
}
#: The value of `gen_ai.provider.name` for a provider of a model card.
PROVIDERS: Final[Mapping[str, str]] = {"local": "llama.cpp"}
#: The attribute of each column of a call's record.
RECORD: Final[Mapping[str, str]] = {
    "trace_id": "workbench.call.id",
    "use_case": "workbench.use_case",
    "purpose": "workbench.purpose",
    "target": "workbench.target",
    "model": "workbench.model",
    "price_source": "workbench.price.source",
    "assurance": "workbench.principal.assurance",
    "job": "workbench.job",
    "run": "workbench.run",
    "session": "gen_ai.conversation.id",
    "outcome": "workbench.outcome",
    "error": "error.type",
    "status": "http.response.status_code",
    "events": "workbench.events",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost_usd": "workbench.cost.usd",
    "saved_usd": "workbench.cost.saved_usd",
    "source": "workbench.source",
    "recorded_latency_s": "workbench.model.duration_s",
    "fallback": "workbench.fallback",
    "fallback_reason": "workbench.fallback.reason",
}
#: The attributes of columns that are left out when they are false.
FLAGS: Final[Mapping[str, str]] = {
    "replayed": "workbench.replayed",
    "repaired": "workbench.repaired",
    "degraded": "workbench.degraded",
}
#: The attribute of each fact of an attempt.
ATTEMPT: Final[Mapping[str, str]] = {
    "n": "workbench.attempt.number",
    "candidate": "workbench.attempt.candidate",
    "outcome": "workbench.outcome",
    "error": "error.type",
    "waited_s": "workbench.attempt.waited_s",
    "queued_s": "workbench.attempt.queued_s",
    "reserved_usd": "workbench.budget.reserved_usd",
}
#: The attribute of each parameter of a request.
PARAMETERS: Final[Mapping[str, str]] = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
_SECONDS: Final = tuple(0.01 * 2**n for n in range(14))
_TOKENS: Final = tuple(float(4**n) for n in range(14))
#: The OpenInference kind of an operation of the conventions; other spans are of kind CHAIN.
_KINDS: Final[Mapping[str, str]] = {
    "chat": "LLM",
    "embeddings": "EMBEDDING",
    "retrieval": "RETRIEVER",
    "search_memory": "RETRIEVER",
    "execute_tool": "TOOL",
    "invoke_agent": "AGENT",
}
#: The OpenInference name of an attribute with the same value.
_SAME: Final[Mapping[str, str]] = {
    "gen_ai.conversation.id": "session.id",
    "gen_ai.tool.name": "tool.name",
    "gen_ai.retrieval.query.text": "input.value",
}
#: The same for spans of models, whose tokens Phoenix adds up.
_SAME_OF_MODELS: Final[Mapping[str, str]] = {
    "gen_ai.usage.input_tokens": "llm.token_count.prompt",
    "gen_ai.usage.output_tokens": "llm.token_count.completion",
    "gen_ai.usage.cache_read.input_tokens": "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.reasoning.output_tokens": "llm.token_count.completion_details.reasoning",
    "workbench.cost.usd": "llm.cost.total",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """The instrument of one metric: its kind, UCUM unit, description and the bounds of its buckets."""

    kind: Literal["counter", "histogram"]
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None


#: Every metric by its name.
METRICS: Final[Mapping[str, Instrument]] = {
    "gen_ai.client.operation.duration": Instrument(
        kind="histogram", unit="s", description="GenAI operation duration.", buckets=_SECONDS
    ),
    "gen_ai.client.token.usage": Instrument(
        kind="histogram",
        unit="{token}",
        description="Number of input and output tokens used.",
        buckets=_TOKENS,
    ),
    "gen_ai.client.operation.time_to_first_chunk": Instrument(
        kind="histogram", unit="s", description="Time to the first chunk of a stream.", buckets=_SECONDS
    ),
    "gen_ai.workflow.duration": Instrument(
        kind="histogram", unit="s", description="Duration of an invocation of a task.", buckets=_SECONDS
    ),
    "workbench.cost": Instrument(kind="counter", unit="USD", description="Price of the answers paid for."),
    "workbench.cost.saved": Instrument(
        kind="counter", unit="USD", description="Price of the answers taken from the cache."
    ),
    "workbench.refusals": Instrument(
        kind="counter", unit="{call}", description="Calls refused by a budget, a limit, a queue or a rule."
    ),
    "workbench.budget.would_refuse": Instrument(
        kind="counter", unit="{call}", description="Calls over a budget that only observes."
    ),
    "workbench.breaker.rejections": Instrument(
        kind="counter", unit="{attempt}", description="Attempts that an open circuit breaker rejected."
    ),
    "workbench.fallbacks": Instrument(
        kind="counter", unit="{call}", description="Calls answered by a fallback or by the last snapshot."
    ),
    "workbench.retries": Instrument(
        kind="counter", unit="{attempt}", description="Attempts after the first of a call."
    ),
}


def pseudonym(name: str, *, key: str = "") -> str:
    """Return 16 hexadecimal digits that stand for a tenant, the same in every process.

    Without `key` a reader who knows the possible names can find the name of a pseudonym.
    """
    return hmac.new(key.encode(), b"workbench tenant " + name.encode(), hashlib.sha256).hexdigest()[:16]


def openinference(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenInference attributes of a span with these OpenTelemetry attributes."""
    operation = str(attributes.get("gen_ai.operation.name", ""))
    moderation = attributes.get("workbench.operation") == "model.moderate"
    kind = "GUARDRAIL" if moderation else _KINDS.get(operation, "CHAIN")
    found: dict[str, Any] = {"openinference.span.kind": kind}
    found |= {new: attributes[old] for old, new in _SAME.items() if old in attributes}
    if kind in {"LLM", "EMBEDDING"}:
        found |= {new: attributes[old] for old, new in _SAME_OF_MODELS.items() if old in attributes}
        found |= _of_model(attributes, kind)
    for name, direction in (("gen_ai.input.messages", "input"), ("gen_ai.output.messages", "output")):
        if name in attributes:
            found |= _messages(orjson.loads(attributes[name]), direction)
    if "gen_ai.retrieval.documents" in attributes:
        documents = orjson.loads(attributes["gen_ai.retrieval.documents"])
        for n, document in enumerate(documents):
            prefix = f"retrieval.documents.{n}.document"
            found |= {f"{prefix}.{field}": value for field, value in document.items()}
    return found


def _of_model(attributes: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    """Yield model, provider, parameters, prompt and sum of tokens."""
    model = attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model")
    if model is not None:
        yield "embedding.model_name" if kind == "EMBEDDING" else "llm.model_name", model
    if kind == "EMBEDDING":
        return
    if (provider := attributes.get("gen_ai.provider.name")) is not None:
        yield "llm.provider", provider
        yield "llm.system", provider
    prefix = "gen_ai.request."
    used = {name: attributes[name] for name in sorted({*PARAMETERS.values()} & {*attributes})}
    if used:
        yield (
            "llm.invocation_parameters",
            orjson.dumps({name.removeprefix(prefix): value for name, value in used.items()}).decode(),
        )
    if (version := attributes.get("gen_ai.prompt.version")) is not None:
        yield "llm.prompt_template.version", f"{attributes.get('gen_ai.prompt.name')}@{version}"
    counts = [attributes.get(f"gen_ai.usage.{side}_tokens") for side in ("input", "output")]
    if any(count is not None for count in counts):
        yield "llm.token_count.total", sum(count or 0 for count in counts)


def _messages(messages: list[dict[str, Any]], direction: str) -> dict[str, Any]:
    """Return messages in the flat form, and their last text as the value of the span."""
    found: dict[str, Any] = {}
    last = ""
    for n, message in enumerate(messages):
        prefix = f"llm.{direction}_messages.{n}.message"
        found[f"{prefix}.role"] = message["role"]
        texts = [part["content"] for part in message["parts"] if part["type"] == "text"]
        if texts:
            found[f"{prefix}.content"] = last = "\n".join(texts)
        calls = [part for part in message["parts"] if part["type"] == "tool_call"]
        for number, call in enumerate(calls):
            tool = f"{prefix}.tool_calls.{number}.tool_call"
            found[f"{tool}.id"] = call.get("id") or ""
            found[f"{tool}.function.name"] = call["name"]
            found[f"{tool}.function.arguments"] = call["arguments"]
    found[f"{direction}.value"] = last
    found[f"{direction}.mime_type"] = "text/plain"
    return found
