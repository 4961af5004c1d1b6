"""The description of the gateway's routes: OpenAPI as JSON, and the same as a page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Final

from workbench.remote.protocol import CALLS

_HEADERS: Final[Mapping[str, str]] = {
    "Workbench-Use-Case": "The use case; or set the path to /use-cases/NAME/v1/…. A key for one needs none.",
    "Workbench-Tenant": "The tenant, for a key without one. By default the first of the use case.",
    "Workbench-Purpose": "The purpose of the calls, which policies decide on. By default explore.",
    "Workbench-Session": "An id of the user's journey, which the records of its calls have.",
    "Workbench-Subject": "The id of the person whom the calls are about, with which their data is erased.",
}
_WIRE: Final = (
    "The body and the answer are those of OpenAI's API, server-sent events with stream: true included."
)
#: Of each route: method, path, what it does, whether it needs a key, and the media type of its answer.
ROUTES: Final[tuple[tuple[str, str, str, bool, str], ...]] = (
    ("post", "/v1/chat/completions", f"Ask a chat model. {_WIRE}", True, "application/json"),
    ("post", "/v1/responses", f"Ask a model in the form of responses. {_WIRE}", True, "application/json"),
    ("post", "/v1/responses/input_tokens", "Count the input tokens of a request.", True, "application/json"),
    ("post", "/v1/embeddings", f"Embed texts. {_WIRE}", True, "application/json"),
    ("post", "/v1/moderations", f"Moderate texts. {_WIRE}", True, "application/json"),
    ("get", "/v1/models", "List the model cards that the key may use.", True, "application/json"),
    ("get", "/v1/models/{model}", "Return one model card.", True, "application/json"),
    ("get", "/v1/memories", "List the memories.", True, "application/json"),
    ("post", "/v1/memories/{name}/search", "Search: query, k, as_of, version, sources, kinds.", True,
     "application/json"),
    ("post", "/v1/memories/{name}/remember",
     "Store something: text, subject, kind, access, classification, parents, valid_from, valid_to, expires.",
     True, "application/json"),
    ("post", "/v1/memories/{name}/forget", "Forget by ids, subject, source or expired; dry_run only counts.",
     True, "application/json"),
    ("post", "/v1/memories/{name}/hold", "Put ids, a subject or a source under legal hold.", True,
     "application/json"),
    ("post", "/v1/memories/{name}/release", "End a hold.", True, "application/json"),
    ("post", "/v1/memories/{name}/purge", "Remove expired items.", True, "application/json"),
    ("get", "/v1/memories/{name}/items", "Return the items that the key may see.", True, "application/json"),
    ("get", "/v1/memories/{name}/count", "Count the items that the key may see.", True, "application/json"),
    ("get", "/v1/memories/{name}/versions", "List the kept versions.", True, "application/json"),
    ("get", "/v1/memories/{name}/stats", "Count the items by kind and state.", True, "application/json"),
    ("post", CALLS, "Make a call, as another workbench states it.", True, "application/x-ndjson"),
    ("get", "/workbench/v1/session", "Say who the caller is, and what it may use.", True, "application/json"),
    ("get", "/health", "Say that the process lives.", False, "application/json"),
    ("get", "/ready", "Say whether calls can be answered: parameters, state and ledger.", False,
     "application/json"),
    ("get", "/metrics", "Metrics in the format of Prometheus.", False, "text/plain"),
    ("get", "/openapi.json", "This description as OpenAPI.", False, "application/json"),
    ("get", "/docs", "This description as a page.", False, "text/html"),
)  # fmt: skip
_STATUSES: Final[Mapping[str, str]] = {
    "400": "The request or its target is wrong, or a key stands in the URL.",
    "401": "The request has no valid key or token.",
    "403": "A policy, a budget, a check or the scope of the key refuses the call.",
    "404": "There is no such route, model or memory.",
    "413": "The body is too large.",
    "422": "The answer violates its schema.",
    "429": "A rate, a queue or the number of streams is exhausted; Retry-After says for how long.",
    "503": "The model's endpoint is away.",
    "504": "The time of the call is over.",
}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "integer"},
                "param": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "code"],
        }
    },
    "required": ["error"],
}


def description() -> dict[str, Any]:
    """Return the routes as an OpenAPI document."""
    paths: dict[str, Any] = {}
    for method, path, text, keyed, kind in ROUTES:
        paths.setdefault(path, {})[method] = _operation(method, path, text, keyed=keyed, kind=kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "workbench gateway",
            "version": "1",
            "description": "Models and memories behind the controls of params.yaml.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


def _operation(method: str, path: str, text: str, *, keyed: bool, kind: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [_parameter(name, "path", "") for name in names]
    if keyed:
        parameters += [_parameter(name, "header", about) for name, about in _HEADERS.items()]
    found: dict[str, Any] = {
        "summary": text,
        "operationId": f"{method} {path}",
        "parameters": parameters,
        "responses": {"200": {"description": "The answer.", "content": {kind: {"schema": {}}}}},
    }
    if not keyed:
        return {**found, "security": []}
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found["responses"] |= {code: {"description": why, "content": failed} for code, why in _STATUSES.items()}
    if method == "post":
        found["requestBody"] = {
            "required": True, "content": {"application/json": {"schema": {"type": "object"}}}
        }  # fmt: skip
    return found


def _parameter(name: str, place: str, about: str) -> dict[str, Any]:
    found = {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
    return {**found, "description": about} if about else found


def page() -> str:
    """Return the routes as an HTML page without scripts, styles or images from elsewhere."""
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(text)}</td><td>{'key' if keyed else ''}</td></tr>"
        for method, path, text, keyed, _ in ROUTES
    )
    headers = "".join(
        f"<tr><td><code>{name}</code></td><td>{html.escape(about)}</td></tr>"
        for name, about in _HEADERS.items()
    )
    statuses = "".join(
        f"<tr><td>{code}</td><td>{html.escape(why)}</td></tr>" for code, why in _STATUSES.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>workbench gateway</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td{padding:.2em 1em .2em 0;vertical-align:top}</style></head><body>"
        "<h1>workbench gateway</h1><p>Models and memories behind the controls of params.yaml. Send "
        "<code>Authorization: Bearer KEY</code>, and set the <code>base_url</code> of an OpenAI client to "
        "<code>…/v1</code>. <a href='/openapi.json'>OpenAPI</a></p>"
        f"<h2>Routes</h2><table>{rows}</table><h2>Headers</h2><table>{headers}</table>"
        f"<h2>Errors</h2><table>{statuses}</table></body></html>"
    )
