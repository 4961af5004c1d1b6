"""Name the environment variables that a run of a promoted version reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench import config, files, registry
from workbench.config import Params, UseCase
from workbench.config.channels import ChannelSettings
from workbench.config.operations import Operations
from workbench.jobs.spec import JobSpec

_OPENAI_KEY = "OPENAI_API_KEY"


def variables_of(params: Params, operations: Operations, spec: JobSpec, folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the variables that hold a run's keys, passwords, token and channels.

    They are named by the frozen model cards of the version in `folder`, by `params.yaml` of today, and by
    the channels that the job notifies.
    """
    found = set(_of_models(spec, folder))
    for name in operations.of(spec.job).notify:
        if name in operations.channels:
            found |= set(_of_channel(operations.channels[name]))
    case = params.use_cases.get(spec.use_case)
    if case is not None:
        found |= set(_of_use_case(case))
    if params.budget_url is not None and params.budget_password_env is not None:
        found.add(params.budget_password_env)
    if params.identity.token_env is not None:
        found.add(params.identity.token_env)
    return tuple(sorted(found))


def _of_use_case(case: UseCase) -> Iterator[str]:
    if case.provider == "openai":
        yield case.api_key_env or _OPENAI_KEY
    server = config.memory_server(case)
    if server is not None and server.api_key_env is not None:
        yield from (server.key_variable(tenant) for tenant in case.tenants)


def _of_channel(channel: ChannelSettings) -> Iterator[str]:
    password = channel.mail.password_env if channel.mail is not None else ""
    yield from filter(None, (channel.webhook_env, channel.url_env, password))


def _of_models(spec: JobSpec, folder: Path) -> Iterator[str]:
    for kind, reference in spec.pins.items():
        name, _, number = reference.partition("@")
        path = folder / registry.FOLDERS["model"] / name / f"{number}{registry.SUFFIXES['model']}"
        if kind.partition(".")[0] == "model" and path.is_file():
            card = files.read_yaml(path)
            if card.get("provider") == "openai":
                yield str(card.get("api_key") or _OPENAI_KEY)
