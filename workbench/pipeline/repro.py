"""`workbench repro`: run the pipeline, say the verdict, then show that the recorded answers are real."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import _sync, config, files, identity, layout, registry
from workbench.config import UseCase
from workbench.context import Context
from workbench.errors import ConfigError, NotFoundError, UnavailableError, WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.experiments.gates import GateReport
from workbench.jobs import overview
from workbench.layout import LIVE, PROMOTED, Results
from workbench.pipeline.explore import judged
from workbench.pipeline.stages import EXIT_VARIABLE, candidate_of
from workbench.ports import Call
from workbench.records.keys import Entry, processor
from workbench.records.tape import Tape, compare_answers, write
from workbench.repository import dvc as pipeline
from workbench.types import Event
from workbench.workspace import boundary
from workbench.workspace.boundary import Boundary

#: How many recorded answers are asked again after every reproduction.
SAMPLE = 10


def check_named(root: Path, params: config.Params) -> None:
    """NotFoundError for what params.yaml names and is not there: DVC would say so without the way on."""
    for name, case in params.use_cases.items():
        for kind, pin in (("prompt", case.prompt), ("memory", case.memory)):
            registry.resolve(root, kind, str(pin))
        for path in (case.notebook, case.data):
            if not (root / path).exists():
                raise NotFoundError(
                    f"params.yaml: use_cases.{name} names {path}, and there is no such path",
                    hint=f"git checkout -- {path}, or name another one in params.yaml",
                )


def make_tapes(root: Path, params: config.Params) -> None:
    """An empty tape where a use case has none, because a missing dependency is an error of DVC's."""
    for name in params.use_cases:
        path = root / layout.tape_of(name)
        if not path.exists():
            files.write_atomic(path, b"")


def install_promoted(root: Path, *, say: Callable[[str], None]) -> None:
    """Install the environments that promoted versions lack here; their stages say so if that fails.

    A version's sample runs in the environment of its own lock, and a newer lock has another one.
    """
    raw = files.read_yaml(root / PROMOTED)
    for one in (raw.get("promoted") or {}).values():
        reference = f"{one['name']}@{one['version']}"
        try:
            overview.install_environment(root, reference, say=say)
        except UnavailableError as error:
            say(f"{reference}: {error}")


def run_pipeline(root: Path, *, quiet: bool = False) -> int:
    """`dvc repro` with this environment first on the path; DVC speaks for itself.

    The exit code is that of the stage that failed: 2 for bad input, 3 for a fault, 130 after an interrupt.
    """
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        noted = Path(folder) / "stage-exit"
        told = {EXIT_VARIABLE: str(noted)}
        output = sys.stderr.fileno() if quiet else None
        code, interrupted = pipeline.repro(root, stdout=output, variables=told)
        stage = noted.read_text(encoding="ascii") if noted.is_file() else None
    return _exit_code(code, stage, interrupted=interrupted)


def _exit_code(dvc: int, stage: str | None, *, interrupted: bool) -> int:
    """What DVC's exit code means, by what its last stage noted (nothing when none began)."""
    if dvc == 0:
        return 0
    if interrupted:
        return 130
    if stage is None:
        return ConfigError.exit_code  # DVC refused dvc.yaml, dvc.lock or a dependency
    return int(stage) if stage not in {"", "0"} else WorkbenchError.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One answer that came back otherwise: `differs` names text, usage or finish reason."""

    key: str
    case: str
    differs: tuple[str, ...]
    recorded: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What asking a tape's questions again gave.

    `elsewhere` counts recordings of endpoints that cost money, asked only with LIVE=1;
    `same_processor` says whether all recordings were made on a processor of this type, because
    identical answers are promised only there. `refused` is why nothing could be asked.
    """

    use_case: str
    recorded: int
    asked: int
    identical: int
    elsewhere: int
    same_processor: bool
    seconds: float
    differences: tuple[Difference, ...] = ()
    refused: str = ""

    def __str__(self) -> str:
        if self.refused:
            return f"{self.use_case}: no answer could be asked again: {self.refused}"
        said = f"{self.use_case}: {self.identical} of {self.asked} answers asked again are identical"
        said += f" ({self.recorded} recorded, {self.seconds:.0f} s)"
        if self.elsewhere:
            said += f"; {self.elsewhere} of other endpoints only with LIVE=1"
        if self.differences and not self.same_processor:
            said += "; they were recorded on another type of processor, where answers may differ"
        lines = [
            f"  {d.case}: {', '.join(d.differs)}: {d.recorded!r} -> {d.now!r}" for d in self.differences[:5]
        ]
        return "\n".join([said, *lines])


def ask_again(
    root: Path, name: str, case: UseCase, *, sample: int | None = SAMPLE, record: bool = False
) -> Asked:
    """Ask a seeded sample of a tape's questions, or all of them (None), of the model again.

    Nothing reproduced depends on it. Touches no tape unless told to `record`. The report is also
    written to `.workbench/live/`.
    """
    tape = boundary.open_tape(root / layout.tape_of(name))
    try:
        asked = _sync.run(_ask_again(root, name, case, tape, sample=sample, record=record))
    except WorkbenchError as error:
        asked = Asked(
            use_case=name, recorded=len(tape), asked=0, identical=0, elsewhere=0, same_processor=True,
            seconds=0.0, refused=error.message,
        )  # fmt: skip
    files.write_atomic(root / LIVE / f"{name}.json", files.pretty(dataclasses.asdict(asked)))
    return asked


