"""Keys are found in all forms that detect-secrets knows for an issuer."""

import importlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.privacy import PatternDetector

DETECTOR = PatternDetector()
#: Plugins of detect-secrets whose forms are an issuer's, and which of their patterns.
PLUGINS = {
    "aws.AWSKeyDetector": 0, "azure_storage_key.AzureStorageKeyDetector": 0,
    "discord.DiscordBotTokenDetector": 0,
    "github_token.GitHubTokenDetector": 0, "gitlab_token.GitLabTokenDetector": 0,
    "openai.OpenAIDetector": 0,
    "pypi_token.PypiTokenDetector": 0, "sendgrid.SendGridDetector": 0, "slack.SlackDetector": 0,
    "square_oauth.SquareOAuthDetector": 0, "stripe.StripeDetector": 0,
}  # fmt: skip


def found(text: str) -> list[str]:
    return [text[each.start : each.end] for each in DETECTOR.find(text) if each.kind == "secret"]


def pattern(plugin: str) -> re.Pattern[str]:
    module, name = plugin.split(".")
    form = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name).denylist[
        PLUGINS[plugin]
    ]
    return re.compile(form.pattern, form.flags & ~re.UNICODE | re.ASCII)


def is_long(key: str) -> bool:
    """No issuer has shorter keys."""
    return len(key) >= 18


@pytest.mark.parametrize("plugin", PLUGINS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_key_of_each_form_that_detect_secrets_knows_is_found(plugin, data):
    key = data.draw(st.from_regex(pattern(plugin), fullmatch=True).filter(is_long))
    assert any(value in key or key in value for value in found(f"the key {key} leaked"))
