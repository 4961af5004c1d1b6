"""Prompts: versioned templates, and the window of a conversation."""

from workbench.prompts.prompt import Prompt, load, parse

__all__ = ["Prompt", "load", "parse"]
