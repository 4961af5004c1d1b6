"""The command line: `workbench …`, thin over the same verbs as the notebooks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workbench import config, files
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
    from workbench.running import explore

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
    from workbench.running import find

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
    from workbench.running import find, judged

    root = config.find_root()
    report = judged(root, find(root, run), phase=phase)
    _say(report.to_json() if as_json else str(report), as_json=as_json)
    if out is not None:
        files.write_atomic(out, files.pretty(report.to_json()))
        return
    sys.exit(report.exit_code)


@cli.command()
@Json()
def check(as_json: bool) -> None:
    """Check every declarative file: schema, references, digests, data, gates that can never pass.

    Nothing is run and no model is asked. Exit 1 when anything is wrong.
    """
    from workbench.checks import check_all

    found = check_all(config.find_root())
    _say(found.to_json() if as_json else str(found), as_json=as_json)
    sys.exit(0 if found.passed else 1)


@cli.command()
@click.argument("use_case", required=False)
@Json()
def report(use_case: str | None, as_json: bool) -> None:
    """Write the readiness page of USE_CASE (without it, of all) from the pipeline's results."""
    from workbench.stages import report as write

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
@Json()
def repro(live: bool, record: bool, as_json: bool) -> None:
    """Run the pipeline, print the verdict, then ask ten recorded questions again.

    Exit by the gates: 0 pass, 1 fail, 4 undecided. What the model answers differently is reported
    here and under .workbench/live, and changes no result.
    """
    from workbench.reproduction import reproduce

    done = reproduce(config.find_root(), live=live, record=record, quiet=as_json)
    if as_json:
        _say(done.to_json(), as_json=True)
    sys.exit(done.exit_code)


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
