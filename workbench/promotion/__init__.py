"""Promotion: freezing a judged notebook into a version, and moving labels."""
