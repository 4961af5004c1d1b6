"""Policy: asks the policies whether a principal may make a call, before anything else sees the call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import orjson

from workbench.context import Context
from workbench.controls.position import OPERATIONS, Position
from workbench.errors import RefusedError
from workbench.ports import Call, Handler
from workbench.ports.policy import Decision, Policy, PolicyRequest, Resource
from workbench.types import Event

#: Inside of fallback, so that each candidate is authorised for itself. Every operation is decided.
POSITION: Final = Position(
    name="policy", operations=OPERATIONS, after=("observe", "limits", "fallback"), before=("access", "output")
)
ResourceOf = Callable[[Call], Resource]
ClassOf = Callable[[Call], str]
#: Calls whose decision is kept; a process that makes more kinds of calls begins anew.
_MOST_KEPT: Final = 5_000
#: Verbs of a memory that read all of it when no requester limits them.
_UNFILTERED: Final = frozenset({"items", "count"})


class Noted:
    """A decision, and what every call that it is made for notes of it; nobody changes these shared facts."""

    __slots__ = ("allowed", "asked", "decision", "made_by", "name", "observed", "request")

    def __init__(self, asked: PolicyRequest, made_by: Decision, *, observed: bool) -> None:
        self.asked, self.made_by = asked, made_by
        self.allowed, self.observed = made_by.allowed, observed
        self.name = ",".join(made_by.policies) or ("error" if made_by.errors else "not-permitted")
        # As text: a frame of records keeps every character of it, which it does not of a nested value.
        self.request = orjson.dumps(asked.to_json(), option=orjson.OPT_SORT_KEYS).decode()
        self.decision: dict[str, Any] = {**made_by.to_json(), "action": asked.action}
        if observed:
            self.decision["observed"] = True


class PolicyControl:
    """Refuses a call that the policies deny, and notes every decision.

    `resource` returns what a call is about, and `class_of` the highest class of its data, by default the one
    that its labels state. With `observe`, a denial is noted and the call passes on, unless
    `floor` denies it too: a set that is tried out never permits more than the floor does.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        resource: ResourceOf,
        class_of: ClassOf | None = None,
        observe: bool = False,
        floor: Policy | None = None,
    ) -> None:
        self._policy, self._resource = policy, resource
        self._class_of = class_of or stated_class
        self._observe, self._floor = observe, floor
        self._kept: dict[tuple[Any, ...], Noted] = {}
        self._kept_by = ""

    def __call__(self, call: Call, proceed: Handler) -> AsyncIterator[Event]:
        """Return the call's stream if it is permitted; raise PolicyError if it is not."""
        self.check(call)
        return proceed(call)

    def check(self, call: Call) -> None:
        """Note the decision on a call; raise PolicyError if the call is denied."""
        if call.name not in OPERATIONS:
            return  # the stack refuses it, and names the operations that there are
        if call.context.grant.kind:
            check_scope(call)
        noted = self._noted(call)
        facts = call.span.facts
        earlier = facts.get("decision")
        # A denied candidate whose fall-backs are denied too is the one that the caller's error names.
        if noted.allowed or earlier is None or earlier["allowed"]:
            facts["decision"], facts["policy_request"] = noted.decision, noted.request
        if noted.allowed:
            return
        if noted.observed:
            facts["would_refuse"] = [*facts.get("would_refuse", ()), f"policy:{noted.name}"]
            return
        raise noted.made_by.refusal(noted.asked)

    def permits(self, call: Call) -> bool:
        """Return whether a call would pass; the decision is noted nowhere."""
        try:
            check_scope(call)
        except RefusedError:
            return False
        noted = self._noted(call)
        return noted.allowed or noted.observed

    def _noted(self, call: Call) -> Noted:
        """Return what is noted of a call: kept for calls that differ in their content alone."""
        digest = self._policy.digest
        if self._kept_by != digest or len(self._kept) >= _MOST_KEPT:
            self._kept, self._kept_by = {}, digest
        context, data_class = call.context, self._class_of(call)
        key = (
            context.principal, context.tenant, context.use_case, context.purpose, context.phase, context.job,
            context.grant.kind, context.grant.confinement, call.port, call.operation, call.target, data_class,
            is_unfiltered(call),
        )  # fmt: skip
        noted = self._kept.get(key)
        if noted is None:
            noted = self._decided(call, data_class)
            if not noted.made_by.errors:
                self._kept[key] = noted
        return noted

    def _decided(self, call: Call, data_class: str) -> Noted:
        request = request_of(call, self._resource(call), data_class=data_class)
        decision = self._policy.decide(request)
        observed = not decision.allowed and self._observe and self._floor is not None
        if observed and self._floor is not None:
            least = self._floor.decide(request)
            observed = least.allowed
            decision = decision if decision.policies or observed else least
        return Noted(request, decision, observed=observed)


def request_of(
    call: Call, resource: Resource, *, action: str = "", data_class: str | None = None
) -> PolicyRequest:
    """Return what the policies are asked about a call: by default, whether its operation is permitted."""
    context = call.context
    return PolicyRequest(
        principal=context.principal,
        tenant=context.tenant,
        action=action or call.name,
        resource=resource,
        context={
            "purpose": context.purpose,
            "use_case": context.use_case,
            "phase": context.phase,
            "assurance": context.principal.assurance,
            "data_class": stated_class(call) if data_class is None else data_class,
            "external": bool(resource.attributes.get("external", False)),
            "environment": "job" if context.job else "explore",
            "unfiltered": is_unfiltered(call),
            **entry_of(context),
        },
    )


def entry_of(context: Context) -> dict[str, str]:
    """Return what a request to the policies says of how the caller was let in: what is known of it."""
    found = {"api_key_kind": context.grant.kind, "confinement": context.grant.confinement}
    return {name: value for name, value in found.items() if value}


def check_scope(call: Call) -> None:
    """Raise RefusedError for a call with a model, a memory or a purpose that its grant is not for.

    A scope cannot be observed only: a key is never good for more than it states.
    """
    context, scope = call.context, call.context.grant
    outside, name = "", ""
    if not scope.permits(call.port, call.target):
        outside, name = call.port, call.target
    elif scope.purposes is not None and context.purpose not in scope.purposes:
        outside, name = "purpose", context.purpose
    if outside:
        raise outside_scope(context, outside, name)


def outside_scope(context: Context, outside: str, name: str) -> RefusedError:
    """Return the error for a model, a memory or a purpose that a grant is not for, or that does not exist."""
    scope, shown = context.grant, name.partition("@")[0][:80] if outside != "purpose" else name[:80]
    key = f"the API key {scope.api_key}" if scope.api_key else f"the grant ({scope.kind})"
    error = RefusedError(
        f"{key} of {context.principal} is not for the {outside} {shown!r}",
        hint=f"workbench keys issue --{outside} {shown}   # a key with another scope, docs/keys.md",
        status=403,
    )
    error.reason = "scope"
    return error


def memory_of(call: Call) -> Resource:
    """Return the memory that a call is about, as a resource."""
    return Resource(
        type="Memory", id=call.target, tenant=call.context.tenant, attributes={"name": call.target}
    )


def stated_class(call: Call) -> str:
    """Return the highest class of data that the labels of a call state, "" for none."""
    stated = call.labels.get("data_class", "")
    return stated if isinstance(stated, str) else ""


def is_unfiltered(call: Call) -> bool:
    """Return whether a call reads a memory regardless of access lists."""
    return call.port == "memory" and call.operation in _UNFILTERED and not call.payload.get("requester")
