"""The command line: `workbench …`, thin over the same verbs as the notebooks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from workbench import config, files
from workbench.cli.doctor import doctor
from workbench.cli.memory import memory
from workbench.errors import ConfigError, WorkbenchError

Json = functools.partial(click.option, "--json", "as_json", is_flag=True, help="Write the result as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(package_name="workbench")
def cli() -> None:
    """Take generative-AI work from a notebook to a governed, reproducible, scheduled job.

    Explore in notebooks (make lab), reproduce the pipeline (workbench repro), read the verdict
    (workbench gate). Run inside the repository; every command works on its params.yaml.

    Exit codes: 0 done, 1 a gate or check said no, 2 usage or bad input, 3 a fault, 4 undecided.
    """


cli.add_command(memory)
cli.add_command(doctor)


@cli.command()
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option(
    "-p", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the notebook; repeatable."
)
@click.option(
    "--use-case", metavar="NAME", help="Whose settings apply; without it, the one that names this notebook."
)
@click.option(
    "--tape", type=click.Path(path_type=Path), help="Write what was used to this tape, as a stage does."
)
@Json()
def run(
    notebook: Path, parameters: tuple[str, ...], use_case: str | None, tape: Path | None, as_json: bool
) -> None:
    """Run NOTEBOOK top to bottom in a fresh kernel and show what its experiment measured.

    Answers come from the tape, then the cache, then the model. Example:

        workbench run notebooks/answers.ipynb -p corpus=python-reference
    """
    from workbench.pipeline.explore import explore

    result = explore(
        config.find_root(), notebook, given=_pairs(parameters), use_case=use_case, tape=tape, show=not as_json
    )
    _say(result.to_json() if as_json else str(result), as_json=as_json)


@cli.command()
@click.argument("run", metavar="RUN")
@click.argument("baseline", metavar="BASELINE")
@click.option("--metric", help="Judge this metric alone.")
@click.option(
    "--margin", type=float, default=0.0, show_default=True, help="How much worse is still not worse."
)
@Json()
def compare(run: str, baseline: str, metric: str | None, margin: float, as_json: bool) -> None:
    """Compare RUN with BASELINE case by case: effect, interval, flips, verdict.

    A run is USE_CASE/ARM or an id, as in: workbench compare answers/candidate answers/zero_shot
    """
    from workbench.experiments.compare import compare as compared
    from workbench.pipeline.explore import find

    root = config.find_root()
    found = compared(find(root, run), find(root, baseline), metric=metric, margin=margin)
    _say(found.to_json() if as_json else str(found), as_json=as_json)


@cli.command()
@click.argument("run", metavar="RUN")
@click.option("--phase", help="Another column of gates than the use case's own.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the verdict to this file, and exit with 0."
)
@Json()
def gate(run: str, phase: str | None, out: Path | None, as_json: bool) -> None:
    """Judge RUN by its gate, each line on its interval; exit 0 pass, 1 fail, 4 undecided.

    RUN is USE_CASE/ARM or an id, as in: workbench gate answers/candidate
    """
    from workbench.pipeline.explore import find, judged

    root = config.find_root()
    report = judged(root, find(root, run), phase=phase)
    _say(report.to_json() if as_json else str(report), as_json=as_json)
    if out is not None:
        files.write_atomic(out, files.pretty(report.to_json()))
        return
    sys.exit(report.exit_code)


@cli.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--reason", default="", help="Why it is better; a prompt may say it in its own file.")
@Json()
def save(reference: str, reason: str, as_json: bool) -> None:
    """Make the file you wrote the next version of a prompt, memory or model; it never changes again.

    For prompt/reply that is pipelines/prompts/reply/1.prompty, or 2.prompty when there is a version 1.
    It is read as strictly as when it is used. Example:

        workbench save memory/notes --reason "the notes of this spring"
    """
    from workbench.workspace.save import save as saved

    made = saved(config.find_root(), reference, reason=reason)
    facts = {"kind": made.kind, "name": made.name, "version": made.number, "digest": made.digest}
    told = f"saved {made.kind}/{made}\nnext: name version {made.number} in params.yaml, then: workbench check"
    _say(facts if as_json else told, as_json=as_json)


@cli.command()
@Json()
def check(as_json: bool) -> None:
    """Check every declarative file: schema, references, digests, data, gates that can never pass.

    Nothing is run and no model is asked. Exit 1 when anything is wrong.
    """
    from workbench.diagnostics.check import check_all

    found = check_all(config.find_root())
    _say(found.to_json() if as_json else str(found), as_json=as_json)
    sys.exit(0 if found.passed else 1)


@cli.command()
@click.argument("use_case", required=False)
@Json()
def report(use_case: str | None, as_json: bool) -> None:
    """Write the readiness page of USE_CASE (without it, of all) from the pipeline's results."""
    from workbench.pipeline.stages import report as write

    root = config.find_root()
    params = config.load_params(root)
    chosen = [use_case] if use_case else list(params.use_cases)
    written = {name: [str(path) for path in write(root, name)] for name in chosen}
    _say(written if as_json else "\n".join(p for paths in written.values() for p in paths), as_json=as_json)


