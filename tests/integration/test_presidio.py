"""The optional detectors: a real Presidio through its adapter, and GLiNER's with a model that is scripted."""

import json
import subprocess
import sys
import sysconfig
import types

import pytest
from clones import ROOT

from workbench.errors import ConfigError
from workbench.ports.privacy import Detection, Detector
from workbench.privacy.gliner import GlinerDetector
from workbench.privacy.presidio import PresidioDetector

PRESIDIO = ROOT / ".venv-presidio" / "bin" / "python"
#: A program that fails on any name look-up.
WITHOUT_NETWORK = """import runpy, socket, sys
def refuse(*_, **__):
    raise AssertionError("looked a name up")
socket.getaddrinfo = refuse
sys.argv = ["privacy_presidio", sys.argv[1]]
runpy.run_module("benchmarks.privacy_presidio", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_presidio_finds_what_has_a_pattern_and_looks_nothing_up():
    if not PRESIDIO.exists():
        pytest.skip("make presidio")
    text = "Write to ada@example.com, call +1 202 555 0143, or charge 4111 1111 1111 1111 from 10.1.2.3."
    done = subprocess.run(
        [PRESIDIO, "-c", WITHOUT_NETWORK, sysconfig.get_path("purelib")],
        input=json.dumps(text) + "\n", capture_output=True, text=True, cwd=ROOT, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    _, found = json.loads(done.stdout)
    assert [(kind, text[start:end]) for start, end, kind in found] == [
        ("email", "ada@example.com"),
        ("phone", "+1 202 555 0143"),
        ("card", "4111 1111 1111 1111"),
        ("ip", "10.1.2.3"),
    ]


def test_an_adapter_whose_package_is_missing_says_what_to_install(monkeypatch, tmp_path):
    for name in ("presidio_analyzer", "gliner"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="presidio") as failed:
        PresidioDetector()
    assert "presidio-analyzer" in failed.value.hint
    with pytest.raises(ConfigError, match="gliner") as failed:
        GlinerDetector(tmp_path)
    assert "add gliner" in failed.value.hint


@pytest.fixture
def gliner(monkeypatch):
    """A model that takes every "Ada" for a person and every key for a secret, and notes what it reads."""
    read = []

    class Model:
        @classmethod
        def from_pretrained(cls, folder, *, local_files_only):
            assert local_files_only
            return cls()

        def predict_entities(self, text, labels, threshold):
            read.append(text)
            marks = [("Ada", "person"), ("k3y", "api key")]
            return [
                {"start": at, "end": at + 3, "label": label, "score": 0.9}
                for word, label in marks
                for at in range(len(text))
                if text.startswith(word, at)
            ]

    monkeypatch.setitem(sys.modules, "gliner", types.SimpleNamespace(GLiNER=Model))
    return read


def test_a_gliner_model_reads_a_long_text_in_pieces(gliner, tmp_path):
    detector = GlinerDetector(tmp_path)
    assert isinstance(detector, Detector)
    text = "Ada " + "word " * 700 + "k3y " + "x" * 4_000 + " Ada"
    assert detector.find(text) == (
        Detection(start=0, end=3, kind="person"),
        Detection(start=text.index("k3y"), end=text.index("k3y") + 3, kind="secret", data_class="secret"),
        Detection(start=len(text) - 3, end=len(text), kind="person"),
    )
    assert max(map(len, gliner)) <= 1_500
    assert sum(len(piece) for piece in gliner) >= len(text) - len(gliner) - text.count(" ")


def test_a_gliner_model_that_is_not_there_is_refused_by_its_folder(gliner, tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        GlinerDetector(tmp_path / "absent")
