"""Fetch the keys of an issuer over https: bounded in time and size, and without redirects."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import Any

from workbench.errors import UnavailableError
from workbench.records import egress

#: Seconds that an issuer may take to answer, and to send all of the document.
_TIMEOUT_S, _DOCUMENT_S = 5.0, 10.0


class _SameAddress(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it could lead away from https, or from the stated host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetched(url: str, *, most_bytes: int) -> bytes:
    """Return the document at an https address; raise UnavailableError, also for one that is too large."""
    opener = urllib.request.build_opener(_SameAddress())
    ends = time.monotonic() + _DOCUMENT_S
    try:
        with egress.crossing(), opener.open(url, timeout=_TIMEOUT_S) as response:
            data = b""
            while chunk := response.read1(65_536):
                data += chunk
                if len(data) > most_bytes or time.monotonic() > ends:
                    raise _unavailable(url, f"more than {most_bytes} bytes, or {_DOCUMENT_S:g} s")
            return data
    except urllib.error.HTTPError as error:
        error.close()
        raise _unavailable(url, f"HTTP status {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unavailable(url, str(getattr(error, "reason", error))) from error


def _unavailable(url: str, why: str) -> UnavailableError:
    return UnavailableError(
        f"cannot fetch the keys of the issuer from {url}: {why}",
        hint=f"curl --fail {url}   # it must answer with a JWKS document",
    )
