from __future__ import annotations

from made_jobs import PARAMS, a_spec

from workbench import config, files
from workbench.config.operations import OPERATIONS, load_operations
from workbench.jobs.exports.variables import variables_of

CARD = "provider: openai\napi_key: TINY_KEY\n"
SERVER = """    memory_provider: weaviate
    memory_url: http://127.0.0.1:8080
    memory_api_key_env: WEAVIATE_{tenant}
    prompt: {"""
ENDPOINT = """    model: tiny
    provider: openai
    base_url: https://models.example.com/v1
    api_key_env: CASE_KEY
"""
OPERATED = """channels:
  oncall: {webhook_env: ONCALL_WEBHOOK}
  mail:
    mail: {host: mail.example.com, sender: a@e.com, to: [b@e.com], user: u, password_env: MAIL_PASSWORD}
  other: {url_env: OTHER_URL}
jobs:
  answers: {notify: [oncall, mail]}
"""


def named(root, params=PARAMS, card="provider: local\n"):
    files.write_atomic(root / "params.yaml", params.encode())
    files.write_atomic(root / "version/models/tiny/1.yaml", card.encode())
    return variables_of(config.load_params(root), load_operations(root), a_spec(), root / "version")


def test_an_embedded_model_and_memory_need_none(tmp_path):
    assert named(tmp_path) == ()


def test_the_frozen_card_names_the_key_of_its_model(tmp_path):
    assert named(tmp_path, card=CARD) == ("TINY_KEY",)
    assert named(tmp_path, card="provider: openai\n") == ("OPENAI_API_KEY",)


def test_the_use_case_the_ledger_and_the_channels_of_today_name_theirs(tmp_path):
    files.write_atomic(tmp_path / OPERATIONS, OPERATED.encode())
    params = PARAMS.replace("    prompt: {", SERVER, 1).replace("    model: tiny\n", ENDPOINT)
    params += "budget_url: postgresql://u@db.example.com/budgets\nbudget_password_env: LEDGER_PASSWORD\n"
    assert named(tmp_path, params) == (
        "CASE_KEY", "LEDGER_PASSWORD", "MAIL_PASSWORD", "ONCALL_WEBHOOK", "WEAVIATE_ACME", "WEAVIATE_GLOBEX",
    )  # fmt: skip
