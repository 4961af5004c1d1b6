"""The answers of the gateway to requests that fail: errors in OpenAI's form, without traces and paths."""

from __future__ import annotations

import logging
import re
import traceback
from pathlib import Path
from typing import Final

import orjson

from workbench.errors import WorkbenchError
from workbench.gateway.exchange import GatewayExchange, encoded
from workbench.identities.grants import Grant
from workbench.models.client_requests import error_headers, status_of, wire_error
from workbench.remote.failures import failure_of
from workbench.remote.protocol import HEADER, VERSION

#: The only text of an error that is none of the workbench's own.
FAILED: Final = "the gateway failed; its log has the error"
_NATIVE: Final = "/workbench/v1/"
_log = logging.getLogger("workbench.gateway")


def public(error: BaseException, root: Path) -> WorkbenchError:
    """Return the error that a client is told: one of the workbench's own, without the path of `root`.

    Another error is written to the log by its type and place, and the client gets a fixed text.
    """
    if not isinstance(error, WorkbenchError):
        _log.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        return WorkbenchError(FAILED)
    for home in {str(root), str(root.resolve())} - {"/"}:
        if home in f"{error.message}{error.hint}":
            error.message, error.hint = _without(home, error.message), _without(home, error.hint)
            error.args = (error.message,)
    return error


def _without(home: str, text: str) -> str:
    """Return a text with paths relative to the repository, which it names by no path."""
    relative = text.replace(f"{home}/", "")
    return re.sub(rf"{re.escape(home)}(?![\w.-])", "the repository", relative)


def told(error: BaseException, root: Path, grant: Grant) -> BaseException:
    """Return the error that a caller of the native protocol is told; the bearer of a key learns no path."""
    return public(error, root) if grant.kind in {"key", "oidc"} else error


async def answer_failed(exchange: GatewayExchange, error: WorkbenchError) -> None:
    """Answer a request with an error: in OpenAI's form, or in that of the native protocol."""
    headers = {**error_headers(error), HEADER: VERSION}
    native = exchange.path.startswith(_NATIVE)
    body = orjson.dumps({"error": failure_of(error)}) if native else wire_error(error)
    if (status := status_of(error)) == 401:
        headers["www-authenticate"] = "Bearer"
    await exchange.whole(status, body, encoded(headers))
