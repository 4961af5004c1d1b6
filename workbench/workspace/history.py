"""The verbs of a workspace on its records: calls, costs, sessions, outcomes, impact."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from workbench import config, files, layout
from workbench.content import OpenedContent
from workbench.context import Context
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.identities.providers import provider_of
from workbench.identity import GrantScope, Principal
from workbench.ports.identity import Identity
from workbench.privacy.repository import redaction_of
from workbench.records.calls import Chosen, find_calls, intact, read_calls, scan_calls
from workbench.records.costs import costs_of, sessions_of
from workbench.records.explanation import Explanation, explain
from workbench.records.feedback import FeedbackPanel
from workbench.records.outcomes import (
    FEEDBACK,
    RecordedOutcome,
    check_note,
    check_outcome,
    check_session,
    keep_outcome,
    outcomes_of,
)
from workbench.types import Reply
from workbench.workspace import caller_identity
from workbench.workspace.boundary import Boundary
from workbench.workspace.gateway_verbs import RemoteVerbs, by_gateway
from workbench.workspace.interrupted import recover_interrupted
from workbench.workspace.opening import open_content
from workbench.workspace.reviewing import held_answers

if TYPE_CHECKING:
    import polars as pl

    from workbench.workspace.impact import Impact, On

#: The number of calls that `ws.calls()` returns unless it is told another.
NEWEST = 100_000
#: The use cases that a listing names at most.
_MOST_NAMED = 5
Since = str | dt.date | dt.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordVerbs:
    """The verbs of a workspace on the records of calls and outcomes, which hold no content.

    An admin of the use case sees the calls of every tenant and use case, except use cases of which it is not
    an admin. Another principal, and one whose token names a tenant, sees those of its tenant in its use case.
    """

    root: Path
    context: Context
    boundary: Boundary = field(repr=False)
    identity: Identity = field(repr=False)

    @overload
    def calls(
        self, *, since: Since = None, tenant: str | None = None, session: str | None = None,
        trace: str | None = None, limit: int | None = NEWEST, lazy: Literal[False] = False,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def calls(
        self, *, since: Since = None, tenant: str | None = None, session: str | None = None,
        trace: str | None = None, limit: int | None = NEWEST, lazy: Literal[True],
    ) -> pl.LazyFrame: ...  # fmt: skip

    @by_gateway
    def calls(
        self,
        *,
        since: Since = None,
        tenant: str | None = None,
        session: str | None = None,
        trace: str | None = None,
        limit: int | None = NEWEST,
        lazy: bool = False,
    ) -> pl.DataFrame | pl.LazyFrame:
        """Return a frame of the newest `limit` calls, oldest first; with `lazy`, a lazy frame of all.

        A warning says when older calls are left out; `limit=None` returns all. `trace` finds a call by its id
        without reading the others.
        """
        chosen = self._chosen(since=since, tenant=tenant, session=session)
        if trace is not None:
            found = find_calls(self._log, _checked_trace(trace), chosen)
            return found.lazy() if lazy else found
        if limit is not None and limit < 1:
            raise ConfigError(f"limit={limit} is below 1", hint="ws.calls(limit=1000), or limit=None for all")
        return scan_calls(self._log, chosen) if lazy else read_calls(self._log, chosen, limit=limit)

    @by_gateway
    def costs(
        self, by: Sequence[str] = ("tenant", "model"), *, since: Since = None, tenant: str | None = None
    ) -> pl.DataFrame:
        """Return money, tokens and calls of models, one row for each combination of `by`.

        `by` names columns such as tenant, prompt, model, job, session, and day.
        """
        with intact(self._log):
            return costs_of(scan_calls(self._log, self._chosen(since=since, tenant=tenant)), by)

    @by_gateway
    def why(self, reply: Reply) -> Explanation:
        """Return the origin of an answer: prompt, passages, model, tokens, cost, replayed or not."""
        return explain(self._log, reply, self._chosen())

    @by_gateway
    def content(self, content: Reply | str, *, reason: str) -> OpenedContent:
        """Return the exact request and answer of a reply, or of sealed content by its id.

        The policies decide, and the audit log has the opening, with a digest of the reason. Raise
        PolicyError, NotFoundError for content that is not kept or was erased, and ConfigError without a
        reason.
        """
        record = (
            find_calls(self._log, content.trace_id, self._chosen()) if isinstance(content, Reply) else None
        )
        found = content if isinstance(content, str) else _content_of(record)
        return open_content(self.root, self.boundary.home, self._current_context(), found, reason=reason)

    def session(self, session: str) -> Self:
        """Return this workspace bound to a session: an id of a user's journey, which every call carries."""
        return dataclasses.replace(
            self, context=dataclasses.replace(self.context, session=check_session(session))
        )

    @by_gateway
    def sessions(self, *, since: Since = None, tenant: str | None = None) -> pl.DataFrame:
        """Return one row for each session: its calls, tokens, money and the names of its outcomes."""
        import polars as pl

        key = ["use_case", "tenant", "session"]
        with intact(self._log):
            found = sessions_of(scan_calls(self._log, self._chosen(since=since, tenant=tenant)))
        outcomes = self.outcomes().filter(pl.col("session") != "")
        named = outcomes.group_by(key).agg(pl.col("name").unique().sort().alias("outcomes"))
        return found.join(named, on=key, how="left").with_columns(pl.col("outcomes").fill_null([]))

    @by_gateway
    def outcome(
        self,
        reply: Reply | None = None,
        name: str = "",
        *,
        value: float = 1.0,
        trace_id: str = "",
        session: str = "",
        note: str = "",
    ) -> RecordedOutcome:
        """Record what became of a reply, or of a call or a session by its id; the latest of a name counts.

        `note` is a text about it, in which identifiers and secrets are masked by the rules of logs. Raise
        ConfigError unless exactly one of the three is named, and NotFoundError for a call that is not in the
        log and for a session without a call in it.
        """
        name, value = check_outcome(name, value)
        note = redaction_of(self.root, home=self.boundary.home).text(check_note(note)) if note else ""
        trace_id = trace_id or (reply.trace_id if reply is not None else "")
        if bool(trace_id) == bool(session):
            found = "names both" if session else "names neither"
            raise ConfigError(
                f"the outcome {name!r} is of one call or of one session, and {found}",
                hint='ws.outcome(reply, "resolved"), or name=… with trace_id=… or session=…',
            )
        outcome = RecordedOutcome(
            at=self.context.clock.now().astimezone(dt.UTC).isoformat(timespec="microseconds"),
            principal=self.context.principal.name,
            trace_id=trace_id,
            name=name,
            value=value,
            note=note,
            **(self._owner(trace_id) if trace_id else self._bound_to(session)),
        )
        return keep_outcome(self.boundary.home / layout.OUTCOMES, outcome)

    @overload
    def feedback(self, reply: Reply | str, *, good: bool, note: str = "") -> RecordedOutcome: ...

    @overload
    def feedback(self, reply: Reply | str, *, good: None = None, note: str = "") -> FeedbackPanel: ...

    def feedback(
        self, reply: Reply | str, *, good: bool | None = None, note: str = ""
    ) -> RecordedOutcome | FeedbackPanel:
        """Record whether a reply was good, with a note: the outcome `feedback`, one a person and reply.

        `reply` may be the trace id of a call. Without `good`, return a panel with two buttons. Raise
        ConfigError for a reply without a trace id, and NotFoundError for a call that is not in the log.
        """
        trace = traced(reply)

        def record(text: str, *, said: bool) -> RecordedOutcome:
            return self.outcome(name=FEEDBACK, value=float(said), trace_id=trace, note=text)

        if good is not None:
            return record(note, said=good)
        shown = reply if isinstance(reply, Reply) else Reply(text="", model="", trace_id=trace)
        panel = FeedbackPanel(shown, record, given=self._given(trace))
        panel.note = check_note(note) or panel.note
        return panel

    def _given(self, trace: str) -> RecordedOutcome | None:
        """Return what this principal has said of a call."""
        mine = {"trace_id": trace, "name": FEEDBACK, "principal": self.context.principal.name}
        rows = self.outcomes().filter(**mine).to_dicts()
        if not rows:
            return None
        at = rows[-1]["at"]
        return RecordedOutcome(**{**rows[-1], "at": at.isoformat() if at is not None else ""})

    @by_gateway
    def outcomes(self) -> pl.DataFrame:
        """Return one row for each outcome, the latest of each call or session and name, oldest first."""
        kept, chosen = outcomes_of(self.boundary.home / layout.OUTCOMES).lazy(), self._chosen()
        if chosen.run is None:
            return chosen.of(kept).collect()
        with intact(self._log):
            own = scan_calls(self._log, chosen).select("trace_id").unique()
            found = dataclasses.replace(chosen, run=None).of(kept)
            return found.join(own, on="trace_id", how="semi", maintain_order="left").collect()

    @by_gateway
    def impact(
        self,
        frame: pl.DataFrame | None = None,
        *,
        on: On = "trace_id",
        by: Sequence[str] = ("use_case", "tenant", "prompt", "model"),
        outcomes: Sequence[str] | None = None,
        since: Since = None,
    ) -> Impact:
        """Return success, latency, cost and outcome by group, with intervals, from a frame of events.

        Events are joined by trace id or session; without a frame they are the recorded outcomes. `outcomes`
        names columns of the frame, by default all of numbers or of true and false. Raise ConfigError for
        events that would count a call twice or that name another tenant.
        """
        from workbench.workspace.impact import events_of, impact_of  # it needs numpy

        events = events_of(self.outcomes(), on) if frame is None else frame
        with intact(self._log):
            calls = scan_calls(self._log, self._chosen(since=since))
            return impact_of(calls, events, on=on, by=by, outcomes=outcomes)

    @by_gateway
    def released(self, held: str) -> str | None:
        """Return the text of a held answer once a reviewer has released it; None while it waits.

        `held` is the id of the ModerationError. Raise NotFoundError for an id of another use case, tenant or
        principal and for an answer that has expired, and RefusedError for one that was rejected.
        """
        answers = held_answers(self.boundary.home)
        found = answers.get(held)
        who = self._current_context()
        mine = (who.use_case, who.tenant, who.principal.name)
        expired = found.has_expired(who.clock.now().date())
        if (found.use_case, found.tenant, found.principal) != mine or expired:
            raise NotFoundError(
                f"no held answer of yours in this use case and tenant has the id {held!r}",
                hint="use the id of the ModerationError, and the workspace that asked; answers expire",
            )
        if found.state == "rejected":
            raise RefusedError(f"the answer {held} was rejected: {found.reason}", hint="ask otherwise")
        return answers.texts(found).text if found.state == "released" else None

    @property
    def asks(self) -> RemoteVerbs | None:
        """What asks the gateway for these verbs; None where this process answers them."""
        return self.boundary.verbs

    def _current_context(self) -> Context:
        """Return the context of a verb; raise RefusedError when its token has ended or it was changed."""
        if self.context.principal is not self.identity.principal:
            caller_identity.check_unchanged(self.identity, self.context.principal, self.context.tenant)
        if self.identity.expires is not None:
            caller_identity.check_current(self.identity, self.context.clock)
        return self.context

    @property
    def _log(self) -> Path:
        """The log of calls, also with those that a killed process had in flight."""
        recover_interrupted(self.boundary.home)
        return self.boundary.home / layout.CALLS

    def _chosen(
        self, *, since: Since = None, tenant: str | None = None, session: str | None = None
    ) -> Chosen:
        """Return which calls are read; raise RefusedError for another tenant's without the right."""
        context, principal = self._current_context(), self.context.principal
        chosen = Chosen(tenant=tenant, session=session, since=moment_of(since), run=self._only_run)
        if principal.admin and not self.identity.tenant:
            hidden = hidden_use_cases(self.root, principal) - {context.use_case}
            granted = _granted(self.root, context.grant)
            return dataclasses.replace(chosen, hidden=hidden, tenants=granted)
        if tenant not in {None, context.tenant}:
            raise RefusedError(
                f"{principal.name!r} may not see the calls of tenant {tenant!r}",
                hint=f"an admin may: see use_cases.{context.use_case}.admins in params.yaml",
            )
        return dataclasses.replace(chosen, tenants=frozenset({(context.use_case, context.tenant)}))

    @property
    def _only_run(self) -> str | None:
        """The run whose calls are read, for a judged run or a job that asks its gateway.

        Older records are state of this machine: through them, a cell that only explores could tell answers to
        a judged one.
        """
        context = self.context
        return context.run if context.job and context.grant.kind == "run" else None

    def _owner(self, trace: str) -> dict[str, str]:
        """Return use case, tenant and session of a call."""
        found = find_calls(self._log, trace, self._chosen())
        if found.is_empty():
            raise NotFoundError(
                f"no call with trace {trace[:64]} is in the log",
                hint="record the outcome in the repository that made the call: ws.calls(trace=…)",
            )
        return {name: found[name][-1] or "" for name in ("use_case", "tenant", "session")}

    def _bound_to(self, session: str) -> dict[str, str]:
        """Return use case, tenant and name of a session of this tenant that has a call."""
        context, checked = self._current_context(), check_session(session)
        own = Chosen(
            tenants=frozenset({(context.use_case, context.tenant)}), session=checked, run=self._only_run
        )
        with intact(self._log):
            known = scan_calls(self._log, own).select("session").head(1).collect()
        if known.is_empty():
            raise NotFoundError(
                f"no call of {context.use_case} for {context.tenant} has session {files.shortened(checked)}",
                hint="ws.sessions() lists the sessions; ws.session(ID) binds calls to one",
            )
        return {"use_case": context.use_case, "tenant": context.tenant, "session": checked}


