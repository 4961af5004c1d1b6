"""Check the channels of notices: whether each has its variable or program on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench.config.channels import ChannelSettings
from workbench.config.operations import OPERATIONS, load_operations
from workbench.diagnostics.findings import Finding
from workbench.errors import WorkbenchError


def ready(root: Path, *, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield a finding for each channel; nothing is sent. The machine that runs the jobs needs them."""
    try:
        channels = load_operations(root).channels
    except WorkbenchError as error:
        yield Finding(what=str(OPERATIONS), state="broken", detail=error.message, fix="workbench check")
        return
    for name, channel in channels.items():
        lacking, fix = _missing(channel, environment)
        state, detail = ("missing", lacking) if lacking else ("ok", channel.kind)
        yield Finding(what=f"channel {name}", state=state, detail=detail, fix=fix, needed=False)  # type: ignore[arg-type]


def _missing(channel: ChannelSettings, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return what a channel misses on this machine, and the command that adds it; "" for nothing."""
    password = channel.mail.password_env if channel.mail is not None else ""
    for variable in filter(None, (channel.webhook_env, channel.url_env, password)):
        if not environment.get(variable):
            return f"the variable {variable} is not set", f"export {variable}=…"
    if channel.command and shutil.which(channel.command[0]) is None:
        return f"{channel.command[0]} is no program here", f"ls -l {channel.command[0]}"
    return "", ""
