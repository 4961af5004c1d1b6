"""Stopping private gateways: only processes of this machine's view are signalled."""

import datetime as dt
import os

import pytest

from workbench.errors import WorkbenchError
from workbench.workspace import gateway_process
from workbench.workspace.gateway_place import GatewayPlace
from workbench.workspace.gateway_process import RunningGateway, stop


def test_a_gateway_of_another_container_is_not_stopped_by_a_signal_to_its_own_caller(tmp_path, monkeypatch):
    """The system gives 0 as the process of another namespace, and a signal to 0 reaches the whole group."""
    since = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
    found = [
        RunningGateway(pid=pid, socket=tmp_path / f"{pid}.sock", since=since, own=False) for pid in (77, 0)
    ]
    signalled = []
    monkeypatch.setattr(gateway_process, "running", lambda _place: found)
    monkeypatch.setattr(os, "kill", lambda *sent: signalled.append(sent))
    with pytest.raises(WorkbenchError, match="another container"):
        stop(GatewayPlace(root=tmp_path, folder=tmp_path, code="c"))
    assert signalled == []
