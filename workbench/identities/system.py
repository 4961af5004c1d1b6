"""Identity provider of the operating system: it asserts the name of the process's user."""

from __future__ import annotations

from workbench import identity
from workbench.identities.tokens import refused
from workbench.ports.identity import Identity


class SystemProvider:
    """Names the user of the process. The name is asserted: whoever runs the machine chooses it."""

    name = "system"

    def identify(self, token: str | None = None) -> Identity:
        """Return the user of the process; raise RefusedError for a token, which nothing can verify."""
        if token is not None:
            raise refused(
                "params.yaml names no issuer of tokens, so a token proves nothing",
                hint="state provider: oidc under identity in params.yaml (docs/identity.md)",
            )
        return Identity(principal=identity.from_system())
