"""Check the forms of values in params.yaml: paths, days, names of tenants, and the names of variables."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError
from workbench.layout import QUALITY

_TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
#: Most characters of a path below the repository, and bytes of a file name on common disks.
_MOST_PATH, _MOST_PART = 1_000, 255


def variable_part(tenant: str) -> str:
    """Return a tenant's name in the form used in environment variable names."""
    return tenant.upper().replace("-", "_")


def check_tenant(tenant: str, *, where: str = "") -> None:
    """Raise ConfigError unless `tenant` is a valid folder and file name on every system."""
    if not _TENANT_NAME.fullmatch(tenant):
        raise ConfigError(
            f"{where}{tenant!r} cannot name a tenant",
            hint="use up to 63 of a-z, 0-9, - and _, beginning with a letter or a digit",
        )


def check_inside(text: str, *, where: str) -> None:
    """Raise ConfigError unless `text` is a path below the repository's folder, short enough for a disk."""
    parts = Path(text).parts
    short = len(text) <= _MOST_PATH and all(len(os.fsencode(part)) <= _MOST_PART for part in parts)
    if not parts or not short or ".." in parts or Path(text).is_absolute() or "\0" in text:
        raise ConfigError(
            f"{where}: {files.shortened(text)!r} is not a path inside the repository",
            hint="write a path relative to params.yaml, without .., for example notebooks/answers.ipynb",
        )


def check_quality(text: str, *, where: str) -> None:
    """Raise ConfigError unless `text` is a file in the folder of quality rules, which the pipeline tracks."""
    check_inside(text, where=where)
    if Path(text).parent != Path(QUALITY):
        raise ConfigError(
            f"{where}: {files.shortened(text)!r} is not a file in {QUALITY}",
            hint=f"move it to {QUALITY}/{Path(text).name}",
        )


def check_day(text: str, *, where: str) -> None:
    """Raise ConfigError unless `text` is a day as 2026-11-24, the only form that sorts as days do."""
    try:
        fits = dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        fits = False
    if not fits:
        problem = f"{files.shortened(text)!r} is not a day like 2026-11-24"
        raise ConfigError(f"{where}: {problem}", hint="write YYYY-MM-DD")


def secret(variable: str, *, needed_by: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a credential from an environment variable; raise ConfigError if it is not set."""
    value = environment.get(variable, "")
    if not value:
        raise ConfigError(
            f"{needed_by} needs a key, and the environment variable {variable} is not set",
            hint=f"export {variable}=…",
        )
    return value
