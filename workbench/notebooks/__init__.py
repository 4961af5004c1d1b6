"""Notebooks: stored form, inspection, screening and execution."""
