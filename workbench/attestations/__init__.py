"""Attestations: signed in-toto statements about versions of jobs, and the keys that are trusted to sign."""

from workbench.attestations.dsse import Envelope
from workbench.attestations.folder import folder_of, store, stored
from workbench.attestations.keys import SigningKey, signed
from workbench.attestations.statement import Statement, Subject
from workbench.attestations.trust import Role, Trust, TrustedKey, Verified, verified

__all__ = [
    "Envelope", "Role", "SigningKey", "Statement", "Subject", "Trust", "TrustedKey", "Verified", "folder_of",
    "signed", "store", "stored", "verified",
]  # fmt: skip
