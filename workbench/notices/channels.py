"""Send one notice through one channel: a webhook, mail, another service, a command or a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from workbench.config.channels import ChannelSettings, MailChannel
from workbench.config.forms import secret
from workbench.errors import ConfigError, UnavailableError
from workbench.notices.notice import JobNotice

#: Seconds after which a channel counts as failed; its process is then ended.
LIMIT_S = 30.0
_SENDING = ("-m", "workbench.notices.sending")
_MOST_SAID = 300
#: The headers with the key of a notice: a receiver knows by it what it was given before.
_KEY_HEADER, _MAIL_HEADER = "Idempotency-Key", "X-Idempotency-Key"
#: The end of a file channel that may have the notice, when a writer was killed before it could note it.
_LAST_BYTES = 1 << 18


async def send(
    root: Path,
    name: str,
    channel: ChannelSettings,
    notice: JobNotice,
    *,
    environment: Mapping[str, str] = os.environ,
    limit_s: float = LIMIT_S,
) -> None:
    """Send a notice; ConfigError for a missing variable, UnavailableError when it is not taken."""
    where = f"channel {name}"
    if channel.kind == "file":
        await asyncio.to_thread(_append, root / channel.file, notice)
        return
    if channel.kind == "command":
        data, command = _told(notice), channel.command
    else:
        data, command = orjson.dumps(_order(where, channel, notice, environment)), (sys.executable, *_SENDING)
    await _run(where, command, data, cwd=root, environment=environment, limit_s=limit_s)


def _append(path: Path, notice: JobNotice) -> None:
    from workbench.records.log import Lines

    lines, told = Lines(path, durable=True), _told(notice)
    with lines.writing() as append:
        if b"\n" + told + b"\n" not in b"\n" + lines.read(max(0, lines.size() - _LAST_BYTES)):
            append(told)


def _told(notice: JobNotice) -> bytes:
    return orjson.dumps({**notice.to_json(), "text": notice.text}, option=orjson.OPT_SORT_KEYS)


def _order(
    where: str, channel: ChannelSettings, notice: JobNotice, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the sending process is told: the service, and the title, text and kind of the message."""
    message = {"title": notice.title, "body": notice.text, "urgency": notice.urgency}
    if channel.mail is not None:
        service = _mail_service(where, channel.mail, environment)
        return {**message, "service": {**service, "headers": {_MAIL_HEADER: notice.key}}}
    variable = channel.webhook_env or channel.url_env
    address = secret(variable, needed_by=where, environment=environment)
    if channel.url_env:
        return {**message, "url": address}
    return {**message, "url": address, "service": _webhook_service(where, variable, address, notice)}


def _webhook_service(where: str, variable: str, address: str, notice: JobNotice) -> dict[str, Any]:
    """Return apprise's service for a POST of JSON to an address; ConfigError does not quote the address."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{where}: the variable {variable} is no address of http or https",
            hint=f"export {variable}=https://…",
        )
    return {
        "schema": "jsons" if parts.scheme == "https" else "json",
        "host": parts.hostname,
        "port": port,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "fullpath": parts.path or "/",
        "params": dict(parse_qsl(parts.query, keep_blank_values=True)),
        "headers": {_KEY_HEADER: notice.key},
        # Beside apprise's own title, message, type and version; it drops a key whose value is None.
        "payload": {"notice": notice.to_json(), "attachments": None},
    }


def _mail_service(where: str, mail: MailChannel, environment: Mapping[str, str]) -> dict[str, Any]:
    login = {}
    if mail.user:
        password = secret(mail.password_env, needed_by=where, environment=environment)
        login = {"user": mail.user, "password": password}
    return {
        "schema": "mailto" if mail.tls == "none" else "mailtos",
        "host": mail.host.rpartition(".")[0] or mail.host,
        "smtp_host": mail.host,
        "port": mail.port,
        "from_addr": mail.sender,
        "targets": list(mail.to),
        "secure_mode": {"none": "insecure", "starttls": "starttls", "tls": "ssl"}[mail.tls],
        "format": "text",
        **login,
    }


async def _run(
    where: str,
    command: tuple[str, ...],
    data: bytes,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limit_s: float,
) -> None:
    """Run a process that reads `data`; UnavailableError when it fails or takes longer than the limit."""
    ours = command[1:] == _SENDING  # another program may leave children that hold its output
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=_given(environment), start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if ours else asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it cannot be an argument"
        raise UnavailableError(f"{where}: cannot start {command[0]}: {said}") from None
    try:
        async with asyncio.timeout(limit_s):
            said = await _talk(process, data)
            code = await process.wait()
    except TimeoutError:
        raise UnavailableError(f"{where}: not finished after {limit_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too
        await process.wait()
    if code:
        raise UnavailableError(f"{where}: {said or f'the command ended with code {code}'}")


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a channel's process: it signs nothing, and gets no key to sign with."""
    return {name: value for name, value in environment.items() if name != "WORKBENCH_SIGNING_KEY"}


async def _talk(process: asyncio.subprocess.Process, data: bytes) -> str:
    """Give a process its input, and return the first characters of what it says."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read
            process.stdin.write(data)
            await process.stdin.drain()
        process.stdin.close()
    if process.stdout is None:
        return ""
    return " ".join((await process.stdout.read(_MOST_SAID)).decode(errors="replace").split())
