"""Identity provider of a CI: the token that the CI issues to a pipeline authenticates it as a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.identities.oidc import OIDCProvider
from workbench.identities.tokens import checked_name
from workbench.identity import Principal


class CIProvider(OIDCProvider):
    """Identifies a pipeline of a CI by its token. `identity.require` says which repository it must be of."""

    name = "ci"

    def principal(self, claims: Mapping[str, Any], where: str) -> Principal:
        """Return the pipeline as a job whose name begins with `ci:`, without rights."""
        claim = self.settings.claims.name
        name = checked_name(claims.get(claim), claim, where)
        return Principal(name=f"ci:{name}", kind="job", assurance="authenticated")
