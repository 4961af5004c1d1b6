"""Attempts of one tenant's key to reach another tenant: by headers, paths, bodies, ids, verbs and keys."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from tenant_attacks import CALLS, VERBS, Attempt


class Attempts:
    """Makes attempts by a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.kinds: Mapping[str, Callable[[], Attempt]] = {
            "header": self._header,
            "path": self._path,
            "body": self._body,
            "memory": self._memory,
            "item": self._item,
            "native": self._native,
            "native memory": self._native_memory,
            "verb": self._verb,
            "verb argument": self._argument,
            "id": self._id,
            "key": self._key,
            "public": self._public,
            "session": self._session,
            "fields": self._fields,
        }

    def make(self, number: int) -> Attempt:
        """Return an attempt, of each kind in turn."""
        kind = list(self.kinds)[number % len(self.kinds)]
        made = self.kinds[kind]()
        return Attempt(method=made.method, path=made.path, headers=made.headers, body=made.body, kind=kind)

    def _one(self, values):
        return self._chance.choice(values)

    def _spelt(self, name: str) -> str:
        """Return a name in one of the spellings that a careless comparison takes for it."""
        return self._one(
            (
                name,
                name,
                name,
                f" {name}",
                f"{name} ",
                f"{name}\u200b",
                f"\u2060{name}",
                f"{name}.",
                f"{name}/",
                f"acme,{name}",
                f"acme, {name}",
                f'"{name}"',
                f"acme;{name}",
                f"../{name}",
                f"{name}%00",
                f"*{name}",
                f"acme|{name}",
                f"{name}\u0000"[:-1],
                f"acme {name}",
                f"[{name}]",
            )
        )

    def _ask(self) -> tuple[str, dict]:
        chat = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "hello"}]}
        return self._one(
            (
                ("/v1/chat/completions", chat),
                ("/v1/chat/completions", chat | {"stream": True}),
                ("/v1/responses", {"model": "smollm2-135m", "input": "hello"}),
                ("/v1/embeddings", {"model": "smollm2-135m", "input": "hello"}),
                ("/v1/memories/notes/search", {"query": "salary plan", "k": 5}),
            )
        )

    def _header(self) -> Attempt:
        path, body = self._ask()
        name = self._one(
            (
                "Workbench-Tenant",
                "Workbench-Tenant",
                "Workbench-Use-Case",
                "Workbench-Subject",
                "Workbench-Session",
                "Workbench-Purpose",
                "X-Tenant",
                "X-Forwarded-User",
                "X-Original-URL",
                "X-Rewrite-URL",
                "X-HTTP-Method-Override",
                "Forwarded",
                "OpenAI-Organization",
                "OpenAI-Project",
                "Host",
                "X-Workbench-Tenant",
                "Workbench_Tenant",
                "workbench-tenant",
                "Cookie",
            )
        )
        value = {
            "Workbench-Use-Case": "<use_case>",
            "Workbench-Subject": "<subject>",
            "Workbench-Session": "<session>",
            "X-Original-URL": "/use-cases/<use_case>/v1/models",
        }.get(name, "<tenant>")
        return Attempt(method="POST", path=path, headers=((name, self._spelt(value)),), body=body)

    def _path(self) -> Attempt:
        path, body = self._ask()
        prefix = self._one(
            (
                "/use-cases/<use_case>",
                "/use-cases/small",
                "/use-cases/<use_case>/../small",
                "/<tenant>",
                "/use-cases/small%2f..%2f<use_case>",
                "/use-cases/<use_case>%20",
                "/tenants/<tenant>",
            )
        )
        query = self._one(("", "", "?tenant=<tenant>", "?use_case=<use_case>", "?workbench-tenant=<tenant>"))
        return Attempt(method=self._one(("POST", "POST", "GET")), path=prefix + path + query, body=body)

    def _body(self) -> Attempt:
        path, body = self._ask()
        name = self._one(
            (
                "tenant",
                "workbench_tenant",
                "metadata",
                "user",
                "use_case",
                "extra_body",
                "previous_response_id",
                "conversation",
                "session",
                "subject",
                "safety_identifier",
                "prompt_cache_key",
                "prompt",
            )
        )
        value = self._one(
            (
                "<tenant>",
                {"tenant": "<tenant>"},
                {"id": "<response>"},
                ["<tenant>"],
                "<response>",
                "<session>",
            )
        )
        return Attempt(method="POST", path=path, body={**body, name: value})

    def _memory(self) -> Attempt:
        name = self._one(
            ("notes", "<memory>", "small", "notes@1", "<tenant>.notes", "<tenant>:notes", "notes@<tenant>")
        )
        verb, method = self._one(
            (
                ("search", "POST"),
                ("items", "GET"),
                ("count", "GET"),
                ("stats", "GET"),
                ("versions", "GET"),
                ("forget", "POST"),
                ("purge", "POST"),
                ("remember", "POST"),
            )
        )
        body = {
            "search": {"query": "salary plan", "k": 50},
            "forget": {"subject": "<subject>"},
            "purge": {},
            "remember": {"text": "hello", "subject": "<subject>"},
        }.get(verb)
        headers = self._one(
            ((), (("Workbench-Tenant", self._spelt("<tenant>")),), (("Workbench-Subject", "<subject>"),))
        )
        return Attempt(method=method, path=f"/v1/memories/{name}/{verb}", headers=headers, body=body)

    def _item(self) -> Attempt:
        verb, body = self._one(
            (
                ("forget", {"ids": ["<item>"]}),
                ("forget", {"subject": "<subject>"}),
                ("forget", {"ids": ["<item>"], "dry_run": True}),
                ("hold", {"ids": ["<item>"]}),
                ("hold", {"subject": "<subject>"}),
                ("release", {"subject": "<subject>"}),
                ("remember", {"text": "hello there", "parents": ["<item>"]}),
                ("forget", {"source": "<tenant>"}),
                ("search", {"query": "salary", "k": 5, "tenant": "<tenant>"}),
                ("search", {"query": "salary", "sources": ["<item>"]}),
                ("search", {"query": "salary", "groups": ["<tenant>"]}),
                ("remember", {"text": "x <principal>", "access": ["principal:<principal>"]}),
                ("search", {"query": "salary", "where": {"tenant": "<tenant>"}}),
                ("search", {"query": "salary", "now": "<tenant>"}),
                ("purge", {}),
                ("search", {"query": "salary", "kinds": ["<tenant>"]}),
            )
        )
        return Attempt(method="POST", path=f"/v1/memories/notes/{verb}", body=body)

    def _call(self, **more) -> dict:
        return {
            "format": 1,
            "port": "model",
            "operation": "chat",
            "target": "smollm2-135m",
            "use_case": "small",
            "caller": "c1",
            "payload": {"messages": [{"role": "user", "content": "hello"}]},
            **more,
        }

    def _principal(self) -> dict:
        return {
            "name": self._one(("<principal>", "mallory", "job:<principal>")),
            "kind": self._one(("user", "job")),
            "groups": self._one((["everyone"], ["everyone", "<tenant>"])),
            "clearance": self._one((0, 3)),
            "assurance": self._one(("authenticated", "asserted")),
            "admin": self._one((True, False)),
        }

    def _native(self) -> Attempt:
        more = self._one(
            (
                {"tenant": self._spelt("<tenant>")},
                {"use_case": self._spelt("<use_case>")},
                {"principal": self._principal()},
                {"session": "<session>"},
                {"subject": "<subject>"},
                {"caller": "<caller>", "passages": [{"id": "<item>"}]},
                {"caller": "<caller>", "passages": [{"id": "<item>", "mark": "<mark>"}]},
                {"caller": "<caller>", "passages": ["<item>"]},
                {"caller": "<caller>", "run_scope": "<run>"},
                {"caller": "<caller>", "ended": {"<run>": None}},
                {"caller": "<caller>", "invocation": {"id": "<run>"}},
                {"labels": {"tenant": "<tenant>"}},
                {"fallbacks": ["<tenant>"]},
                {"target": "<tenant>"},
                {"labels": {"recorded": "<trace>"}},
                {
                    "caller": "<caller>",
                    "prompt": {"reference": "brief", "inputs": {"question": "q", "passages": ["<item>"]}},
                },
                {
                    "caller": "<caller>",
                    "prompt": {
                        "reference": "brief",
                        "inputs": {"question": "q", "passages": [{"id": "<item>", "mark": "<mark>"}]},
                    },
                },
            )
        )
        return self._natively(self._call(**more))

    def _natively(self, call: dict) -> Attempt:
        headers = (("Workbench-Protocol", "1"), *self._one(((), (("Workbench-Tenant", "<tenant>"),))))
        return Attempt(method="POST", path=CALLS, headers=headers, body=call)

    def _native_memory(self) -> Attempt:
        query = {
            "text": "salary plan",
            "vector": [0.0625] * 256,
            "as_of": "2026-11-30",
            "k": 50,
            "groups": ["everyone", "principal:<principal>"],
            "clearance": 9,
        }
        operation, payload = self._one(
            (
                ("search", {"query": query}),
                ("search", {"query": query | {"tenant": "<tenant>"}}),
                ("items", {}),
                (
                    "items",
                    {"requester": {"groups": ["everyone"], "clearance": 9, "now": "2026-11-30T10:00:00Z"}},
                ),
                ("count", {}),
                ("count", {"ids": ["<item>"]}),
                ("missing", {"ids": ["<item>"]}),
                ("publish", {"ids": ["<item>"]}),
                ("stats", {"now": "2026-11-30T10:00:00Z"}),
                ("forget", {"what": {"ids": ["<item>"]}}),
                ("forget", {"what": {"subject": "<subject>"}}),
                ("versions", {}),
                ("hold", {"what": {"ids": ["<item>"]}}),
                ("purge", {"now": "2099-01-01T00:00:00Z", "keep_versions": 1}),
                ("tenant", {"tenant": "<tenant>"}),
                ("tenants", {}),
                ("aclose", {}),
                ("search", {"query": query, "tenant": "<tenant>"}),
            )
        )
        more = self._one(
            ({}, {"tenant": "<tenant>"}, {"use_case": "<use_case>"}, {"principal": self._principal()})
        )
        target = self._one(("notes", "notes", "<memory>"))
        return self._natively(
            self._call(port="memory", operation=operation, target=target, payload=payload, **more)
        )

    def _asked_verb(self, verb: str, arguments: dict, **more) -> Attempt:
        body = {"use_case": "small", "arguments": arguments, **more}
        return Attempt(
            method="POST", path=f"{VERBS}{verb}", headers=(("Workbench-Protocol", "1"),), body=body
        )

    def _verb(self) -> Attempt:
        verb = self._one(("calls", "costs", "sessions", "outcomes", "impact", "budget", "endpoints"))
        more = self._one(
            (
                {},
                {"tenant": self._spelt("<tenant>")},
                {"use_case": self._spelt("<use_case>")},
                {"principal": self._principal()},
                {"session": "<session>"},
                {"subject": "<subject>"},
            )
        )
        return self._asked_verb(verb, {}, **more)

    def _argument(self) -> Attempt:
        verb, arguments = self._one(
            (
                ("calls", {"tenant": "<tenant>"}),
                ("calls", {"tenant": "<tenant>", "limit": None, "lazy": True}),
                ("calls", {"trace": "<trace>"}),
                ("calls", {"session": "<session>"}),
                ("costs", {"tenant": "<tenant>"}),
                ("costs", {"by": ["tenant", "use_case", "session"]}),
                ("costs", {"by": ["tenant", "principal"]}),
                ("sessions", {"tenant": "<tenant>"}),
                ("sessions", {"since": "2020-01-01"}),
                ("outcome", {"name": "good", "trace_id": "<trace>"}),
                ("outcome", {"name": "good", "session": "<session>"}),
                ("outcome", {"reply": {"$reply": "<trace>"}, "name": "good"}),
                ("why", {"reply": {"$reply": "<trace>"}}),
                ("content", {"content": "<content>", "reason": "curious"}),
                ("released", {"held": "<run>"}),
                ("content", {"content": {"$reply": "<trace>"}, "reason": "curious"}),
                ("impact", {"by": ["tenant"]}),
                ("impact", {"on": "session", "by": ["tenant", "use_case"]}),
                ("calls", {"self": "<tenant>"}),
            )
        )
        return self._asked_verb(verb, arguments)

    def _id(self) -> Attempt:
        name = self._one(("<response>", "<trace>", "<item>", "<content>", "<session>", "<run>"))
        path = self._one(
            (
                f"/v1/responses/{name}",
                f"/v1/chat/completions/{name}",
                f"/v1/files/{name}",
                f"/v1/batches/{name}",
                f"/v1/models/{name}",
                f"/v1/memories/notes/items/{name}",
                f"/v1/memories/notes/{name}",
                f"/workbench/v1/calls/{name}",
                f"/workbench/v1/sessions/{name}",
                f"/v1/conversations/{name}",
                f"/v1/responses/{name}/input_items",
                f"{VERBS}{name}",
                "/v1/memories",
                "/v1/models",
            )
        )
        return Attempt(method=self._one(("GET", "DELETE", "POST", "HEAD")), path=path)

    def _key(self) -> Attempt:
        path, body = self._ask()
        secret = f"{self._chance.getrandbits(256):064x}"
        value = self._one(
            (
                f"Bearer wbk_<key_id>_{secret}",
                f"Bearer wbk_<key_id>_{'0' * 64}",
                "Bearer wbk_<key_id>_",
                "Basic <key_id>",
                "Bearer <key_id>",
                "wbk_<key_id>",
                f"Bearer wbk_<key_id>_{secret} ",
                f"Bearer  wbk_<key_id>_{secret}",
            )
        )
        return Attempt(method="POST", path=path, headers=(("Authorization", value),), body=body)

    def _public(self) -> Attempt:
        return Attempt(
            method="GET",
            path=self._one(("/metrics", "/health", "/ready", "/docs", "/openapi.json"))
            + self._one(("", "?tenant=<tenant>")),
            headers=(("Workbench-Tenant", "<tenant>"),),
        )

    def _session(self) -> Attempt:
        headers = self._one(
            (
                (("Workbench-Tenant", self._spelt("<tenant>")),),
                (("Workbench-Use-Case", self._spelt("<use_case>")),),
                (),
                (("Workbench-Session", "<session>"),),
                (("Workbench-Purpose", "<tenant>"),),
            )
        )
        return Attempt(
            method="GET",
            path=self._one(("/workbench/v1/session", "/use-cases/<use_case>/workbench/v1/session")),
            headers=headers,
        )

    def _fields(self) -> Attempt:
        path = self._one(
            (CALLS, f"{VERBS}calls", f"{VERBS}budget", "/v1/chat/completions", "/workbench/v1/secrets")
        )
        names = (
            "tenant",
            "use_case",
            "grant",
            "identity",
            "api_key",
            "context",
            "root",
            "home",
            "boundary",
            "execution",
            "scope",
        )
        body = self._call(
            **{self._one(names): self._one(("<tenant>", "<use_case>", {"tenant": "<tenant>"}, "<key_id>"))}
        )
        return Attempt(method="POST", path=path, headers=(("Workbench-Protocol", "1"),), body=body)
