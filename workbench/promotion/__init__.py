"""Promotion: executing notebooks, reproducing the pipeline, and the readiness page."""
