"""The scheduler of promoted jobs: what is due, the runs of a server, its health, and rehearsals."""
