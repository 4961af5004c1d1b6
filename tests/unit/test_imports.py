"""`import workbench` is cheap: vendors load when they are used, not before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from workbench import files

ROOT = Path(__file__).resolve().parents[2]
VENDORS = {
    "aiohttp", "charset_normalizer", "docx", "dvc", "fsspec", "jsonschema", "matplotlib", "nbformat",
    "numpy", "openai", "opentelemetry", "papermill", "polars", "pydantic", "pypdf", "selectolax", "weaviate",
    "wordllama", "xllamacpp",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("statement", ["import workbench", "import workbench.cli.app"])
def test_no_vendor_is_loaded(statement):
    assert not loaded_by(statement) & VENDORS


def test_every_public_name_is_there():
    code = "import workbench as wb; [getattr(wb, name) for name in wb.__all__]; assert wb.__all__"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("before", [None, "mine"])
def test_a_file_is_read_without_a_search_for_plugins(before, monkeypatch):
    """The search reads the metadata of every installed package; who has plugins of pydantic keeps them."""
    name = "PYDANTIC_DISABLE_PLUGINS"
    monkeypatch.setattr("pydantic.plugin._loader._plugins", None)
    monkeypatch.delenv(name, raising=False)
    if before:
        monkeypatch.setenv(name, before)

    def search(**_):
        raise AssertionError("pydantic searched for plugins")

    monkeypatch.setattr("pydantic.plugin._loader.entry_points", search)
    assert files.parse(dict[str, tuple[int, ...]], {"a": [1]}, where="x") == {"a": (1,)}
    assert os.environ.get(name) == before
    with pytest.raises(AssertionError, match="searched"):
        pydantic.TypeAdapter(int)
