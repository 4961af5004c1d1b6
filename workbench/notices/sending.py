"""Send one message by apprise, as a process of its own: `python -m workbench.notices.sending`.

The process keeps apprise, its memory and a server that answers byte by byte away from the scheduler, which
ends it after a limit. It reads an order from its standard input and says nothing but why it failed: no
address and no part of an answer.
"""

from __future__ import annotations

import contextlib
import logging
import re
import resource
import sys
from collections.abc import Mapping
from typing import Any

import orjson

#: Bytes of memory of the process: an answer of any size ends it, and not the machine.
_MOST_MEMORY = 2 << 30
_MOST_ORDER = 1 << 20
_STATUS = re.compile(r"error=(\d{3})\b")


class _Heard(logging.Handler):
    """Keeps the HTTP status that apprise logs, and nothing else of its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.status = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take the status of a message that has one."""
        found = _STATUS.search(record.getMessage())
        self.status = found[1] if found else self.status


def deliver_message(order: Mapping[str, Any]) -> str:
    """Send the message of an order; return "" when it was taken, or why it was not."""
    import apprise

    heard, log = _Heard(), logging.getLogger("apprise")
    log.handlers[:], log.propagate = [heard], False
    asset = apprise.AppriseAsset(
        app_id="workbench", app_desc="workbench", storage_mode="memory", http_redirects=False
    )
    service = _service(apprise, order, asset)
    if service is None:
        return "its address is of no service that apprise knows"
    taken = service.notify(
        title=order["title"],
        body=order["body"],
        notify_type=apprise.NotifyType(order["urgency"]),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if taken:
        return ""
    return f"it answered with status {heard.status}" if heard.status else "it could not be reached"


def _service(apprise: Any, order: Mapping[str, Any], asset: Any) -> Any:
    """Return the service of an address that apprise knows, such as Slack's, or else the stated one."""
    found = None
    if "url" in order:
        found = apprise.Apprise.instantiate(order["url"], asset=asset)
    if found is None and "service" in order:
        stated = {name: value for name, value in order["service"].items() if value is not None}
        found = apprise.Apprise.instantiate(stated, asset=asset)
    return found


def main() -> int:
    """Read an order, send its message, and return 1 when it was not taken."""
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already, or there is none
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    try:
        said = deliver_message(orjson.loads(sys.stdin.buffer.read(_MOST_ORDER)))
    except Exception as error:  # noqa: BLE001  its text may have the address
        said = f"it failed with {type(error).__name__}"
    sys.stdout.write(said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
