"""`workbench evidence …`: build, show, verify and export signed statements; the keys that sign them."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from pathlib import Path

import click

from workbench import config
from workbench.cli.output import Json, check_names, say, show

_DAYS = 365


@click.group()
def evidence() -> None:
    """Give an auditor the evidence of a job's version: signed statements about what was promoted.

    docs/evidence.md explains the statements, and what verifying proves.
    """


@evidence.command("build")
@click.argument("reference", metavar="job/NAME@N")
@click.option(
    "--vulnerabilities",
    "report",
    type=click.Path(path_type=Path),
    help="A scanner's report: the JSON of pip-audit or osv-scanner, or OSV records.",
)
@click.option("--commit", is_flag=True, help="Commit the statements.")
@Json()
def build(reference: str, report: Path | None, commit: bool, as_json: bool) -> None:
    """Build the evidence of a version that has none, or add a scanner's report to it.

    `workbench promote` builds the evidence of each new version. Example:

        workbench evidence build job/answers@7 --vulnerabilities audit.json
    """
    from workbench.promotion.evidence import EvidenceOptions
    from workbench.promotion.evidence import build as built

    options = EvidenceOptions(report=report, commit=commit)
    show(built(config.find_root(), reference, options), as_json=as_json)


@evidence.command("show")
@click.argument("reference", metavar="job/NAME@N")
@Json()
def show_evidence(reference: str, as_json: bool) -> None:
    """Show the statements about a version, and who signed each. --json has all that they say."""
    from workbench.promotion.evidence import stated

    show(stated(config.find_root(), reference), as_json=as_json)


@evidence.command("verify")
@click.argument("target", metavar="DIR|job/NAME@N")
@click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path),
    multiple=True,
    help="The public key (PEM) of who exported DIR; repeatable.",
)
@Json()
def verify(target: str, keys: tuple[Path, ...], as_json: bool) -> None:
    """Verify the evidence in an exported folder by a public key, or that of a version of this repository.

    A folder needs no repository: DIR and the key are enough. Exit with 1 and name every file that was
    changed, is missing or was added. Example:

        workbench evidence verify audit/answers-7 --key public.pem
    """
    from workbench.attestations.trust import read_public
    from workbench.attestations.verification import verify_export

    if keys or not target.startswith("job/"):
        if not keys:
            raise click.UsageError(f"a folder is verified by a public key: {shlex.quote(target)} --key PEM")
        found = verify_export(Path(target), [read_public(path) for path in keys])
    else:
        from workbench.promotion.evidence import verify as verified

        found = verified(config.find_root(), target)
    show(found, as_json=as_json)
    sys.exit(0 if found.passed else 1)


@evidence.command("export")
@click.argument("reference", metavar="job/NAME@N")
@click.argument("folder", type=click.Path(path_type=Path))
@Json()
def export(reference: str, folder: Path, as_json: bool) -> None:
    """Copy a version and its evidence into the new FOLDER, for an auditor.

    The folder is signed by your key, whose public half the auditor needs: workbench evidence key.
    """
    from workbench.promotion.evidence import export as exported

    check_names(folder, again=f"workbench evidence export {reference} DIR")
    show(exported(config.find_root(), reference, folder), as_json=as_json)


@evidence.command("key")
@click.option("--principal", help="Whose key [default: yours].")
@Json()
def key(principal: str | None, as_json: bool) -> None:
    """Print the public key of your statements as PEM; it is created on first use."""
    from workbench.attestations import SigningKey
    from workbench.promotion.assured import mover

    root = config.find_root()
    found = SigningKey.load(root, principal or mover(root).principal.name)
    text = found.public_pem().decode()
    told = {"id": found.key_id, "principal": found.principal, "public": text}
    say(told, text.rstrip("\n"), as_json=as_json)


@evidence.command("trust")
@click.argument("pem", required=False, type=click.Path(path_type=Path))
@click.option("--principal", help="Whose key it is [default: you].")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["promoter", "approver", "scheduler"]),
    help="What it signs; repeatable [default: promoter].",
)
@click.option("--days", type=click.IntRange(1, 3660), default=_DAYS, show_default=True, help="For so long.")
@Json()
def trust(pem: Path | None, principal: str | None, roles: tuple[str, ...], days: int, as_json: bool) -> None:
    """Add the public key in PEM, by default yours, to pipelines/trust/keys.yaml.

    Whoever reviews the change of that file decides whom the repository trusts. Example:

        workbench evidence trust bob.pem --principal bob --role approver
    """
    from workbench.attestations.trust import KEYS, person
    from workbench.promotion.trusting import TrustOptions, trust_key

    options = TrustOptions(pem=pem, principal=principal, roles=roles, lasts=dt.timedelta(days=days))
    entry = trust_key(config.find_root(), options)
    kinds = ", ".join(entry.roles)
    text = (
        f"{KEYS} trusts the key of {person(entry.principal)} as {kinds} until {entry.until}, when committed"
    )
    say(entry, f"{text}\nnext: git add {KEYS} && git commit -m 'Trust a key'", as_json=as_json)
