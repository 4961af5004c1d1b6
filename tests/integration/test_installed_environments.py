"""A real uv fills real environments: from a folder, from the registry, and from nowhere."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile

import pytest
from clones import ROOT, WITHOUT_NETWORK

from workbench.errors import RefusedError, UnavailableError
from workbench.repository import environments

#: Other programs' environments may be activated around us, and uv told to use them.
ELSEWHERE = {"VIRTUAL_ENV", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT", "UV_TARGET", "UV_PYTHON"}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package `taxi` of one module, in a folder that is all uv may look into; its path."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    needs_more = "Metadata-Version: 2.1\nName: taxi\nVersion: 1.0\nRequires-Dist: bus\n"
    contents = {
        "taxi.py": "FARE = 42\n",
        "taxi-1.0.dist-info/METADATA": needs_more,
        "taxi-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = ["taxi-1.0.dist-info/RECORD,,"]
    for name, text in contents.items():
        coded = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={coded},{len(text)}")
    path = folder / "taxi-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as snapshot_store:
        for name, text in {**contents, "taxi-1.0.dist-info/RECORD": "\n".join(lines) + "\n"}.items():
            snapshot_store.writestr(name, text)
    for name, value in {"UV_OFFLINE": "1", "UV_FIND_LINKS": folder, "UV_CACHE_DIR": tmp_path / "c"}.items():
        monkeypatch.setenv(name, str(value))
    return path


def lock_of(wheel):
    return f"taxi==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n".encode()


def said_by(python, code):
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_environment_holds_what_its_lock_names_and_nothing_else(tmp_path, wheel, monkeypatch):
    for name in ELSEWHERE:
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    root = tmp_path / "a folder with spaces"
    python = environments.install(root, lock_of(wheel), say=print)
    assert list(python.parents[1].rglob("taxi.*.pyc")), "its byte code is not compiled"
    assert said_by(python, "import taxi; print(taxi.FARE)") == "42"
    assert said_by(python, "import taxi; print(taxi.__file__)").startswith(str(root))
    listed = "import importlib.metadata as m; print([d.name for d in m.distributions()])"
    assert said_by(python, listed) == "['taxi']"
    assert not (tmp_path / "elsewhere").exists()
    assert environments.python_of(root, lock_of(wheel), install_hint="-") == python


def test_a_package_that_is_not_the_locked_one_is_refused(tmp_path, wheel):
    lock = lock_of(wheel)
    with zipfile.ZipFile(wheel, "a") as snapshot_store:
        snapshot_store.writestr("more.py", "")
    with pytest.raises(RefusedError, match="Hash mismatch") as caught:
        environments.install(tmp_path, lock, say=print)
    assert "another file than the lock names" in caught.value.hint
    with pytest.raises(UnavailableError, match="is not installed here"):
        environments.python_of(tmp_path, lock, install_hint="-")


def test_an_entry_without_a_hash_is_not_installed(tmp_path, wheel):
    with pytest.raises(UnavailableError, match="hash"):
        environments.install(tmp_path, b"taxi==1.0\n", say=print)


def lock_of_one(name):
    """One package's entry of the project's own lock."""
    text = (ROOT / "locks" / "workbench.lock").read_text(encoding="utf-8")
    return re.search(rf"^{name}==.*\n(?:    .*\n)+", text, re.MULTILINE)[0].encode()


def test_an_entry_of_our_own_lock_is_installed_from_the_registry(tmp_path):
    python = environments.install(tmp_path, lock_of_one("idna"), say=print)
    assert said_by(python, "import idna; print(idna.encode('münchen').decode())") == "xn--mnchen-3ya"


CUT_OFF = """
import sys
from pathlib import Path
from workbench.errors import UnavailableError
from workbench.repository import environments

try:
    environments.install(Path(sys.argv[1]), sys.stdin.buffer.read(), say=print)
except UnavailableError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_without_a_network_the_error_says_that_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    command = (*WITHOUT_NETWORK, sys.executable, "-c", CUT_OFF, str(tmp_path))
    done = subprocess.run(command, input=lock_of_one("idna"), capture_output=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr.decode()
    assert "installing needs the network once" in done.stdout.decode()
    assert not list(tmp_path.rglob("installed.lock"))
