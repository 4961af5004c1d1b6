"""Fakes and contract suites, for our tests and for those who write an adapter of their own."""
