"""Lay out what people begin with: a new use case in a repository, and a new repository."""
