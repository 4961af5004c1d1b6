"""The embedded memory store: one SQLite file for each memory."""
