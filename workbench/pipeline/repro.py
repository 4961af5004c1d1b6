"""`workbench repro`: run the pipeline, print the verdict, ask recorded questions of the model again."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import _sync, config, files, identity, layout, registry
from workbench.config import UseCase
from workbench.context import Context, SystemClock
from workbench.errors import ConfigError, NotFoundError, UnavailableError, WorkbenchError
from workbench.experiments.gates import GateReport
from workbench.jobs import overview
from workbench.layout import LIVE, PROMOTED, Results
from workbench.pipeline import settings
from workbench.pipeline.explore import judged
from workbench.pipeline.stages import EXIT_VARIABLE
from workbench.ports import Call
from workbench.promotion.freezing import judged_run
from workbench.promotion.judgement import prepared_cases
from workbench.records.calls import Chosen
from workbench.records.confirmed import Confirmed, answers_of
from workbench.records.governance import Governance, governance_of
from workbench.records.keys import Entry, processor
from workbench.records.tape import Tape, compare_answers, write
from workbench.repository import dvc, environments
from workbench.types import Event
from workbench.workspace import boundary
from workbench.workspace.boundary import Boundary

#: The number of recorded questions of a use case that a reproduction asks again by default.
SAMPLE = 10


def check_named(root: Path, params: config.Params) -> None:
    """Raise NotFoundError when params.yaml names a missing asset or path; DVC's own error has no hint."""
    for name, case in params.use_cases.items():
        for kind, pin in (("prompt", case.prompt), ("memory", case.memory)):
            if pin is not None:
                registry.resolve(root, kind, str(pin))
        for path in (case.notebook, case.data):
            if not (root / path).exists():
                raise NotFoundError(
                    f"params.yaml: use_cases.{name} names {path}, and this path does not exist",
                    hint=f"git checkout -- {path}, or name another path in params.yaml",
                )


def make_tapes(root: Path, params: config.Params) -> None:
    """Write missing tapes and folders of assets and scorers empty: DVC stops at a missing dependency."""
    for kind in ("memory", "prompt"):
        folder = root / "pipelines" / registry.FOLDERS[kind]
        if not folder.exists():
            files.write_atomic(folder / ".gitkeep", b"")
    for name in params.use_cases:
        settings.make_missing(root, name)


def warn_of_environment(root: Path) -> None:
    """Write one line to standard error when the installed packages differ from the lock."""
    lock = root / layout.LOCK
    difference = environments.difference(files.read_text(lock)) if lock.is_file() else ""
    if difference:
        sys.stderr.write(f"warning: {difference} ({environments.REINSTALL})\n")


def install_promoted(root: Path, *, say: Callable[[str], None]) -> None:
    """Install the missing environments of promoted versions: each sample runs in its version's own lock.

    A failed installation stops nothing here; the version's stage reports it.
    """
    raw = files.read_yaml(root / PROMOTED)
    for version in (raw.get("promoted") or {}).values():
        reference = f"{version['name']}@{version['version']}"
        try:
            overview.install_environment(root, reference, say=say)
        except UnavailableError as error:
            say(f"{reference}: {error}")


