"""The section `privacy` of params.yaml: a list of names, and detectors whose packages may be missing."""

import os
import sys
from pathlib import Path

import pytest

from workbench.config import load_params
from workbench.errors import ConfigError
from workbench.privacy.repository import detector_of

ROOT = Path(__file__).resolve().parents[3]


def repository(tmp_path, privacy: str):
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(f"{params}\nprivacy: {privacy}\n", encoding="utf-8")
    return tmp_path


def kinds(root, text: str) -> list[str]:
    return [each.kind for each in detector_of(root).find(text)]


def test_a_list_of_names_is_used_and_read_again_when_it_has_changed(tmp_path):
    root = repository(tmp_path, "{lexicon: pipelines/privacy/names.txt}")
    names = root / "pipelines/privacy/names.txt"
    names.parent.mkdir(parents=True)
    names.write_text("[customer]\nBlue Heron\n")
    assert kinds(root, "blue heron or grey goose") == ["customer"]
    names.write_text("[customer]\nGrey Goose\nBlue Heron\n")
    os.utime(names, ns=(1, 1))
    assert kinds(root, "blue heron or grey goose") == ["customer", "customer"]


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.txt"):
        detector_of(repository(tmp_path, "{lexicon: pipelines/privacy/absent.txt}"))


@pytest.mark.parametrize("key", ["lexicon", "gliner"])
def test_a_path_outside_the_repository_is_refused_by_its_key(tmp_path, key):
    with pytest.raises(ConfigError, match=rf"privacy\.{key}"):
        load_params(repository(tmp_path, f"{{{key}: ../x}}"))


def test_a_list_that_no_stage_depends_on_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"privacy\.lexicon") as refused:
        load_params(repository(tmp_path, "{lexicon: names.txt}"))
    assert "pipelines/privacy/" in refused.value.hint


def test_a_detector_whose_package_is_missing_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ConfigError, match="presidio") as failed:
        detector_of(repository(tmp_path, "{presidio: en}"))
    assert "presidio-analyzer" in failed.value.hint
