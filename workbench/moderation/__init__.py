"""Checks of what a model is sent and what it answers, as functions of texts; no check calls a model."""