@cli.command()
@click.option(
    "--live", is_flag=True, envvar="LIVE", help="Afterwards ask every recorded question again, not ten."
)
@click.option("--record", is_flag=True, envvar="RECORD", help="Put what came back otherwise on the tape.")
@click.option(
    "--memory",
    type=click.Choice(["weaviate"]),
    help="The same steps with the memory on a server, outside DVC.",
)
@Json()
def repro(live: bool, record: bool, memory: str | None, as_json: bool) -> None:
    """Run the pipeline, print the verdict, then ask ten recorded questions again.

    Exit by the gates: 0 pass, 1 fail, 4 undecided. What the model answers differently is reported
    here and under .workbench/live, and changes no result. With --memory weaviate everything goes
    into .workbench/weaviate/, and the questions whose hits differ from the pipeline's are listed.
    """
    from workbench.pipeline.repro import reproduce

    if memory is not None:
        _repro_on_server(live=live or record, as_json=as_json)
    done = reproduce(config.find_root(), live=live, record=record, quiet=as_json)
    if as_json:
        _say(done.to_json(), as_json=True)
    sys.exit(done.exit_code)


def _repro_on_server(*, live: bool, as_json: bool) -> NoReturn:
    from workbench.pipeline.store_parity import exit_code, reproduce_on_server

    if live:
        raise ConfigError("--live asks what the pipeline recorded", hint="make repro LIVE=1")
    found = reproduce_on_server(config.find_root(), quiet=as_json)
    _say([one.to_json() for one in found] if as_json else "\n\n".join(map(str, found)), as_json=as_json)
    sys.exit(exit_code(found))


@cli.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--to", "label", default="production", show_default=True, help="candidate or production.")
@click.option("--reason", default="", help="Why; kept with the version and the move.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be frozen, changed and is missing; write nothing."
)
@click.option("--commit", is_flag=True, help="Commit what was staged.")
@Json()
def promote(reference: str, label: str, reason: str, dry_run: bool, commit: bool, as_json: bool) -> None:
    """Freeze a job's notebook as its next version and put it into production.

    KIND/NAME is job/answers, or a version that exists: job/answers@2, prompt/answer@3, model/NAME@1,
    memory/NAME@2. What is written is staged in git; the command that commits it is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import promote as promoted

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit, show=not as_json)
    card = promoted(config.find_root(), reference, order)
    _say(card.to_json() if as_json else str(card), as_json=as_json)
    sys.exit(1 if card.missing else 0)


@cli.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--to", type=int, metavar="VERSION", help="Which version; without it, the one before.")
@click.option("--label", default="production", show_default=True, help="candidate or production.")
@click.option("--reason", default="", help="Why; kept with the move.")
@click.option("--dry-run", is_flag=True, help="Say what would change; write nothing.")
@click.option("--commit", is_flag=True, help="Commit the move, and nothing else of the tree.")
@Json()
def rollback(
    reference: str, to: int | None, label: str, reason: str, dry_run: bool, commit: bool, as_json: bool
) -> None:
    """Give the label back to the version before, with its code, prompt, model and memory.

    Works on a dirty tree. Takes effect with the commit, whose command is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import rollback as rolled_back

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit)
    card = rolled_back(config.find_root(), reference, order, to=to)
    _say(card.to_json() if as_json else str(card), as_json=as_json)


