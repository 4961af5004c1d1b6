"""The section `gateway` of params.yaml, and what a server does with an edit that is not valid."""

from __future__ import annotations

from pathlib import Path

import pytest
from documented_pages import blocks_of, page_of

from workbench import config
from workbench.config import GatewaySettings
from workbench.config.params import LastValid
from workbench.errors import ConfigError

PARAMS = (Path(__file__).resolve().parents[3] / "params.yaml").read_text()
BARE = "\n".join(line for line in PARAMS.splitlines() if not line.startswith("gateway:")) + "\n"


def stated(tmp_path, section: str) -> GatewaySettings:
    (tmp_path / "params.yaml").write_text(BARE + section)
    return GatewaySettings.of(config.load_params(tmp_path).gateway)


def test_the_section_is_a_mode_a_url_or_a_mapping(tmp_path):
    assert stated(tmp_path, "").use == "auto"
    assert stated(tmp_path, "gateway: auto\n").use == "auto"
    assert stated(tmp_path, "gateway: off\n").use == "off"
    assert stated(tmp_path, "gateway: https://gateway.example.com\n").use == "https://gateway.example.com"
    found = stated(tmp_path, "gateway:\n  use: auto\n  workers: 2\n  limits: {body_mib: 1, head_s: 2.5}\n")
    assert (found.use, found.workers, found.limits.body_mib, found.limits.head_s) == ("auto", 2, 1, 2.5)
    assert found.place == ("127.0.0.1", 8340) and found.mode == "live"
    public = "{certificate: deploy/a.pem, key: deploy/a.key}"
    section = f'gateway: {{address: "[::]:8340", public: true, tls: {public}}}\n'
    assert stated(tmp_path, section).place == ("::", 8340)


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ("atuo", "'auto'"),
        ("http://gateway.example.com", "https"),
        ("https://user:key@gateway.example.com", "without"),
        ("https://gateway.example.com/?key=1", "without"),
        ("{address: 10.0.0.1:1}", "public"),
        ("{address: 10.0.0.1:1, public: true}", "TLS"),
        ("{address: localhost}", "HOST:PORT"),
        ("{address: 'localhost:99999'}", "HOST:PORT"),
        ("{workers: 0}", "workers"),
        ("{mode: replay}", "mode"),
        ("{limits: {head_s: 0}}", "head_s"),
        ("{limits: {body_mib: -1}}", "body_mib"),
        ("{limits: {bodymib: 1}}", "body_mib"),
        ("{tls: {certificate: /etc/a.pem, key: a.key}}", "certificate"),
        ("{port: 1}", "port"),
    ],
)
def test_a_value_that_no_gateway_could_use_names_its_key(tmp_path, section, word):
    with pytest.raises(ConfigError, match=r"params\.yaml") as caught:
        stated(tmp_path, f"gateway: {section}\n")
    assert word in str(caught.value)


def test_the_settings_of_the_page_are_valid(tmp_path):
    (section,) = blocks_of(page_of("gateway.md"), "yaml")
    found = stated(tmp_path, section)
    assert (found.workers, found.limits.streams, found.address) == (2, 100, config.DEFAULT_ADDRESS)


def test_a_server_keeps_the_last_valid_file(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.config.params._LOOKED_S", 0.0)
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    kept = LastValid(path)
    first = kept.params()
    path.write_text(PARAMS.replace("phase: mvp", "phase: never", 1))
    assert kept.params() == first and "phase" in kept.problem
    path.unlink()
    assert kept.params() == first and kept.problem
    path.write_text(PARAMS.replace("phase: mvp", "phase: mlvp", 1))
    assert kept.params() != first and not kept.problem
