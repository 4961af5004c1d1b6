"""Keys of providers leave the environment of callers, and are stored for the gateway alone."""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

import pytest

from workbench import config, processes
from workbench.errors import ConfigError
from workbench.gateway import provider_secrets
from workbench.gateway.private import keep_private
from workbench.workspace import gateway_process, provider_keys

PARAMS = """\
use_cases:
  answers:
    title: Questions
    purpose: To see whose keys are taken.
    owner: tests
    phase: mvp
    notebook: notebooks/answers.ipynb
    tenants: [acme, big-co]
    data: data/answers
    model: scripted
    provider: openai
    base_url: https://example.com/v1
    api_key_env: ANSWERS_KEY
    memory_provider: weaviate
    memory_api_key_env: MEMORY_KEY_{tenant}
    report: reports/answers
    gates: {mvp: {cases: {min: 2}}, mlvp: {cases: {min: 2}}}
"""
KNOWN = {"OPENAI_API_KEY", "ANSWERS_KEY", "MEMORY_KEY_ACME", "MEMORY_KEY_BIG_CO"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.setattr(provider_keys, "_taken", {})
    monkeypatch.setattr(processes, "_withheld", set())
    return tmp_path


def test_the_keys_that_params_name_are_taken_and_others_stay(root):
    params = config.load_params(root)
    assert provider_keys.variables(root, params) == KNOWN
    environment = {"ANSWERS_KEY": "a", "MEMORY_KEY_BIG_CO": "b", "OPENAI_API_KEY": "", "GITHUB_TOKEN": "c"}
    taken = provider_keys.take(root, params, environment)
    assert taken == {"ANSWERS_KEY": "a", "MEMORY_KEY_BIG_CO": "b"}
    assert environment == {"GITHUB_TOKEN": "c"}
    assert provider_keys.take(root, params, environment) == taken, "a second workspace hands them over too"
    provider_keys.put_back(environment)
    assert environment == {"GITHUB_TOKEN": "c"} | taken, "for a command that asks a server itself"


def test_a_stored_key_is_a_private_file_and_no_error_shows_it(root):
    provider_keys.store(root, "ANSWERS_KEY", " sk-1 \n")
    provider_keys.store(root, "OTHER_KEY", "sk-2")
    path = root / provider_keys.SECRETS
    assert provider_keys.stored(root) == {"ANSWERS_KEY": "sk-1", "OTHER_KEY": "sk-2"}
    assert path.stat().st_mode & 0o777 == 0o600
    provider_keys.store(root, "OTHER_KEY", None)
    assert provider_keys.stored(root) == {"ANSWERS_KEY": "sk-1"}
    for secret in ("", "sk-3\nsk-4", "s\u0301ecret-of-3", "sk-3" * 10_000):
        with pytest.raises(ConfigError, match="ANSWERS_KEY") as found:
            provider_keys.store(root, "ANSWERS_KEY", secret)
        assert "sk-3" not in str(found.value) and "secret-of-3" not in str(found.value)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others"):
        provider_keys.stored(root)
    path.chmod(0o600)
    path.write_text('["sk-5"]')
    with pytest.raises(ConfigError, match="does not hold keys") as found:
        provider_keys.stored(root)
    assert "sk-5" not in str(found.value)


def test_what_the_gateway_holds_is_not_inherited_by_its_children(root, monkeypatch):
    monkeypatch.setenv("ANSWERS_KEY", "before")
    assert processes.inherited() is None
    assert provider_secrets.hold_keys(b'{"keys": {"ANSWERS_KEY": "sk-1"}}')
    assert not provider_secrets.hold_keys(b'{"keys": {"ANSWERS_KEY": "sk-1"}}'), "nothing has changed"
    assert os.environ["ANSWERS_KEY"] == "sk-1"
    child = processes.inherited()
    assert ("ANSWERS_KEY" in child, "PATH" in child) == (False, True)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"keys": {"A": 1}}', b'{"keys": {}, "more": 1}'])
def test_odd_keys_are_refused(body):
    with pytest.raises(ConfigError):
        provider_secrets.hold_keys(body)


def test_a_gateway_lives_as_long_as_the_process_whose_keys_it_alone_has(monkeypatch):
    monkeypatch.setattr(provider_secrets, "_holders", set())
    assert not provider_secrets.is_held()
    provider_secrets._holders.add(os.getpid())
    assert provider_secrets.is_held()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    provider_secrets._holders.clear()
    provider_secrets._holders.add(child)
    assert not provider_secrets.is_held()


def test_the_memory_of_the_gateway_is_not_for_other_processes():
    """PR_GET_DUMPABLE of prctl is 3."""
    child = os.fork()
    if child == 0:
        keep_private()
        os._exit(ctypes.CDLL(None).prctl(3) if sys.platform == "linux" else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sys.platform != "linux" or ctypes.CDLL(None).prctl(3) == 1


def test_a_gateway_is_heard_through_a_descriptor_of_any_number():
    heard, told = os.pipe()
    high = fcntl.fcntl(heard, fcntl.F_DUPFD, 1_500)
    try:
        assert not gateway_process._is_told(high, 0)
        os.write(told, b"+")
        assert gateway_process._is_told(high, 1)
    finally:
        for descriptor in (heard, told, high):
            os.close(descriptor)
