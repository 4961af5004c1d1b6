"""Control tokens of chat templates in texts: made harmless, so that data cannot begin a turn."""

from __future__ import annotations

import re
from typing import Final

#: As servers write them into prompts: ChatML and Llama 3, DeepSeek, Llama 2 and Mistral, Gemma, T5.
_CONTROL: Final = re.compile(
    r"<(?=\|[A-Za-z0-9_ ./:-]{1,64}\|>)"
    r"|<(?=\uff5c[^<>\uff5c]{1,64}\uff5c>)"
    r"|<(?=/?s>|/?(?:bos|eos|pad|unk|mask|think|tool_call|tool_response)>|(?:start|end)_of_turn>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)
#: U+2060, the word joiner: invisible, and no tokenizer reads a token across it.
_JOINER: Final = "\u2060"


def neutralised(text: str) -> str:
    """Return the text with a word joiner (U+2060) inside each control token; other texts are unchanged.

    A server that reads control tokens in the content of a message would let a passage that holds
    `<|im_end|>` end its turn and begin another one.
    """
    return _CONTROL.sub(lambda found: found[0] + _JOINER, text) if "<" in text or "[" in text else text