def run_pipeline(root: Path, *, quiet: bool = False) -> int:
    """Run `dvc repro`; return the exit code of the stage that failed, or 0.

    2 is bad input, 3 a fault, 130 an interrupt.
    """
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        path = Path(folder) / "stage-exit"
        output = sys.stderr.fileno() if quiet else None
        code, interrupted = dvc.repro(root, stdout=output, variables={EXIT_VARIABLE: str(path)})
        stage = path.read_text(encoding="ascii") if path.is_file() else None
    if code == 0:
        return 0
    if interrupted:
        return 130
    if stage is None:
        return ConfigError.exit_code  # no stage began: DVC refused dvc.yaml, dvc.lock or a dependency
    return int(stage) if stage not in {"", "0"} else WorkbenchError.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDifference:
    """One answer that differs from its recording; `differs` names text, usage or finish reason."""

    key: str
    case: str
    differs: tuple[str, ...]
    recorded: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasked:
    """The result of asking the questions of a use case's tapes of the model again.

    `judged` is the number of asked questions whose answers the judge's tape holds. `elsewhere` counts
    recordings of paid endpoints, which only LIVE=1 asks again. `same_processor` is true when a processor of
    this type made all recordings: identical answers are promised only there. `refused` is the reason why no
    question was asked.
    """

    use_case: str
    recorded: int
    asked: int
    identical: int
    elsewhere: int
    same_processor: bool
    seconds: float
    differences: tuple[AnswerDifference, ...] = ()
    refused: str = ""
    judged: int = 0

    def __str__(self) -> str:
        if self.refused:
            return f"{self.use_case}: no answer could be asked again: {self.refused}"
        summary = f"{self.use_case}: {self.identical} of {self.asked} answers asked again are identical"
        summary += f" ({self.recorded} recorded, {self.seconds:.0f} s)"
        if self.elsewhere:
            summary += f"; {self.elsewhere} of other endpoints only with LIVE=1"
        if self.differences and not self.same_processor:
            summary += "; they were recorded on another type of processor, where answers may differ"
        lines = [
            f"  {d.case}: {', '.join(d.differs)}: {d.recorded!r} -> {d.now!r}" for d in self.differences[:5]
        ]
        return "\n".join([summary, *lines])


def ask_again(
    root: Path, name: str, case: UseCase, *, sample: int | None = SAMPLE, record: bool = False
) -> Reasked:
    """Ask a seeded sample of the questions of both tapes, or all of them (`sample=None`), of the model again.

    The sample takes questions of the judge's tape first, and of these the ones that were never asked. No
    result depends on it. The report also goes to `.workbench/live/`, and the log of confirmed answers notes
    each question; the tapes change only with `record`.
    """
    tapes = [boundary.open_tape(root / path(name)) for path in (layout.judge_tape_of, layout.tape_of)]
    try:
        result = _sync.run(_ask_again(root, name, case, tapes, sample=sample, record=record))
    except WorkbenchError as error:
        recorded = len({entry.key for tape in tapes for entry in tape.entries()})
        result = Reasked(
            use_case=name, recorded=recorded, asked=0, identical=0, elsewhere=0, same_processor=True,
            seconds=0.0, refused=error.message,
        )  # fmt: skip
    files.write_atomic(root / LIVE / f"{name}.json", files.pretty(dataclasses.asdict(result)))
    return result


async def _ask_again(
    root: Path, name: str, case: UseCase, tapes: Sequence[Tape], *, sample: int | None, record: bool
) -> Reasked:
    card = boundary.card_of_use_case(root, case)
    live = Boundary(root, mode="live", tape=tapes[0], cards=[card])
    log = Confirmed(root / layout.CONFIRMED)
    began = time.monotonic()
    same: dict[str, bool] = {}
    async with aclosing(live):
        entries, judged = _distinct(tapes), frozenset(e.key for e in tapes[0].entries())
        # A question of which pseudonyms are left cannot be asked again.
        answered = [e for e in entries if "refused" not in e.result and not e.pseudonymised]
        here = [e for e in answered if sample is None or live.card(e.target).provider == "local"]
        chosen = here if sample is None else _sampled(_answers(here), judged, log, sample, case.seed)
        try:
            answers = await _all_asked(live, chosen, _contexts(root, name, case), case.concurrency, same=same)
        finally:
            _note(log, chosen, same)
    if record:
        fresh = _record(tapes, chosen, answers)
        log.note(answers_of(e for e in fresh if not same[e.key]), how="asked", at=SystemClock().now())
    pairs = [(entry, events) for entry, (events, _) in zip(chosen, answers, strict=True)]
    return Reasked(
        use_case=name,
        recorded=len(entries),
        asked=len(chosen),
        identical=sum(same.values()),
        elsewhere=len(answered) - len(here),
        same_processor=all(entry.processor == processor() for entry in chosen),
        seconds=round(time.monotonic() - began, 1),
        differences=tuple(filter(None, (_difference(entry, events) for entry, events in pairs))),
        judged=sum(entry.key in judged for entry in chosen),
    )


