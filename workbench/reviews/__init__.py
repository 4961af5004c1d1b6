"""Blind reviews: people compare the answers of two runs, and their decisions are kept as labels."""
