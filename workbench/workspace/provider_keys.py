"""The keys of providers that a gateway holds: which variables they are, and how it gets them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from workbench import config, files, registry
from workbench.config import Params
from workbench.errors import ConfigError, WorkbenchError
from workbench.layout import GATEWAY
from workbench.models import load_card
from workbench.models.card import OPENAI_KEY

#: The file of the keys that `workbench gateway secret set` stores, readable by its owner only.
SECRETS: Final = GATEWAY / "secrets.json"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_MOST_BYTES: Final = 2**20
#: The longest key; a longer one is a file that was piped by mistake.
_MOST_CHARACTERS: Final = 10_000
#: The keys that this process has taken out of its environment, by their variables.
_taken: dict[str, str] = {}


def variables(root: Path, params: Params) -> frozenset[str]:
    """Return the variables that hold keys of providers, by params.yaml and the cards of models."""
    found = {OPENAI_KEY}
    for case in params.use_cases.values():
        found |= {case.api_key_env} if case.api_key_env else set()
        server = config.memory_server(case)
        if server is not None and server.api_key_env:
            found |= {server.key_variable(tenant) for tenant in case.tenants}
    for name in registry.names(root, "model"):
        try:
            found.add(load_card(root, name).api_key or OPENAI_KEY)
        except WorkbenchError:  # `workbench check` says what is wrong with the card
            continue
    return frozenset(found)


def take(root: Path, params: Params, environment: MutableMapping[str, str] = os.environ) -> Mapping[str, str]:
    """Take the keys of providers out of the environment of this process, and return all that it has taken.

    Child processes and libraries no longer find them; the gateway gets them.
    """
    for name in variables(root, params):
        value = environment.pop(name, None)
        if value:
            _taken[name] = value
    return dict(_taken)


def put_back(environment: MutableMapping[str, str] = os.environ) -> None:
    """Put the keys back into the environment, for a command that asks a provider from its own process."""
    for name, key in _taken.items():
        environment.setdefault(name, key)


def stored(root: Path) -> dict[str, str]:
    """Return the keys that are stored for the gateway of a repository.

    Raise ConfigError for a damaged file, and for one that others may read.
    """
    path = root / SECRETS
    if not path.exists():
        return {}
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}; then change its keys")
    try:
        found = json.loads(files.read_bytes(path, limit=_MOST_BYTES))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ConfigError(
            f"{path} does not hold keys by their variables",
            hint=f"rm {path}   # then workbench gateway secret set NAME",
        )
    return found


def store(root: Path, name: str, secret: str | None) -> None:
    """Store the key of a variable for the gateway of a repository; None removes it.

    Raise ConfigError for a name that is no variable, and for a key that is empty, long or not printable.
    """
    check_name(name)
    found = stored(root)
    if secret is None:
        found.pop(name, None)
    else:
        found[name] = _checked(name, secret.strip())
    files.write_atomic(root / SECRETS, files.canonical(found), private=True)


def check_name(name: str) -> None:
    """Raise ConfigError for a name that no environment variable has."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} is not the name of a variable", hint="workbench gateway secret set OPENAI_API_KEY"
        )


def _checked(name: str, secret: str) -> str:
    """Return a key; no error shows any of it."""
    fault = next(_faults(secret), None)
    if fault:
        raise ConfigError(
            f"the key of {name} {fault}; nothing was stored",
            hint=f"workbench gateway secret set {name}   # and paste the key; or pipe it in",
        )
    return secret


def _faults(secret: str) -> Iterator[str]:
    if not secret:
        yield "is empty"
    if len(secret) > _MOST_CHARACTERS:
        yield f"has more than {_MOST_CHARACTERS:,} characters"
    if not secret.isprintable() or not secret.isascii():
        yield "has characters that no key has"
