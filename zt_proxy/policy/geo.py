"""Where an address is: the operator's networks, the country, the autonomous system.

Control asks at the sign-in, a worker for each request; both get the same answer. Databases are opened by
`policy.geo_files`, which also sees when they change.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zt_proxy.core.types import Origin

if TYPE_CHECKING:
    from zt_proxy.policy.geo_files import DatabaseFile

COPIES = "geo"
"""Folder under the runtime directory with the copies of databases that control and workers map."""
GENERATION = 4096
"""Addresses of one generation of the cache; two are kept: at most 8,192 addresses."""

Address = IPv4Address | IPv6Address


class OriginSettings(msgspec.Struct, frozen=True):
    """`networks` and `geoip` of the configuration."""

    zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name, its networks in CIDR notation), as under `networks`."""
    country_database: Path | None = None
    """MaxMind DB with `country.iso_code`; None: the table of countries that the program brings along."""
    asn_database: Path | None = None
    """MaxMind DB with `autonomous_system_number`; None: nobody knows the autonomous system."""
    insecure_origin_header: str = ""
    """Name of a request header that is believed when it names a country: for a demo alone. Empty: none is."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """An origin, and where on Earth it is, in degrees, if the country database says so."""

    origin: Origin
    latitude: float | None = None
    longitude: float | None = None


class Zones:
    """Which networks contain an address. An address is looked up once for each length of prefix that occurs."""

    def __init__(self, zones: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Raises ValueError for what is no network."""
        tables: dict[int, dict[int, dict[int, frozenset[str]]]] = {4: {}, 6: {}}
        for name, networks in zones:
            for text in networks:
                network = ip_network(text, strict=False)
                shift = network.max_prefixlen - network.prefixlen
                table = tables[network.version].setdefault(shift, {})
                key = int(network.network_address) >> shift
                table[key] = table.get(key, frozenset()) | {name}
        self._tables = {version: tuple(found.items()) for version, found in tables.items()}

    def of(self, address: Address) -> frozenset[str]:
        """Names of the zones with a network that contains it."""
        number = int(address)
        found: frozenset[str] = frozenset()
        for shift, table in self._tables[address.version]:
            names = table.get(number >> shift)
            if names is not None:
                found = found | names
        return found


def _opened(path: Path | None, copies: Path | None) -> "DatabaseFile | None":
    """Its reader is imported by those alone who have a database: it takes a worker two megabytes."""
    if path is None:
        return None
    from zt_proxy.policy.geo_files import DatabaseFile

    return DatabaseFile(path, copies)


class Origins:
    """Looks addresses up, and remembers the last few thousand. Not for several threads at once, but for `refresh`."""

    def __init__(self, settings: OriginSettings, copies: Path | None = None) -> None:
        """`copies`: folder for copies of the databases, see `DatabaseFile`. Raises ValueError for a wrong network."""
        self.settings = settings
        self._zones = Zones(settings.zones)
        self._country = _opened(settings.country_database, copies)
        self._asn = _opened(settings.asn_database, copies)
        self._young: dict[str, Origin] = {}
        self._old: dict[str, Origin] = {}

    def of(self, address: str, claimed: str | None = None) -> Origin:
        """Where an address comes from. `claimed`: value of `insecure_origin_header`, which counts only where the
        settings name that header; two letters, or it says nothing. Who claims to be elsewhere is in none of the
        networks."""
        if claimed is not None and self.settings.insecure_origin_header and _is_country(claimed):
            return msgspec.structs.replace(self.of(address), country=claimed.upper(), zones=frozenset())
        found = self._young.get(address)
        if found is not None:
            return found
        found = self._old.get(address)
        if found is None:
            found = self._look(address)
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[address] = found
        return found

    def place(self, address: str, claimed: str | None = None) -> Place:
        """The same, with coordinates."""
        origin = self.of(address, claimed)
        parsed = parse_address(address)
        if parsed is None or self._country is None or (claimed and self.settings.insecure_origin_header):
            return Place(origin)
        latitude, longitude = _coordinates(self._country.get(parsed))
        return Place(origin, latitude, longitude)

    def refresh(self, *, copy: bool = False) -> bool:
        """Look whether a database has changed; True if another one is in use now. A look costs two calls of the kernel.

        `copy`: take a changed file over, which reads all of it and may be called in a thread. Control does so; a
        worker, which does not wait for a disk, finds what control took over at its next look.
        """
        changed = [each.refresh(copy=copy) for each in (self._country, self._asn) if each is not None]
        if any(changed):
            self._young, self._old = {}, {}
        return any(changed)

    def problems(self) -> tuple[str, ...]:
        """What keeps a database from being used as it is on the disk."""
        return tuple(each.problem for each in (self._country, self._asn) if each is not None and each.problem)

    def _look(self, address: str) -> Origin:
        parsed = parse_address(address)
        if parsed is None:
            return Origin(address)
        if parsed.is_loopback:
            return Origin(address, self._zones.of(parsed))
        return Origin(address, self._zones.of(parsed), self._country_of(parsed), self._asn_of(parsed))

    def _country_of(self, address: Address) -> str | None:
        if self._country is not None:
            return _country(self._country.get(address))
        from iptocc import country_code  # only who brings no database of their own pays for the table

        found = country_code(str(address))
        return found.upper() if isinstance(found, str) and _is_country(found) else None

    def _asn_of(self, address: Address) -> int | None:
        return _asn(self._asn.get(address)) if self._asn is not None else None


def parse_address(text: str) -> Address | None:
    """An address without its scope; an IPv4 address that was written as IPv6 is IPv4. None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_country(text: str) -> bool:
    return len(text) == 2 and text.isascii() and text.isalpha()


def _country(record: Any) -> str | None:
    """`country.iso_code` (MaxMind, DB-IP), else `country_code` (IPinfo)."""
    if not isinstance(record, dict):
        return None
    country = record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)
    return code.upper() if isinstance(code, str) and _is_country(code) else None


def _asn(record: Any) -> int | None:
    """`autonomous_system_number` (MaxMind, DB-IP), else `asn` as `AS64500` (IPinfo)."""
    if not isinstance(record, dict):
        return None
    number = record.get("autonomous_system_number")
    if type(number) is int:
        return number if 0 < number < 1 << 32 else None
    text = record.get("asn")
    digits = text.removeprefix("AS") if isinstance(text, str) else ""
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 10 else None


def _coordinates(record: Any) -> tuple[float | None, float | None]:
    """`location.latitude` and `.longitude` of a database of cities."""
    location = record.get("location") if isinstance(record, dict) else None
    if not isinstance(location, dict):
        return None, None
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if not isinstance(latitude, float | int) or not isinstance(longitude, float | int):
        return None, None
    if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):
        return None, None
    return float(latitude), float(longitude)