def traced(reply: Reply | str) -> str:
    """Return the trace id of a reply; ConfigError for one that no call made."""
    found = reply.trace_id if isinstance(reply, Reply) else reply
    if isinstance(found, str) and found:
        return found
    raise ConfigError(
        "the reply has no trace id, so no call is known that it is of",
        hint="give feedback on what ws.model().chat(…) returned, or on its trace id",
    )


def _content_of(record: pl.DataFrame | None) -> str:
    """Return the id of a call's sealed content; raise NotFoundError when none is kept."""
    found = None if record is None or record.is_empty() else record["content"][-1]
    if found is None:
        raise NotFoundError(
            "the content of this call is not kept",
            hint="write content: {keep: 30 days} into the use case of params.yaml, and call again",
        )
    return str(found)


def _checked_trace(trace: object) -> str:
    """Return a trace id; raise ConfigError for a value that is no text, such as the reply itself."""
    if isinstance(trace, str):
        return trace
    raise ConfigError(f"trace is a {type(trace).__name__}, not a text", hint="ws.calls(trace=reply.trace_id)")


def _granted(root: Path, scope: GrantScope) -> frozenset[tuple[str, str]] | None:
    """Return the use cases of an API key, each with its tenants; None for a key of all, and without one."""
    if scope.use_cases is None:
        return None
    cases = config.load_params(root).use_cases
    return frozenset(
        (name, tenant) for name in scope.use_cases & cases.keys() for tenant in cases[name].tenants
    )


