"""Verify an exported folder of evidence a second time: a verifier that shares no code with the workbench."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def faults_of(folder: Path, public_pem: bytes) -> set[str]:
    """The names of the files that are not as they were signed."""
    found = {
        p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()
    }
    try:
        exported = payload_of(folder / "export.dsse.json", [public_pem])
    except (ValueError, KeyError, InvalidSignature):
        return {"export.dsse.json"}
    signed = {item["name"]: item["digest"]["sha256"] for item in exported["subject"]}
    actual = {
        name: "" if p.is_symlink() else sha256(p)
        for name, p in found.items()
        if p != folder / "export.dsse.json"
    }
    faults = {name for name in signed.keys() | actual.keys() if signed.get(name) != actual.get(name)}
    keys = keys_in(folder / "keys.yaml") if "keys.yaml" not in faults else []
    page = actual.get("version/job.yaml")
    for name, path in found.items():
        if name.startswith("statements/") and name not in faults:
            try:
                said = payload_of(path, keys)
            except (ValueError, KeyError, InvalidSignature):
                faults.add(name)
                continue
            digests = {item["name"]: item["digest"]["sha256"] for item in said["subject"]}
            # An approval and a withdrawal name the page by its path in the repository.
            names = {n: "version/" + re.sub(r"^pipelines/jobs/[^/]+/\d+/", "", n) for n in digests}
            here = {n: actual.get(names[n], actual.get(f"statements/{n}")) for n in digests}
            if digests != here or page not in digests.values():
                faults.add(name)
    return faults


def payload_of(path: Path, pems: list[bytes]) -> dict:
    """The statement in an envelope that one of the keys signed."""
    envelope = json.loads(path.read_bytes())
    if sorted(envelope) != ["payload", "payloadType", "signatures"] or len(envelope["signatures"]) != 1:
        raise ValueError("no envelope")
    if json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode() + b"\n" != path.read_bytes():
        raise ValueError("not canonical")
    payload = base64.b64decode(envelope["payload"], validate=True)
    if base64.b64encode(payload).decode() != envelope["payload"]:
        raise ValueError("loose base64")
    kind = envelope["payloadType"].encode()
    message = b"DSSEv1 " + b" ".join([str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    signature = envelope["signatures"][0]
    for pem in pems:
        key = load_pem_public_key(pem)
        der = base64.b64decode(b"".join(pem.strip().splitlines()[1:-1]))
        if hashlib.sha256(der).hexdigest() == signature["keyid"]:
            key.verify(base64.b64decode(signature["sig"], validate=True), message)
            return json.loads(payload)
    raise ValueError("unknown key")


def keys_in(path: Path) -> list[bytes]:
    """The public keys in the file of trusted keys."""
    blocks = re.findall(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", path.read_text(), re.DOTALL)
    return [re.sub(r"\n\s+", "\n", block).encode() + b"\n" for block in blocks]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
