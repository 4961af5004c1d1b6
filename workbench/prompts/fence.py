"""Fence untrusted text in prompts: the filter `fenced` of templates."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import ConfigError
from workbench.moderation.fence import fence
from workbench.prompts.control_tokens import neutralised
from workbench.types import Hit


def fenced(value: object) -> str:
    """Return a text, a passage or several of them between marks that the text cannot contain.

    Passages are numbered from 1 in their opening marks, with their sources. The same values give the same
    text. Raise ConfigError for a value that is neither.
    """
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    texts, titles = [], []
    for number, item in enumerate(values, start=1):
        if isinstance(item, Hit):
            texts.append(neutralised(item.text))
            titles.append(f"{number} {neutralised(item.source)}")
        elif isinstance(item, str):
            texts.append(neutralised(item))
            titles.append("")
        else:
            raise ConfigError(
                f"the filter fenced takes texts and passages, found {type(item).__name__}",
                hint="write {{ passages | fenced }}, {{ passages[:1] | fenced }} or {{ text | fenced }}",
            )
    return fence(texts, titles)
