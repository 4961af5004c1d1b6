"""List the packages of a lock as a software bill of materials: CycloneDX 1.6."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError

#: The type of the statement whose predicate is the bill.
SBOM_TYPE: Final = "https://cyclonedx.org/bom"
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)\s*(?:;\s*(.*?))?\s*\\?")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_VIA = re.compile(r"#(?:\s+via)?\s+([A-Za-z0-9][A-Za-z0-9._-]*)(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A pinned package: name, version, marker, the hashes of its files, and the packages that need it."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()
    via: tuple[str, ...] = ()


def packages_of(lock: bytes, *, where: str) -> tuple[Package, ...]:
    """Return the packages of a lock; ConfigError names the line that is no pinned package.

    A lock for several systems may pin a package twice, under different markers.
    """
    found: list[Package] = []
    for number, line in enumerate(lock.decode(errors="replace").splitlines(), start=1):
        text = line.strip()
        if not text or (text.startswith("#") and not found):
            continue
        if pinned := _PINNED.fullmatch(line):
            found.append(Package(name=normal_name(pinned[1]), version=pinned[2], marker=pinned[3] or ""))
        elif found and (hashed := _HASH.match(text)):
            found[-1] = replace(found[-1], hashes=(*found[-1].hashes, hashed[1]))
        elif found and text.startswith("#"):
            if (via := _VIA.fullmatch(text)) and via[1] != "via":
                found[-1] = replace(found[-1], via=(*found[-1].via, normal_name(via[1])))
        else:
            what = f"{files.shortened(text)!r} is no pinned package"
            raise ConfigError(f"{where}:{number}: {what}", hint="make lock")
    return tuple(found)


def bill(
    packages: Sequence[Package], *, job: str, version: int, page: str, at: dt.datetime
) -> dict[str, Any]:
    """Return the bill of the packages of a version; `page` is the SHA-256 of its job.yaml.

    The serial number comes from `page` and `at`, so that equal arguments give equal bytes.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    ref = f"{job}@{version}"
    root = Component(name=job, version=str(version), type=ComponentType.APPLICATION, bom_ref=ref)
    parts = [(item, _component(item)) for item in packages]
    made = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:workbench:{page}:{at.isoformat()}"),
        metadata=BomMetaData(timestamp=at, component=root),
        components=[part for _, part in parts],
    )
    names = {item.name for item in packages}
    direct = [part for item, part in parts if not item.via or set(item.via) - names]
    made.register_dependency(root, direct)
    for parent, part in parts:
        made.register_dependency(part, [other for item, other in parts if parent.name in item.via])
    raw: dict[str, Any] = files.parse_json(JsonV1Dot6(made).output_as_string(), where="bill of materials")
    return raw


def _component(package: Package) -> Any:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    # CycloneDX takes the hashes of a component for those of one file; a lock has one for each platform.
    told = [Property(name="workbench:lock:hashes", value=files.digest(sorted(package.hashes)))]
    if package.marker:
        told.append(Property(name="workbench:lock:marker", value=package.marker))
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("pypi", None, package.name, package.version),
        bom_ref=f"{package.name}@{package.version}",
        properties=told,
    )


def normal_name(name: str) -> str:
    """Return the name of a package as registries compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()
