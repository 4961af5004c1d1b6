"""Prompts: versioned templates, and the window of a conversation."""
