"""The workspace that `wb.connect` returns, bound to use case, tenant, principal and purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import _sync, arguments, config, files, registry, retrieval
from workbench.budgets.report import BudgetReport
from workbench.context import current_invocation
from workbench.errors import ConfigError, NotFoundError, RefusedError, WorkbenchError, nearest
from workbench.experiments.batch import Batch
from workbench.experiments.dataset import Dataset
from workbench.experiments.experiment import Experiment
from workbench.experiments.gate_spec import GateSpec
from workbench.experiments.gates import GateReport, judge
from workbench.experiments.inputs import Inputs, read
from workbench.experiments.runs import Run, save_runs
from workbench.experiments.slices import Slicing
from workbench.experiments.synthetic import Synthetic
from workbench.experiments.usage import ENDED_BY
from workbench.identity import Principal
from workbench.layout import RUNS
from workbench.memory.stemming import stems
from workbench.models import ModelCard
from workbench.models.handle import ModelHandle
from workbench.ports import Call, ModelCandidate
from workbench.prompts import prompt as prompts
from workbench.prompts.prompt import Prompt
from workbench.prompts.window import Window
from workbench.retrieval import MemoryHandle
from workbench.types import JSON, Port
from workbench.workspace import caller_identity, prompt_editing
from workbench.workspace.candidates import Fallbacks, candidates, described, price_sources
from workbench.workspace.clients import model_of, usable_cards
from workbench.workspace.privacy import protected, protected_run
from workbench.workspace.run_verbs import RunVerbs
from workbench.workspace.scoped import stated_card, within_scope
from workbench.workspace.spending import room_of
from workbench.workspace.use_case import check_tenant, stated_dataset, unstated

if TYPE_CHECKING:
    import polars as pl
    from openai import AsyncOpenAI, OpenAI

    from workbench.models.client_requests import Caller
    from workbench.promotion.release import Released

_MISSING: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace(RunVerbs):
    """The operations of a notebook or a job, for one tenant; `bind` returns a workspace for another.

    The verbs of the records of calls and outcomes are those of `RecordVerbs`, those of runs of `RunVerbs`.
    """

    execution: config.Execution = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    _kept: list[Run] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        caller_identity.check_unchanged(self.identity, self.context.principal, self.tenant)

    @property
    def tenant(self) -> str:
        """The tenant of this workspace."""
        return self.context.tenant

    def bind(
        self,
        *,
        tenant: str | None = None,
        principal: Principal | None = None,
        purpose: str | None = None,
        subject: str | None = None,
        settings: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> Workspace:
        """Return this workspace with another tenant, principal, purpose or arm's settings.

        `principal` may have the same rights or fewer. `token` is that of a user whom a service acts for: the
        workspace gets this user's name, tenant and rights. Raise RefusedError for a token that is not valid.
        `subject` is the id of the person whom the calls are about: what is kept of them is erased with it.
        """
        who, case, boundary = self.identity, self.use_case, self.boundary
        if token is not None:
            source = config.load_params(self.root).identity
            who = caller_identity.of_execution(self.root, source, case, self.execution, token=token)
            boundary = boundary.bound_to(token, who.principal)
        if principal is not None:
            who = caller_identity.narrowed(who, principal)
        tenant = caller_identity.tenant_of(who, tenant, None)
        if tenant is not None:
            check_tenant(self.name, case, tenant, only=self.execution.tenant)
        context = dataclasses.replace(
            self.context,
            tenant=tenant or self.context.tenant,
            principal=who.principal,
            purpose=arguments.text(purpose, "purpose") if purpose else self.context.purpose,
            subject=self.context.subject if subject is None else arguments.text(subject, "subject"),
        )
        chosen = self.settings if settings is None else settings
        return dataclasses.replace(self, context=context, identity=who, settings=chosen, boundary=boundary)

    def setting(self, name: str, default: Any = _MISSING) -> Any:
        """Return a setting of the current arm; raise ConfigError if it has neither value nor default."""
        if name in self.settings:
            return self.settings[name]
        if default is _MISSING:
            raise ConfigError(
                f"this arm has no setting {name!r} ({nearest(name, self.settings)})",
                hint=f"arms={{…: {{{name!r}: …}}}}, or ws.setting({name!r}, default)",
            )
        return default

    # -- assets and models ------------------------------------------------------------------

    def memory(self, reference: str | None = None) -> MemoryHandle:
        """Return a memory by name or `name@version`, by default the use case's.

        Raise ConfigError for the default of a use case without a memory.
        """
        pin = self.use_case.memory
        name = reference or self.setting("memory", pin.name if pin else None)
        if name is None:
            raise unstated(self.name, "memory")
        with within_scope(self.context, "memory", name):
            spec = retrieval.load_spec(self.root, str(pin) if pin and name == pin.name else name)
        pinned = self.boundary.pinned_digest(spec.name)
        identities = {
            "version": spec.version,
            "spec": spec.digest,
            "snapshot": pinned,
            "index": dataclasses.asdict(spec.index),
            "budget": dataclasses.asdict(spec.budget),
        }
        return MemoryHandle(
            spec=spec,
            context=self.context,
            handler=self.boundary.handler,
            make_call=partial(self._call, memory=identities),
            root=self.root,
            home=self.boundary.home,
            as_of=self.use_case.as_of,
            pinned=pinned,
            today=self.boundary.stores.where.today,
            marked=self.execution.gateway is not None,
            snapshot_store=self.boundary.stores.snapshot_store(),
            permitted=self.boundary.access.permitted,
            permits=self.boundary.permits,
            narrowed=lambda principal: self.bind(principal=principal).memory(reference),
            stems=stems,
        )

    def window(self, budget: int, *, model: str | None = None) -> Window:
        """Return a window of `budget` tokens: older turns are summarised or evicted.

        The model summarises and, if its endpoint supports it, counts tokens, through the boundary. A
        window is not stored.
        """
        return Window.of_model(self.model(model), tenant=self.tenant, budget=budget)

    def prompt(self, reference: str | None = None) -> Prompt:
        """Return a prompt by `name@version`, `name@label` or name.

        A bare name is resolved by the arm's setting, then by params.yaml. Raise ConfigError for the default
        of a use case without a prompt.
        """
        pin, chosen = self.use_case.prompt, self.settings.get("prompt")
        name = reference or (pin.name if pin else getattr(chosen, "reference", chosen))
        if name is None:
            raise unstated(self.name, "prompt")
        if isinstance(chosen, Prompt) and name in {chosen.name, chosen.reference}:
            return chosen
        if isinstance(chosen, str) and name == registry.Reference.parse(chosen).name:
            name = chosen
        elif pin and name == pin.name:
            name = str(pin)
        found = prompts.load(self.root, name, author=self.context.principal.name)
        return dataclasses.replace(found, editor=partial(prompt_editing.open_editor, self))

    def model(self, name: str | None = None, *, fallback: Fallbacks | None = None) -> ModelHandle:
        """Return a chat model by its card's name; without one, the arm's, then the use case's.

        `fallback` lists what answers when the model cannot: names of models, then `{"answer": "…"}`. By
        default these are the fall-backs of params.yaml for the use case's model, and none for another.
        """
        reference = self._model_reference(name)
        with within_scope(self.context, "model", reference):
            card = self.boundary.card(reference)
        return ModelHandle(
            card=card,
            handler=self.boundary.handler,
            make_call=partial(self._model_call, card, fallbacks=self._candidates(card, fallback)),
        )

    def openai(self, *, timeout: float | None = None, max_retries: int | None = None) -> OpenAI:
        """Return an `openai.OpenAI` whose requests cross the boundary.

        `timeout` limits each call in seconds, `max_retries` its retries. Raise ConfigError for a wrong one.
        """
        from workbench.models.clients import openai_client

        return openai_client(self._caller(timeout=timeout, max_retries=max_retries))

    def openai_async(self, *, timeout: float | None = None, max_retries: int | None = None) -> AsyncOpenAI:
        """Return an `openai.AsyncOpenAI` whose requests cross the boundary, as `openai` does."""
        from workbench.models.clients import openai_async_client

        return openai_async_client(self._caller(timeout=timeout, max_retries=max_retries))

    def cases(self, memory: str | None = None) -> Dataset:
        """Return the use case's dataset, or for another memory the questions of its spec's file.

        In the pipeline these are the prepared cases. A use case without a memory has its dataset alone. Raise
        RefusedError in a job and in a judged run.
        """
        if self.execution.publish:
            raise RefusedError(
                "ws.cases(): a job is given inputs and never what is expected",
                hint="tag the cell `explore`; a job's rows are ws.inputs(inputs)",
            )
        pin, chosen = self.use_case.memory, memory or self.settings.get("memory")
        spec = None if pin is None and chosen is None else self.memory(memory).spec
        if spec is None or (pin and spec.name == pin.name):
            path = self.execution.cases or stated_dataset(self.root, self.use_case)
            if self.use_case.quality and not self.execution.cases:
                from workbench.workspace import quality  # it needs numpy

                return quality.dataset(self.root, self.name, self.use_case, path)
            return Dataset.from_file(self.root / path, **self.use_case.columns)
        if spec.questions is None:
            raise NotFoundError(
                f"the memory {spec} names no questions", hint='wb.Dataset.from_file("FILE") reads any file'
            )
        return Dataset.from_file(self.root / spec.questions)

    def inputs(self, source: str = "") -> Inputs:
        """Return the rows of a Parquet or JSON lines file for `task.map`; no rows without a file.

        A use case with quality rules cleans and checks them: a row that breaks a rule is a broken row. Raise
        RefusedError for a file of a memory's snapshot.
        """
        from workbench.workspace.quality import checked_inputs  # it needs numpy

        only = self.execution.tenant
        tenants = (only,) if only else self.use_case.tenants
        rows = read(self.root / source, tenant=only) if source else ()
        return Inputs(
            name=Path(source).name or "nothing",
            rows=checked_inputs(self.root, self.use_case, rows, tenants=tenants, source=source),
            tenants=tenants,
            bind=lambda tenant: self.bind(tenant=tenant),
            concurrency=self.use_case.concurrency,
            most_broken=self.execution.broken,
            progress=Path(self.execution.progress) if self.execution.progress else None,
        )

    def publish(self, batch: Batch, name: str) -> Batch:
        """Return the batch; in a job, also give it to the runner, which publishes all of it or nothing.

        What the classes of data say of `outputs` holds for its texts: PrivacyError for a class to refuse.
        """
        batch = dataclasses.replace(batch, answers=protected(self.root, batch.answers))
        if self.execution.publish:
            batch.hand_over(Path(self.execution.publish), name)
        return batch

    # -- experiments and gates --------------------------------------------------------------

    def experiment(self, name: str | None = None) -> Experiment:
        """Return an experiment of this use case; the gate judges the one with the use case's name."""
        return Experiment(
            name=name or self.name,
            use_case=self.name,
            bind=lambda tenant, settings: self.bind(tenant=tenant, settings=settings),
            describe=lambda settings: self.bind(settings=settings).describe(),
            keep=self._keep,
            task_digest=self.execution.task_digest,
            gate_digest=self.gate_spec().digest,
            gated_memory=self.use_case.memory.name if self.use_case.memory else None,
            concurrency=self.use_case.concurrency,
            progress=Path(self.execution.progress) if self.execution.progress else None,
            slices=self.use_case.slices,
            clean=partial(protected_run, self.root),
            room=partial(room_of, self._budget),
            verbs=self._case_verbs,
        )

    def describe(self) -> dict[str, Any]:
        """Return the references and digests that bare names resolve to, as a run's settings.

        A prompt or a memory that neither the use case nor the arm names is left out.
        """
        named: dict[str, Any] = {}
        if self.use_case.prompt or self.settings.get("prompt"):
            prompt = self.prompt()
            named = {"prompt": prompt.reference, "prompt_digest": prompt.digest}
        if self.use_case.memory or self.settings.get("memory"):
            memory = self.memory()
            named |= {"memory": str(memory.spec), "memory_digest": memory.pinned or memory.spec.digest}
        card = self.boundary.card(self._model_reference(None))
        others = self._candidates(card)
        sources = price_sources(card, others, card_of=self.boundary.card)
        fallbacks = {"fallback": [dataclasses.asdict(item) for item in others]} if others else {}
        rest = {k: v for k, v in self.settings.items() if k not in {"prompt", "memory", "model"}}
        return {
            **named,
            "model": card.reference,
            "model_digest": files.digest({**card.identity(), "defaults": card.wire_defaults(), **fallbacks}),
            **({"model_fallback": described(others)} if others else {}),
            **({"model_price": sources} if sources else {}),
            **rest,
        }

    def gate_spec(self, phase: str | None = None) -> GateSpec:
        """Return the gate of a phase, by default the use case's; raise ConfigError if it is invalid."""
        where = f"{self.root / 'params.yaml'}: use_cases.{self.name}.gates"
        case = self.use_case
        return GateSpec.of_phase(case.gates, phase or case.phase, where=where, slices=case.slices)

    def gate(self, run: Run, *, phase: str | None = None, baseline: Run | None = None) -> GateReport:
        """Judge an explored run by the gate of params.yaml, line by line; a failed gate raises no error.

        An explored run cannot pass: the stage `judge` of `dvc repro` decides on its own run.
        """
        spec, phase = self.gate_spec(phase), phase or self.use_case.phase
        cases = self._known_cases()
        report = judge(run, spec, phase=phase, baseline=baseline, explored=True, slicing=self._slicing(cases))
        return dataclasses.replace(report, synthetic=Synthetic.of(cases, run.case_ids) if cases else None)

    def promote(self, reference: str, *, to: str = "production", **how: Any) -> Released:
        """Freeze `job/NAME` as its next version and label it, or label a version such as `prompt/NAME@2`.

        `how` takes `reason`, `dry_run` and `commit`: see `workbench promote --help`. Raise RefusedError for a
        workspace that acts for another than the process does: a job, the bearer of a token, fewer rights.
        """
        from workbench.promotion.promote import ReleaseOptions, promote

        caller_identity.check_of_process(self.root, self.use_case, self.identity, what=f"promote {reference}")
        return promote(self.root, reference, ReleaseOptions(label=to, **how))

    def rollback(self, reference: str, *, to: int | None = None, **how: Any) -> Released:
        """Move the production label to the previous version or to `to`, also with uncommitted changes.

        Raise RefusedError as `promote` does.
        """
        from workbench.promotion.promote import ReleaseOptions, rollback

        caller_identity.check_of_process(
            self.root, self.use_case, self.identity, what=f"roll back {reference}"
        )
        return rollback(self.root, reference, ReleaseOptions(**how), to=to)

    # -- records ------------------------------------------------------------------

    def endpoints(self) -> pl.DataFrame:
        """Return a frame of the model endpoints: breaker, limits, and calls in flight and waiting here."""
        return self.boundary.endpoints()

    def assets(self) -> pl.DataFrame:
        """Return a frame of every version of every asset, with its labels."""
        return registry.frame(self.root)

    def jobs(self) -> pl.DataFrame:
        """Return a frame of every version of every job: its slots, times and cost against its objective."""
        from workbench.jobs.status import jobs_frame

        return jobs_frame(self.root)

    async def _budget(self) -> BudgetReport:
        """Return the budgets that calls of this workspace take from: limit, spent, reserved and left."""
        return await self.boundary.budget(self.context)

    budget, budget_async = _sync.twins(_budget)

    def close(self) -> None:
        """Close servers, connections and files; a later call opens them again."""
        _sync.run(self.boundary.aclose())

    # -- internals -----------------------------------------------------------------------------

    def _known_cases(self) -> Dataset | None:
        """Return the use case's dataset; None where it is refused or cannot be read."""
        try:
            return self.cases()
        except WorkbenchError:
            return None

    def _slicing(self, cases: Dataset | None) -> Slicing | None:
        """Return the declared slices of these cases; None without a declaration or without cases."""
        where = f"{self.root / 'params.yaml'}: use_cases.{self.name}.slices"
        names = self.use_case.slices
        return Slicing.of(cases, names, where=where) if cases and names else None

    def _call(
        self, port: Port, operation: str, target: str, payload: JSON, *, memory: JSON | None = None
    ) -> Call:
        if port == "model":
            return self._model_call(self.boundary.card(target), operation, payload, {})
        return Call(
            port=port,
            operation=operation,
            target=target,
            payload=payload,
            context=self._current_context(),
            identity=memory or {},
        )

    def _model_call(
        self,
        card: ModelCard,
        operation: str,
        payload: JSON,
        labels: Mapping[str, Any],
        *,
        fallbacks: tuple[ModelCandidate, ...] = (),
    ) -> Call:
        if self.execution.live_memory:  # a job's run on today's input
            card.check_priced(why="a job states what it costs")
        choice = self.use_case.model_choice
        own = card.name == choice.name.partition("@")[0]
        seconds = choice.seconds if fallbacks or own else None
        return Call(
            port="model",
            operation=operation,
            target=card.reference,
            payload={**payload, "model": card.model},
            context=self._current_context(),
            identity=card.identity(),
            labels={**labels, **({} if card.recorded else {"recorded": False}), **self._job_labels()},
            deadline=None if seconds is None else self.context.clock.monotonic() + seconds,
            fallbacks=fallbacks,
        )

    def _candidates(self, card: ModelCard, stated: Fallbacks | None = None) -> tuple[ModelCandidate, ...]:
        """Return the fall-backs of a model; by default those of params.yaml if it is the use case's."""
        if stated is None:
            choice = self.use_case.model_choice
            if not choice.fallback or card.name != choice.name.partition("@")[0]:
                return ()
            return candidates(card, choice.fallback, card_of=self.boundary.card)
        return candidates(card, stated, card_of=partial(stated_card, self.boundary, self.context))

    def _job_labels(self) -> dict[str, Any]:
        """Return job, run and row of a call as labels, which join an output to its calls."""
        if self.execution.job is None:
            return {}
        around = current_invocation()
        return {"job": self.execution.job, "run": self.execution.run, "row": around.case if around else None}

    def _model_reference(self, name: str | None) -> str:
        """Resolve a model's name: the arm's model first, then the pinned one of the job or params.yaml."""
        pin = self.use_case.model_name
        reference = str(name or self.setting("model", pin))
        return pin if reference == pin.partition("@")[0] else reference

    def _caller(self, **limits: Any) -> Caller:
        from workbench.models.client_requests import Caller

        cards = partial(usable_cards, self.boundary, self.use_case.model_name, self._candidates)
        return Caller(handler=self.boundary.handler, make_call=self._client_call, cards=cards, **limits)

    def _client_call(self, operation: str, payload: JSON) -> Call:
        """Return the call of an `openai` client, whose `model` is the name of a card or of a card's model."""
        asked = model_of(self.boundary, operation, payload)
        with within_scope(self.context, "model", asked):
            card = self.boundary.card_for(asked, prefer=self.use_case.model_name)
        written = "respond" if card.dialect == "responses" else "chat"
        defaults = card.wire_defaults() if operation == written else {}
        fallbacks = self._candidates(card) if operation == written else ()
        call = self._model_call(
            card, operation, {**defaults, **payload}, {"client": "openai"}, fallbacks=fallbacks
        )
        return call.with_defaults(name for name in defaults if name not in payload)

    def _keep(self, run: Run) -> None:
        save_runs([run], self.root / RUNS / run.id)
        if self.execution.out and run.experiment == self.name and ENDED_BY not in run.settings:
            self._kept[:] = [*(old for old in self._kept if old.arm != run.arm), run]
            save_runs(self._kept, Path(self.execution.out))
