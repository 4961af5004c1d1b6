"""The exporter of this process, if telemetry is active."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench.telemetry.settings import PSEUDONYM_KEY, Signal, signals

if TYPE_CHECKING:
    from workbench.telemetry.export import Exporter

_log: Final = logging.getLogger(__name__)


def exporter(home: Path) -> Exporter | None:
    """Return this process's exporter for the state folder `home`, or None when telemetry is not active.

    A setting that the SDK cannot use is logged, and nothing is exported: telemetry fails no call.
    """
    active = signals()
    return _opened(home, active) if active else None


@functools.cache
def _opened(home: Path, active: tuple[Signal, ...]) -> Exporter | None:
    try:
        from workbench.telemetry.export import Exporter

        return Exporter(home, active, key=os.environ.get(PSEUDONYM_KEY, ""))
    except Exception:  # noqa: BLE001  whatever the SDK raises
        _log.exception("telemetry is off: correct the variables OTEL_*")
        return None