def hidden_use_cases(root: Path, principal: Principal) -> frozenset[str]:
    """Return the use cases of params.yaml of which a principal is no admin."""
    cases = config.load_params(root).use_cases
    return frozenset(
        name for name, case in cases.items() if not case.rights(principal.name, principal.assurance)["admin"]
    )


def hidden_note(hidden: Collection[str]) -> str:
    """Return the line that a listing ends with: how many use cases it leaves out, and why; "" for none."""
    if not hidden:
        return ""
    names = ", ".join(sorted(hidden)[:_MOST_NAMED]) + (" …" if len(hidden) > _MOST_NAMED else "")
    count = f"{len(hidden)} use case{'s' * (len(hidden) > 1)}"
    return f"\nleft out: {count} whose admins in params.yaml do not name you: {names}"


def chosen_of_process(root: Path, **which: Any) -> Chosen:
    """Return the calls that the user of this process may see; `which` are fields of `Chosen`.

    Raise RefusedError without a token where params.yaml identifies callers by one.
    """
    params = config.load_params(root)
    found = provider_of(params.identity, root).identify()
    own = frozenset((name, found.tenant) for name in params.use_cases) if found.tenant else None
    return Chosen(hidden=hidden_use_cases(root, found.principal), tenants=own, **which)


def moment_of(since: Since) -> dt.datetime | None:
    """Return a time in UTC: a text in ISO form, a day from its beginning; ConfigError for another value."""
    if since is None:
        return None
    try:
        if isinstance(since, str):
            since = dt.datetime.fromisoformat(since)
        elif not isinstance(since, dt.datetime):
            since = dt.datetime.combine(since, dt.time())
        return since.astimezone(dt.UTC) if since.tzinfo else since.replace(tzinfo=dt.UTC)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"since={str(since)[:40]!r} is not a time",
            hint='a day as "2026-11-24", a time as "2026-11-24T06:00:00+00:00", or a datetime',
        ) from None
