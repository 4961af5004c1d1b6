"""Memory stores: `sqlite`, embedded; `snapshot`, pinned and read-only. Each one implements `ports.Memory`."""
