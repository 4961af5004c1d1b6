"""The section `gateway` of params.yaml: which gateway answers, and how `workbench gateway` serves."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from workbench import files
from workbench.config.forms import check_inside
from workbench.errors import ConfigError, nearest

#: Where `workbench gateway` listens when params.yaml states no address.
DEFAULT_ADDRESS: Final = "127.0.0.1:8340"
_MOST_WORKERS: Final = 64
_FORMS: Final = "gateway: auto, gateway: off, or gateway: https://HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTls:
    """The PEM files of the certificate chain and of its private key."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """What one worker of the gateway accepts.

    `body_mib` is the largest body in MiB, `head_kib` the largest head of a request in KiB. `connections` are
    open at most, `streams` at most under way for one key. A client has `head_s` seconds to send the head of a
    request and `body_s` for each piece of a body. It has `write_s` to read what was sent, and an unused
    connection is closed after `idle_s`. On SIGTERM, answers under way have `drain_s` seconds to end.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    body_mib: float = 16.0
    head_kib: float = 32.0
    connections: int = 4_000
    streams: int = 500
    head_s: float = 10.0
    body_s: float = 20.0
    write_s: float = 60.0
    idle_s: float = 75.0
    drain_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The gateway of a repository.

    `use` says who answers the calls of `wb.connect`: "auto" a gateway on a private socket that the first call
    starts, "off" the process itself, or the URL of a gateway. The others are of `workbench gateway`:
    `address` is HOST:PORT and `socket` a Unix socket in its place; an address that other machines reach needs
    `public: true` and `tls`. `mode` chooses what answers there: "live" the model, "auto" the tape, then the
    answers of earlier calls, then the model, as in a notebook.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    use: str = "auto"
    address: str = DEFAULT_ADDRESS
    socket: str | None = None
    tls: GatewayTls | None = None
    workers: int = 1
    mode: Literal["live", "auto"] = "live"
    public: bool = False
    limits: GatewayLimits = field(default_factory=GatewayLimits)

    @classmethod
    def of(cls, stated: str | GatewaySettings) -> GatewaySettings:
        """Return the settings that the section states; a text is that of `use`."""
        return cls(use=stated) if isinstance(stated, str) else stated

    @property
    def place(self) -> tuple[str, int]:
        """The host and the port of `address`."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


def check_gateway(stated: str | GatewaySettings, *, where: str) -> None:
    """Raise ConfigError for a value of the section that no gateway could use."""
    at = f"{where}: gateway"
    found = GatewaySettings.of(stated)
    if found.use not in {"auto", "off"}:
        _check_url(found.use, at)
    _check_address(found, at)
    if found.tls is not None:
        for name in ("certificate", "key"):
            check_inside(getattr(found.tls, name), where=f"{at}.tls.{name}")
    if not 1 <= found.workers <= _MOST_WORKERS:
        raise ConfigError(f"{at}.workers must be from 1 to {_MOST_WORKERS}, found {found.workers}")
    for item in fields(found.limits):
        value = getattr(found.limits, item.name)
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{at}.limits.{item.name} must be above 0, found {value}")


def _check_url(use: str, at: str) -> None:
    parts = urlsplit(use)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{at} is {files.shortened(use)!r}, which is neither a mode nor a URL "
            f"({nearest(use, ('auto', 'off'))})",
            hint=_FORMS,
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"{at} must be http://HOST:PORT without a user, a key or a query",
            hint="the key comes from the environment: docs/gateway.md",
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(f"{at}: {parts.hostname} is another machine, so https:// is needed", hint=_FORMS)


def _check_address(found: GatewaySettings, at: str) -> None:
    try:
        host, port = found.place
        fits = bool(host) and 0 <= port <= 65_535
    except ValueError:
        host, fits = "", False
    if not fits:
        raise ConfigError(
            f"{at}.address must be HOST:PORT, found {files.shortened(found.address)!r}",
            hint=f"address: {DEFAULT_ADDRESS}",
        )
    if found.socket is None and not is_loopback(host):
        if not found.public:
            raise ConfigError(
                f"{at}.address {host} is reachable from other machines, which public: true must allow",
                hint=f"address: {DEFAULT_ADDRESS}, or public: true with tls: {{certificate: …, key: …}}",
            )
        if found.tls is None:
            raise ConfigError(
                f"{at}.address {host} is public, and without TLS everyone on the way reads the keys",
                hint="tls: {certificate: deploy/gateway.pem, key: deploy/gateway.key}",
            )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