async def _ask_again(
    root: Path, name: str, case: UseCase, tape: Tape, *, sample: int | None, record: bool
) -> Asked:
    overrides = {"provider": case.provider, "base_url": case.base_url, "api_key": case.api_key_env}
    card = boundary.chosen_card(root, case.model, overrides)
    made = Boundary(root, mode="live", tape=tape, cards=[card])
    entries = list(tape.entries())
    answered = [e for e in entries if "refused" not in e.result]
    here = [e for e in answered if sample is None or made.card(e.target).provider == "local"]
    telling = here if sample is None else _answers(here)
    most = len(telling) if sample is None else min(sample, len(telling))
    chosen = random.Random(case.seed).sample(telling, most)  # noqa: S311
    began = time.monotonic()
    try:
        answers = await _all_asked(made, chosen, _contexts(root, name, case), case.concurrency)
    finally:
        await made.aclose()
    differences = tuple(
        d for entry, (events, _) in zip(chosen, answers, strict=True) if (d := _difference(entry, events))
    )
    if record:
        fresh = {e.key: _recorded(e, *answer).line() for e, answer in zip(chosen, answers, strict=True)}
        write(tape.path, [fresh.get(e.key, tape.line(e.key)) for e in entries])
    return Asked(
        use_case=name,
        recorded=len(entries),
        asked=len(chosen),
        identical=len(chosen) - len(differences),
        elsewhere=len(answered) - len(here),
        same_processor=all(entry.processor == processor() for entry in chosen),
        seconds=round(time.monotonic() - began, 1),
        differences=differences,
    )


def _contexts(root: Path, name: str, case: UseCase) -> Mapping[str, Context]:
    """In whose name each case is asked again: its own tenant's."""
    prepared = root / Results(use_case=name).prepared / "cases.parquet"
    tenants = {one.id: one.tenant for one in Dataset.from_file(prepared)} if prepared.is_file() else {}
    base = Context(
        use_case=name,
        tenant=case.tenants[0],
        principal=identity.from_system(),
        purpose="verify",
        phase=case.phase,
    )
    contexts = {one: dataclasses.replace(base, tenant=tenant) for one, tenant in tenants.items()}
    return {"": base, **contexts}


async def _all_asked(
    made: Boundary, entries: Sequence[Entry], contexts: Mapping[str, Context], concurrency: int
) -> list[tuple[list[Event], float]]:
    """Each question's live events and seconds, in order, with a bar when it takes long."""
    from tqdm.auto import tqdm

    free = asyncio.Semaphore(concurrency)
    with tqdm(total=len(entries), desc="asking again", unit="call", delay=2, leave=False) as bar:

        async def ask(entry: Entry) -> tuple[list[Event], float]:
            port, operation = entry.question.operation.split(".")
            card = made.card(entry.target)
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
                async with aclosing(made.handler(call)) as events:  # type: ignore[type-var]
                    answer = [event async for event in events]
            bar.update(1)
            return answer, time.monotonic() - began

        return await _sync.gather(ask(entry) for entry in entries)


def _difference(entry: Entry, events: Sequence[Event]) -> Difference | None:
    from workbench import wire

    differs = compare_answers(entry, events)
    if not differs:
        return None

    def said(answer: Sequence[Event]) -> str:
        whole = wire.fold(answer)
        return (wire.text_of(whole) or str(wire.tokens_of(whole) or ""))[:120]

    return Difference(
        key=entry.key,
        case=entry.question.case,
        differs=tuple(differs),
        recorded=said(entry.events()),
        now=said(events),
    )


def _answers(entries: Sequence[Entry]) -> list[Entry]:
    """Those that a sample is drawn from: a window makes many counts, which say nothing of answers."""
    return [entry for entry in entries if entry.question.operation != "model.count"]


def _recorded(entry: Entry, events: Sequence[Event], seconds: float) -> Entry:
    """The recording as asked again. One that came back the same stays as it is, latency too."""
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
    """What `workbench repro` ends with: verdicts by use case, what was asked again, the exit code."""

    exit_code: int
    gates: Mapping[str, GateReport]
    asked: Mapping[str, Asked]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "exit_code": self.exit_code,
            "gates": {name: gate.to_json() for name, gate in self.gates.items()},
            "asked_again": {name: dataclasses.asdict(asked) for name, asked in self.asked.items()},
        }


def reproduce(root: Path, *, live: bool = False, record: bool = False, quiet: bool = False) -> Reproduced:
    """Run the pipeline, say each verdict, and ask recorded questions again; see `workbench repro --help`."""
    if record and not live:
        raise ConfigError("RECORD=1 records what LIVE=1 asks", hint="make repro LIVE=1 RECORD=1")
    params = config.load_params(root)
    check_named(root, params)
    make_tapes(root, params)
    say = _silent if quiet else _printed
    install_promoted(root, say=say)
    code = run_pipeline(root, quiet=quiet)
    if code:
        say("\nThe pipeline stopped; what is above says where. What was answered so far is not asked again.")
        say("next: make repro")
        return Reproduced(exit_code=code, gates={}, asked={})
    gates = {}
    for name, case in params.use_cases.items():
        gates[name] = judged(root, candidate_of(root, name, case))
        say(f"\n{gates[name]}\npage: {case.report}.html")
    say("")
    asked = {}
    for name, case in params.use_cases.items():
        asked[name] = ask_again(root, name, case, sample=None if live else SAMPLE, record=record)
        say(f"{asked[name]}\n      report: {LIVE / name}.json")
    return Reproduced(
        exit_code=max((gate.exit_code for gate in gates.values()), default=0), gates=gates, asked=asked
    )


def _printed(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _silent(text: str) -> None:
    del text