def _distinct(tapes: Sequence[Tape]) -> list[Entry]:
    """Return the entries of all tapes; of two with one key, the entry of the first tape."""
    found: dict[str, Entry] = {}
    for tape in tapes:
        for entry in tape.entries():
            found.setdefault(entry.key, entry)
    return list(found.values())


def _sampled(
    entries: Sequence[Entry], judged: frozenset[str], log: Confirmed, size: int, seed: int
) -> list[Entry]:
    """Return a seeded sample, in which judged answers come first: never asked, then unconfirmed, confirmed.

    Without keys of judged answers the sample is the same each time.
    """
    drawn = random.Random(seed)  # noqa: S311
    if not judged:
        return drawn.sample(entries, min(size, len(entries)))
    known = log.outcomes(answers_of(entries))
    ranks = {None: 0, False: 1, True: 2}
    order = drawn.sample(entries, len(entries))
    return sorted(order, key=lambda e: (ranks[known.get(e.key)], e.key not in judged))[:size]


def _note(log: Confirmed, asked: Sequence[Entry], same: Mapping[str, bool]) -> None:
    now = SystemClock().now()
    for outcome in (True, False):
        noted = answers_of(entry for entry in asked if same.get(entry.key) is outcome)
        log.note(noted, how="again", at=now, same=outcome)


def _record(
    tapes: Sequence[Tape], asked: Sequence[Entry], answers: Sequence[tuple[list[Event], float]]
) -> list[Entry]:
    """Rewrite each tape with the live answers to its own entries; return the new entries."""
    fresh = [_recorded(entry, *answer) for entry, answer in zip(asked, answers, strict=True)]
    lines = {entry.key: entry.line() for entry in fresh}
    for tape in tapes:
        if len(tape):
            write(tape.path, [lines.get(entry.key, tape.line(entry.key)) for entry in tape.entries()])
    return fresh


def _contexts(root: Path, name: str, case: UseCase) -> Mapping[str, Context]:
    """Return the context of each case, with the case's tenant; "" stands for a question without a case."""
    results = Results(use_case=name)
    prepared = root / results.prepared / "cases.parquet"
    cases = prepared_cases(root, case, results) if prepared.is_file() else ()
    base = Context(
        use_case=name,
        tenant=case.tenants[0],
        principal=identity.from_system(),
        purpose="verify",
        phase=case.phase,
    )
    return {"": base} | {case.id: dataclasses.replace(base, tenant=case.tenant) for case in cases}


async def _all_asked(
    live: Boundary,
    entries: Sequence[Entry],
    contexts: Mapping[str, Context],
    concurrency: int,
    *,
    same: dict[str, bool] | None = None,
) -> list[tuple[list[Event], float]]:
    """Return each question's live events and seconds, in order; show progress after two seconds.

    `same` receives, for each key as its answer arrives, whether the answer is the recorded one.
    """
    from tqdm.auto import tqdm

    free = asyncio.Semaphore(concurrency)
    with tqdm(total=len(entries), desc="asking again", unit="call", delay=2, leave=False) as bar:

        async def ask(entry: Entry) -> tuple[list[Event], float]:
            port, operation = entry.question.operation.split(".")
            card = live.card(entry.target)
            call = Call(
                port=port,  # type: ignore[arg-type]
                operation=operation,
                target=entry.target,
                payload=entry.question.request,
                context=contexts.get(entry.question.case, contexts[""]),
                identity=card.identity(),
            )
            async with free:
                began = time.monotonic()
                async with aclosing(live.handler(call)) as events:  # type: ignore[type-var]
                    answer = [event async for event in events]
            if same is not None:
                same[entry.key] = not compare_answers(entry, answer)
            bar.update(1)
            return answer, time.monotonic() - began

        return await _sync.gather(ask(entry) for entry in entries)


