"""The keys `channels` and `notify` of pipelines/operations.yaml: where notices about jobs are sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.config.forms import NAME, check_inside
from workbench.errors import ConfigError, nearest

#: What a channel can be; each channel has exactly one of them.
KINDS = ("webhook_env", "url_env", "mail", "command", "file")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ADDRESS = re.compile(r"[^\s@<>,;\"\\\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,253}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_MOST_WORDS, _MOST_RECIPIENTS = 64, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class MailChannel:
    """A mail server and the addresses of a channel.

    `user` and the variable `password_env` are for a server that demands a login.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    tls: Literal["none", "starttls", "tls"] = "starttls"
    user: str = ""
    password_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """One channel: a webhook, any URL that apprise knows, mail, a command, or a file of JSON lines.

    `webhook_env` and `url_env` name environment variables, because such addresses are secrets.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    webhook_env: str = ""
    url_env: str = ""
    mail: MailChannel | None = None
    command: tuple[str, ...] = ()
    file: str = ""

    @property
    def kind(self) -> str:
        """The one key of `KINDS` that is set."""
        return next((kind for kind in KINDS if getattr(self, kind)), "")


def check_channels(where: str, channels: Mapping[str, ChannelSettings]) -> None:
    """Raise ConfigError for a channel that cannot send: no key or two, or a value of another form."""
    for name, channel in channels.items():
        place = f"{where}: channels.{files.shortened(name)}"
        if not NAME.fullmatch(name):
            raise ConfigError(f"{place} is no name", hint="use up to 63 letters, digits, - and _")
        if [bool(getattr(channel, kind)) for kind in KINDS].count(True) != 1:
            raise ConfigError(
                f"{place} must have exactly one of {', '.join(KINDS)}",
                hint=f"write {name}: {{webhook_env: ONCALL_WEBHOOK}}",
            )
        _check_channel(place, channel)


def check_notified(where: str, names: Iterable[str], channels: Mapping[str, ChannelSettings]) -> None:
    """Raise ConfigError for the first name in `notify` that is no channel."""
    for name in names:
        if name not in channels:
            raise ConfigError(
                f"{where}.notify names the channel {files.shortened(name)!r}, which `channels` does not have",
                hint=nearest(name, channels),
            )


def _check_channel(place: str, channel: ChannelSettings) -> None:
    for key in ("webhook_env", "url_env"):
        _check_variable(f"{place}.{key}", getattr(channel, key))
    if channel.mail is not None:
        _check_mail(f"{place}.mail", channel.mail)
    words = channel.command
    if len(words) > _MOST_WORDS or any(not word or "\0" in word for word in words):
        raise ConfigError(
            f"{place}.command must be up to {_MOST_WORDS} words without an empty one",
            hint="write command: [/usr/bin/logger, -t, workbench]",
        )
    if channel.file:
        check_inside(channel.file, where=f"{place}.file")
        if not channel.file.endswith(".jsonl"):
            raise ConfigError(
                f"{place}.file: {files.shortened(channel.file)!r} does not end in .jsonl",
                hint="write file: .workbench/state/notices.jsonl",
            )


def _check_variable(where: str, name: str) -> None:
    if name and not _VARIABLE.fullmatch(name):
        # The value is not quoted: who writes the address itself here would find it in a log.
        raise ConfigError(
            f"{where} must be the name of an environment variable, not an address",
            hint="export ONCALL_WEBHOOK=https://…, and name ONCALL_WEBHOOK here",
        )


def _check_mail(where: str, mail: MailChannel) -> None:
    if not _HOST.fullmatch(mail.host) or not 1 <= mail.port <= 65_535:
        raise ConfigError(f"{where}: host must be the name of a server, and port from 1 to 65535")
    if not 1 <= len(mail.to) <= _MOST_RECIPIENTS:
        raise ConfigError(f"{where}.to must name from 1 to {_MOST_RECIPIENTS} addresses")
    for address in (mail.sender, *mail.to):
        if not _ADDRESS.fullmatch(address):
            raise ConfigError(
                f"{where}: {files.shortened(address)!r} is no mail address", hint="write name@example.com"
            )
    _check_variable(f"{where}.password_env", mail.password_env)
    if bool(mail.user) != bool(mail.password_env):
        raise ConfigError(f"{where}: user and password_env belong together")
    if mail.user and mail.tls == "none":
        raise ConfigError(
            f"{where}: a password is not sent without encryption", hint="write tls: starttls or tls: tls"
        )
