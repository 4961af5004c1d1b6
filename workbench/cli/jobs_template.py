"""The template of `workbench jobs run`: `python -m workbench.cli.jobs_template --template SOCKET`.

A server with --warm keeps it, and each run that it starts is forked from it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

from workbench import files
from workbench.cli.app import main
from workbench.config import Params
from workbench.config.operations import Operations
from workbench.errors import ConfigError
from workbench.forking import template
from workbench.jobs.publishing import PublishedManifest
from workbench.jobs.runner import Request, WorkerResult
from workbench.jobs.spec import JobSpec
from workbench.registry import Asset

#: What `jobs run` imports late. Polars is left out: it starts a thread, which a fork would lose.
_PRELOADED: Final = (
    "cedarpy",
    "cronsim",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "csv",
    "importlib.metadata",
    "importlib.resources",
    "orjson",
    "psutil",
    "pydantic",
    "ruamel.yaml",
    "zipfile",
    "zoneinfo",
    "workbench.experiments.inputs",
    "workbench.files.decoding",
    "workbench.files.tables",
    "workbench.files.workbooks",
    "workbench.files.yaml_reader",
    "workbench.identities.ci",
    "workbench.identities.keys",
    "workbench.identities.oidc",
    "workbench.identities.system",
    "workbench.jobs.drift",
    "workbench.jobs.run",
    "workbench.jobs.schedule",
    "workbench.notices.delivery",
    "workbench.policy.authorise",
    "workbench.policy.cedar",
    "workbench.privacy.addresses",
    "workbench.privacy.credentials",
    "workbench.privacy.gliner",
    "workbench.privacy.names",
    "workbench.privacy.numbers",
    "workbench.privacy.presidio",
    "workbench.privacy.repository",
    "workbench.promotion.assured",
    "workbench.promotion.confinement_level",
    "workbench.promotion.run_rights",
    "workbench.repository.fingerprint",
    "workbench.wire.redaction",
)


def serve_template(path: Path) -> int:
    """Fork a `workbench` for each that asks at `path`; return in the template alone.

    Return 0 when its caller ends, and `template.UNFIT` when it may not fork.
    """
    for name in _PRELOADED:
        importlib.import_module(name)
    files.prepare_types((Params, Operations, Asset, JobSpec, Request, WorkerResult, PublishedManifest))
    try:
        forked = template.serve(path, seeded=False)
    except ConfigError as error:
        sys.stderr.write(f"{error.message}\n")
        return template.UNFIT
    if forked is not None:
        sys.argv = ["workbench", *forked.arguments]
        with forked.reporting():
            main()
    return 0


if __name__ == "__main__":
    sys.exit(serve_template(Path(sys.argv[2])))