@cli.group()
def jobs() -> None:
    """Run promoted jobs on today's input, and see what ran."""


@jobs.command("run")
@click.argument("job", metavar="JOB")
@click.option(
    "--input", "source", metavar="FILE", help="Its rows, .parquet or .jsonl; without it, the job's own."
)
@click.option(
    "--at", metavar="TIME", help="The logical time: a day, or 2026-11-24T06:00Z; without it, the last due."
)
@click.option("--tenant", metavar="NAME", help="Only this tenant's rows, as a slot of its own.")
@click.option("--replace", is_flag=True, help="Publish in the place of what the slot has.")
@Json()
def run_job(
    job: str, source: str | None, at: str | None, tenant: str | None, replace: bool, as_json: bool
) -> None:
    """Run JOB on an input and publish its output once, whole.

    JOB is a name (the version in production) or NAME@VERSION. Broken rows are set aside with their
    reasons; too many hold the output back (exit 1). The same input again changes nothing. Example:

        workbench jobs run answers --input data/inbox/2026-11-24.parquet
    """
    from workbench.jobs.run import run as run_it
    from workbench.jobs.slots import RunRequest

    task = RunRequest(reference=job, input=source, at=at, tenant=tenant, replace=replace, show=not as_json)
    done = run_it(config.find_root(), task)
    _say(done.to_json() if as_json else str(done), as_json=as_json)
    sys.exit(done.exit_code)


@jobs.command("list")
@Json()
def list_jobs(as_json: bool) -> None:
    """Every job: its versions and labels, when it is due next, and how it ended last."""
    from workbench.jobs.overview import overview

    found = overview(config.find_root())
    _say(found.to_json() if as_json else str(found), as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option("--limit", type=int, default=20, show_default=True, help="How many, newest first.")
@Json()
def history(job: str, limit: int, as_json: bool) -> None:
    """What ran of JOB: when, which version, how it ended, rows, cost, output."""
    from workbench.jobs.overview import history_of

    found = history_of(config.find_root(), job, limit=limit)
    _say(found.to_json() if as_json else str(found), as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option("--to", "target", type=click.Choice(["cron", "systemd"]), required=True, help="For what.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the files into this folder.")
@Json()
def export(job: str, target: str, out: Path | None, as_json: bool) -> None:
    """Write JOB's schedule as plain files that call `workbench jobs run`.

    The next five fire times are printed with it. Nothing is installed: each file says how.
    """
    from workbench.jobs.overview import exported

    found = exported(config.find_root(), job, target=target)
    if out is not None:
        for name, text in found.items():
            files.write_atomic(out / name, text.encode())
    shown = found if as_json else "\n".join(found.values() if out is None else (str(out / n) for n in found))
    _say(shown, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@Json()
def install(job: str, as_json: bool) -> None:
    """Install the environment of JOB's own lock, for a version whose lock is not today's."""
    from workbench.jobs.overview import install_environment

    python = install_environment(config.find_root(), job, say=lambda text: click.echo(text, err=True))
    _say({"python": str(python)} if as_json else str(python), as_json=as_json)


@jobs.command()
@click.option("--dry-run", is_flag=True, help="Only list them, with their sizes.")
@Json()
def prune(dry_run: bool, as_json: bool) -> None:
    """Remove the installed environments that no labelled version needs; each takes about 1 GB.

    One in which a process runs stays. `workbench jobs install` installs a removed one again.
    """
    from workbench.jobs.overview import prune as pruned

    found = pruned(config.find_root(), dry_run=dry_run)
    _say(found.to_json() if as_json else str(found), as_json=as_json)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"-p {text!r} is not NAME=VALUE", hint="for example -p corpus=python-reference")
        pairs[name] = value
    return pairs


def _say(result: Any, *, as_json: bool) -> None:
    click.echo(files.pretty(result).decode() if as_json else result, nl=not as_json)


def _explained(function: Callable[[], Any]) -> int:
    """The exit code of a command; our errors are told in words, without a traceback."""
    try:
        function()
    except WorkbenchError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; answers so far are kept and not asked again", err=True)
        return 130
    return 0


def main() -> None:
    """The console script."""
    sys.exit(_explained(lambda: cli(standalone_mode=False)))


if __name__ == "__main__":
    main()
