"""Template processes: they have imported a program's modules, and fork a fresh process for each run."""
