"""Where an address is: the operator's networks, the country, the autonomous system. Control and workers ask the same."""

from pathlib import Path

import msgspec


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
