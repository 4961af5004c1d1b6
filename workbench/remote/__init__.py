"""Both ends of the native protocol: a call of one process is answered by the boundary of another."""