def _difference(entry: Entry, events: Sequence[Event]) -> AnswerDifference | None:
    from workbench import wire

    differs = compare_answers(entry, events)
    if not differs:
        return None

    def excerpt(answer: Sequence[Event]) -> str:
        speaks = wire.dialect(entry.question.operation)
        reply = speaks.fold(answer)
        return (speaks.text_of(reply) or str(wire.tokens_of(reply) or ""))[:120]

    return AnswerDifference(
        key=entry.key,
        case=entry.question.case,
        differs=tuple(differs),
        recorded=excerpt(entry.events()),
        now=excerpt(events),
    )


def _answers(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with an answer: a window also records many counts of tokens."""
    return [entry for entry in entries if entry.question.operation != "model.count"]


def _recorded(entry: Entry, events: Sequence[Event], seconds: float) -> Entry:
    """Return the new recording of an entry; an entry with the same answer keeps its recorded latency."""
    if not compare_answers(entry, events):
        return entry
    return dataclasses.replace(
        entry,
        result={"events": [event.data for event in events]},
        latency_s=round(seconds, 6),
        first_event_s=round(seconds, 6),
        processor=processor(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """The result of `workbench repro`: the verdict and the repeated questions of each use case.

    `governance` counts the calls that this repository recorded from its beginning to its end.
    """

    exit_code: int
    gates: Mapping[str, GateReport]
    asked: Mapping[str, Reasked]
    governance: Governance = field(default_factory=Governance)

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {
            "exit_code": self.exit_code,
            "gates": {name: gate.to_json() for name, gate in self.gates.items()},
            "asked_again": {name: dataclasses.asdict(asked) for name, asked in self.asked.items()},
            "governance": dataclasses.asdict(self.governance),
        }


def reproduce(
    root: Path, *, live: bool = False, record: bool = False, sample: int | None = None, quiet: bool = False
) -> Reproduced:
    """Run the pipeline, print each verdict and ask recorded questions again, as `workbench repro` does.

    `sample` is the number of questions of each use case, ten by default; `live` asks all of them.
    ConfigError for `record` without `live`, and for `sample` with it.
    """
    _check_options(live=live, record=record, sample=sample)
    began, params = SystemClock().now(), config.load_params(root)
    check_named(root, params)
    make_tapes(root, params)
    warn_of_environment(root)

    def say(text: str) -> None:
        if not quiet:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    install_promoted(root, say=say)
    code = run_pipeline(root, quiet=quiet)
    if code:
        say("\nThe pipeline stopped; the error is above. Answers so far are kept and are not asked again.")
        say("next: make repro")
        return Reproduced(exit_code=code, gates={}, asked={})
    gates = {}
    for name, case in params.use_cases.items():
        gates[name] = judged(root, judged_run(root, name, case))
        say(f"\n{gates[name]}\npage: {case.report}.html")
    asked = {}
    if sample != 0:
        say("")
        number = None if live else SAMPLE if sample is None else sample
        for name, case in params.use_cases.items():
            asked[name] = ask_again(root, name, case, sample=number, record=record)
            say(f"{asked[name]}\n      report: {LIVE / name}.json")
    done = governance_of(root / layout.CALLS, Chosen(since=began))
    say(f"{done}")
    return Reproduced(
        exit_code=max((gate.exit_code for gate in gates.values()), default=0),
        gates=gates, asked=asked, governance=done,
    )  # fmt: skip


def _check_options(*, live: bool, record: bool, sample: int | None) -> None:
    if record and not live:
        raise ConfigError(
            "RECORD=1 needs LIVE=1, whose answers it records", hint="make repro LIVE=1 RECORD=1"
        )
    if live and sample is not None:
        raise ConfigError(
            f"LIVE=1 asks every recorded question again, ASK={sample} a sample", hint="make repro LIVE=1"
        )
