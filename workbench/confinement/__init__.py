"""Confinement: a process without network that opens the files it was given and no other."""
