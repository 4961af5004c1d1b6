"""`workbench jobs report|status|purge`: what runs did, and how long their files are kept."""

from __future__ import annotations

from pathlib import Path

import click

from workbench import config
from workbench.cli.output import Json, check_out, say, show


@click.command()
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Write this file [default: reports/jobs.html].")
@Json()
def report(job: str | None, out: Path | None, as_json: bool) -> None:
    """Write the page on all jobs, or on JOB.

    It has the objective, versions, runs, checks, drift, cost and changes of each job, and needs no
    script and no network. Git does not track it, because it shows one machine at one moment.
    """
    from workbench.pipeline.jobs_page import write_jobs_page

    if out is not None:
        check_out(out, again="workbench jobs report --out jobs.html")
    path = write_jobs_page(config.find_root(), job, path=out)
    say({"page": path}, path, as_json=as_json)


@click.command()
@click.argument("job", metavar="[JOB]", required=False)
@Json()
def status(job: str | None, as_json: bool) -> None:
    """Compare jobs with their objectives.

    The card shows good slots, error budget left, time and cost of each job, or of JOB. The objective is
    that of pipelines/operations.yaml. A verdict is judged on the interval of the share.
    """
    from workbench.jobs.status import status_card

    show(status_card(config.find_root(), job), as_json=as_json)


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would be removed; remove nothing.")
@Json()
def purge(*, dry_run: bool, as_json: bool) -> None:
    """Remove old files and lines of runs.

    These are executed notebooks, held rows, outputs of shadows, logs of memory writes and lines of the
    history. `retention` in pipelines/operations.yaml states the days of each. Runs that have not ended, the
    newest run of each job and tenant, and published outputs keep what they have.
    """
    from workbench.jobs.retention import purge_runs

    show(purge_runs(config.find_root(), dry_run=dry_run), as_json=as_json)
