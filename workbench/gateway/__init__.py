"""The gateway: the boundary in a process of its own, asked over HTTP by any language and tool."""
