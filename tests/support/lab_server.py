"""JupyterLab as `make lab` starts it, in a real browser, and what a person does in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

from shown_pages import browser

TOKEN = "token-of-this-test"
READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext?.session;
    return session?.kernel?.connectionStatus === 'connected' && session.kernel.status === 'idle';
}"""
#: Saved; a notebook that changed while it was saved is saved again.
CLEAN = """async () => {
    if (!window.jupyterapp.shell.currentWidget.context.model.dirty) return true;
    await window.jupyterapp.commands.execute('docmanager:save');
    return false;
}"""
ADD = """([id, source]) => window.jupyterapp.shell.currentWidget.content.model.sharedModel
    .addCell({cell_type: 'code', id, source, metadata: {}})"""
CHANGE = """([id, source]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
    notebook.activeCell.model.sharedModel.setSource(source);
}"""
SOURCE = """id => window.jupyterapp.shell.currentWidget.content.widgets
    .find(cell => cell.model.id === id).model.sharedModel.getSource()"""
OUTPUTS = """id => window.jupyterapp.shell.currentWidget.content.widgets
    .find(cell => cell.model.id === id).model.outputs.toJSON()"""


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@contextmanager
def lab(folder, home):
    """`make lab` in `folder` with the home `home`, until it answers; ended with its kernels."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "XDG_"))}
    options = (
        f"--ServerApp.port={port} --ServerApp.port_retries=0 --no-browser "
        f"--IdentityProvider.token={TOKEN} --expose-app-in-browser"
    )
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            ["make", "lab", f"ARGS={options}"],
            cwd=folder,
            env={**kept, "HOME": str(home), "PYTHONPATH": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(server, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", home / "lab.log")
        yield f"http://127.0.0.1:{port}/lab"
    finally:
        end_group(server)


def end_group(server, seconds=15):
    """End a process group, at last by SIGKILL: the Lab may wait for ever for a worker thread of its own."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
        for _ in range(seconds * 10):
            server.poll()  # or the first process would be left as a zombie of the group
            os.killpg(server.pid, 0)
            time.sleep(0.1)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def wait_until_up(server, url, log):
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return


@contextmanager
def opened(url):
    """A notebook in the Lab, its kernel ready."""
    with browser() as started:
        page = started.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_function(READY)
        yield page


def command(page, name):
    page.evaluate("name => window.jupyterapp.commands.execute(name).then(() => true)", name)


def save(page, path):
    """Save through the Lab, and see that it wrote."""
    before = path.stat().st_mtime_ns
    command(page, "docmanager:save")
    page.wait_for_function(CLEAN)
    assert path.stat().st_mtime_ns > before
    assert not page.locator(".jp-Dialog").count()  # such as "file changed on disk"


def reopen(page):
    """Load the page again, as a person does the next morning."""
    page.goto(page.url, wait_until="domcontentloaded")
    page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function(READY)  # what a kernel says of itself changes the notebook, also after a save


def shown(page) -> str:
    """What the outputs of the notebook's cells hold."""
    return page.evaluate(
        "() => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()"
        ".cells.map(cell => cell.outputs ?? []))"
    )


def run(page, cell, source) -> str:
    """Give a cell this source and run it as Ctrl-Enter does; what it shows, as plain text."""
    page.evaluate(CHANGE, [cell, source])
    command(page, "notebook:run-cell")
    outputs = page.evaluate(OUTPUTS, cell)
    assert outputs and not [one for one in outputs if one["output_type"] == "error"], outputs
    shown = [one["text"] if "text" in one else one["data"].get("text/plain", "") for one in outputs]
    return "\n".join("".join(part) for part in shown)
