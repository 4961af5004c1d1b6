"""Experiments: a dataset, a task, scorers; runs, their comparison, and the gates they must pass."""
