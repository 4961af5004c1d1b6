"""For every test: no analytics, a git identity of its own, no network in unit tests, no skips in CI."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
from pathlib import Path

import pytest
import sharing
import sizes
from hypothesis import settings
from weaviate_servers import weaviate, weaviate_address  # noqa: F401 - fixtures for every folder

from workbench import schemas

gc.disable()  # until all is collected
schemas.jsonschema()  # or the first import of nbformat compiles a grammar, in each worker
ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "tests" / "unit"
GIT_CONFIG = """\
[user]
    name = Test
    email = test@example.invalid
[safe]
    directory = *
[init]
    defaultBranch = main
[commit]
    gpgSign = false
"""
NO_SKIPS = os.environ.get("WORKBENCH_NO_SKIPS") == "1"

settings.register_profile("workbench", deadline=None, print_blob=True)
settings.load_profile("workbench")


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory):
    """What the machine's user has configured decides nothing in a test."""
    config = tmp_path_factory.mktemp("git") / "config"
    config.write_text(GIT_CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.delenv("OPENAI_API_KEY", raising=False)
        patch.setenv("WORKBENCH_GATEWAY", "off")  # tests of the gateway of notebooks take it back
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        # A process that compiles the whole package before it begins takes twice as long.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_network(request, monkeypatch):
    """A unit test neither connects, listens nor resolves a name; an event loop's own pair of sockets may."""
    if UNIT not in request.path.parents:
        return

    def refusing(verb):
        def refuse_address(self, address, *rest):
            if self.family != socket.AF_UNIX:
                pytest.fail(f"a unit test reached for the network: {address}")
            return verb(self, address, *rest)

        return refuse_address

    def refuse_name(host, *_, **__):
        pytest.fail(f"a unit test reached for the network: {host}")

    for verb in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, verb, refusing(getattr(socket.socket, verb)))
    monkeypatch.setattr(socket, "getaddrinfo", refuse_name)


@pytest.fixture
def free_port() -> int:
    """A port of the loopback that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def tmp_repo(tmp_path) -> Path:
    """An empty git repository with an identity."""
    folder = tmp_path / "repo"
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Several workers share the tests as `sharing` says."""
    return sharing.scheduler(config, log)


def pytest_configure(config):
    """A mark of this project's own tests."""
    config.addinivalue_line("markers", "drawn(family, number): a run takes this number of the family's tests")


def pytest_report_header():
    """The size and the seed are part of what a run has shown."""
    return sizes.header()


def pytest_collection_modifyitems(config, items):
    """Mark each item with its folder's name, and give each property its number of examples."""
    sizes.limit_examples(items)
    if left := sizes.left_to_soak(items):
        config.hook.pytest_deselected(items=left)
        out = set(map(id, left))
        items[:] = [item for item in items if id(item) not in out]
    kinds = {path: _kinds(path) for path in {item.path for item in items}}
    for item in items:
        for name in kinds[item.path]:
            item.add_marker(name)
    if hasattr(config, "workerinput"):
        sharing.first_the_long(items)


def _kinds(path: Path) -> list[str]:
    """The names of a test file's folders that are marks."""
    known = {"integration", "contract", "faults", "browser"}
    return [name for name in path.relative_to(ROOT / "tests").parts[:-1] if name in known]


def pytest_collection_finish():
    """What was imported is no garbage: looking through it at each collection takes a third of the time.

    Nor is it looked through here: that takes half a second, and frees a seventh.
    """
    gc.freeze()
    gc.enable()


def _fail_if_skipped(report):
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may be skipped here (WORKBENCH_NO_SKIPS=1). {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report():
    report = yield
    _fail_if_skipped(report)
    return report
