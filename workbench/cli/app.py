"""The command line: `workbench …`, thin over the same verbs as the notebooks."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from workbench import config, files, processes
from workbench.cli.assess import approve, assess
from workbench.cli.audit import audit
from workbench.cli.budget import budget
from workbench.cli.calls import calls
from workbench.cli.content import content
from workbench.cli.data import data
from workbench.cli.doctor import doctor
from workbench.cli.evidence import evidence
from workbench.cli.gateway import gateway
from workbench.cli.impact import impact
from workbench.cli.init import init
from workbench.cli.jobs import jobs
from workbench.cli.keys import keys
from workbench.cli.memory import memory
from workbench.cli.moderation import moderation
from workbench.cli.new import new
from workbench.cli.output import Json, check_out, masked, say, show
from workbench.cli.release import promote, rollback
from workbench.cli.status import status
from workbench.errors import ConfigError, WorkbenchError


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(package_name="workbench")
def cli() -> None:
    """Take generative-AI work from a notebook to a governed, reproducible, scheduled job.

    Explore in notebooks (make lab), reproduce the pipeline (workbench repro), read the verdict on the
    run of its stage judge (workbench gate). Run inside the repository; every command works on its
    params.yaml.

    Exit codes: 0 done, 1 a gate or check said no, 2 usage or bad input, 3 a fault, 4 undecided.
    """


@cli.command()
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter of the notebook; repeatable.",
)
@click.option(
    "--use-case",
    metavar="NAME",
    help="Apply the settings of this use case [default: the one that names NOTEBOOK].",
)
@click.option(
    "--tape", type=click.Path(path_type=Path), help="Write the recordings that the run used to this tape."
)
@Json()
def run(
    notebook: Path, parameters: tuple[str, ...], use_case: str | None, tape: Path | None, as_json: bool
) -> None:
    """Run NOTEBOOK from top to bottom in a fresh kernel and show its measurements.

    Answers come from the tapes, then the cache, then the model. The runs are explored: they can be
    compared, and cannot pass a gate. Example:

        workbench run notebooks/answers.ipynb -p corpus=python-reference
    """
    from workbench.pipeline.explore import explore

    if tape is not None:
        check_out(tape, again=f"workbench run {notebook} --tape tape.jsonl", option="--tape")
    result = explore(
        config.find_root(), notebook, given=_pairs(parameters), use_case=use_case, tape=tape, show=not as_json
    )
    show(result, as_json=as_json)


@cli.command()
@click.argument("run", metavar="RUN")
@click.argument("baseline", metavar="BASELINE")
@click.option("--metric", help="Compare this metric only.")
@click.option(
    "--margin",
    type=float,
    default=0.0,
    show_default=True,
    help="The accepted loss (a non-inferiority margin).",
)
@Json()
def compare(run: str, baseline: str, metric: str | None, margin: float, as_json: bool) -> None:
    """Compare RUN with BASELINE case by case: effect, interval, flips, verdict.

    A run is USE_CASE/ARM or an id; answers/candidate is the run of the stage judge, and the arms of the
    notebook are explored. Example: workbench compare answers/candidate answers/few_shot
    """
    from workbench.pipeline.explore import compared, find

    if not 0 <= margin < math.inf:
        again = f"workbench compare {run} {baseline} --margin 0.05"
        raise ConfigError(f"--margin {margin} is not a number from 0", hint=again)
    root = config.find_root()
    found = compared(root, find(root, run), find(root, baseline), metric=metric, margin=margin)
    show(found, as_json=as_json)


@cli.command()
@click.argument("run", metavar="RUN")
@click.option("--phase", help="Judge by this column of gates [default: the use case's phase].")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the verdict to this file and exit with 0."
)
@Json()
def gate(run: str, phase: str | None, out: Path | None, as_json: bool) -> None:
    """Judge RUN by its gate, each line on its interval; exit 0 pass, 1 fail, 4 undecided.

    RUN is USE_CASE/ARM or an id. USE_CASE/candidate is the run of the stage judge of dvc repro. An
    explored run, which a notebook made, is undecided at best. Example: workbench gate answers/candidate
    """
    from workbench.pipeline.explore import find, judged

    if out is not None:
        check_out(out, again=f"workbench gate {run} --out gate.json")
    root = config.find_root()
    report = judged(root, find(root, run), phase=phase)
    show(report, as_json=as_json)
    if out is not None:
        files.write_atomic(out, files.pretty(report.to_json()))
        return
    sys.exit(report.exit_code)


@cli.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option(
    "--reason", default="", help="The reason for the version; a prompt may state it in its own file."
)
@Json()
def save(reference: str, reason: str, as_json: bool) -> None:
    """Save a draft file as the next version of a prompt, memory, model or generator. It never changes.

    The draft of prompt/reply is pipelines/prompts/reply/1.prompty, or 2.prompty after a version 1.
    It is read as strictly as a run reads it. Example:

        workbench save memory/notes --reason "the notes of this spring"
    """
    from workbench.workspace.save import save as saved

    made = saved(config.find_root(), reference, reason=reason)
    facts = {"kind": made.kind, "name": made.name, "version": made.number, "digest": made.digest}
    text = f"saved {made.kind}/{made}\nnext: name version {made.number} in params.yaml, then: workbench check"
    say(facts, text, as_json=as_json)


@cli.command()
@Json()
def check(as_json: bool) -> None:
    """Check every declarative file: schema, references, digests, data, gates that can never pass.

    The check runs nothing and asks no model. It exits with 1 when anything is wrong.
    """
    from workbench.diagnostics.check import check_all

    found = check_all(config.find_root())
    show(found, as_json=as_json)
    sys.exit(0 if found.passed else 1)


@cli.command()
@click.argument("use_case", required=False)
@Json()
def report(use_case: str | None, as_json: bool) -> None:
    """Write the readiness page of USE_CASE, or of all use cases, from the pipeline's results.

    It also says in which commit, of which day, each page last changed; the page itself holds neither.
    """
    from workbench.pipeline.report import committed
    from workbench.pipeline.stages import report as write

    root = config.find_root()
    params = config.load_params(root)
    chosen = [use_case] if use_case else list(params.use_cases)
    written = {name: [str(path) for path in write(root, name)] for name in chosen}
    lines = [f"{html}\n{text}\n  {committed(root, text)}" for html, text in written.values()]
    say(written, "\n".join(lines), as_json=as_json)


@cli.command()
@click.option(
    "--live", is_flag=True, envvar="LIVE", help="Ask every recorded question again afterwards, not ten."
)
@click.option("--record", is_flag=True, envvar="RECORD", help="Record the answers that differ on the tapes.")
@click.option(
    "--ask",
    type=click.IntRange(min=0),
    metavar="N",
    help="Ask N recorded questions of each use case again, not ten; 0 asks none.",
)
@click.option(
    "--memory",
    type=click.Choice(["weaviate"]),
    help="Run the same steps with the memory on a server, outside DVC.",
)
@Json()
def repro(live: bool, record: bool, ask: int | None, memory: str | None, as_json: bool) -> None:
    """Run the pipeline, print the verdict, then ask ten recorded questions again.

    Exit by the gates: 0 pass, 1 fail, 4 undecided. Missing tapes are created first. Answers that differ
    are reported here and under .workbench/live, and change no result. With --memory weaviate all output
    goes into .workbench/weaviate/, and the questions whose hits differ from the pipeline's are listed.
    """
    from workbench.pipeline.repro import reproduce

    if memory is not None:
        _repro_on_server(asks=live or record or bool(ask), as_json=as_json)
    done = reproduce(config.find_root(), live=live, record=record, sample=ask, quiet=as_json)
    if as_json:
        show(done, as_json=True)
    sys.exit(done.exit_code)


def _repro_on_server(*, asks: bool, as_json: bool) -> NoReturn:
    from workbench.pipeline.store_parity import reproduce_on_server

    if asks:
        raise ConfigError(
            "--live, --record and --ask need the pipeline's own memory, without --memory",
            hint="make repro LIVE=1",
        )
    found = reproduce_on_server(config.find_root(), quiet=as_json)
    say([parity.to_json() for parity in found], "\n\n".join(map(str, found)), as_json=as_json)
    sys.exit(max((parity.gate.exit_code for parity in found), default=0))


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"-p {text!r} is not NAME=VALUE", hint="for example -p corpus=python-reference")
        pairs[name] = value
    return pairs


def _checked(arguments: list[str]) -> list[str]:
    """Return the arguments; ConfigError for one that is not UTF-8, or empty, as an unset variable is."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option = before if before.startswith("-") else "an argument"
        empty = not argument or (argument.startswith("--") and argument.endswith("="))
        if empty and "--reason" not in {before, argument.removesuffix("=")}:
            raise ConfigError(f"{argument or option} is empty", hint="workbench --help")
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{option} is not UTF-8 text: {argument!r}", hint="workbench --help") from None
    return arguments


def _explained(function: Callable[[], Any]) -> int:
    """Run a command and return its exit code; print an error of ours without a traceback."""
    try:
        function()
    except WorkbenchError as error:
        click.echo(f"error: {masked(str(error))}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; the answers so far are kept and not asked again", err=True)
        return 130
    return 0


for _command in (
    audit, budget, content, data, memory, doctor, new, init, promote, rollback, jobs, calls, moderation,
    assess, approve, gateway, keys, evidence, impact, status,
):  # fmt: skip
    cli.add_command(_command)


def main() -> None:
    """Run the console script."""
    processes.collect_rarely()
    sys.exit(_explained(lambda: cli(_checked(sys.argv[1:]), standalone_mode=False)))


if __name__ == "__main__":
    main()
