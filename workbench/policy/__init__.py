"""Policies: who may do what with which resource, by Cedar files in `pipelines/policies`."""
