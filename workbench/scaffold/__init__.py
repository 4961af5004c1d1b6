"""Lay out what people begin with: a new use case from its templates."""
