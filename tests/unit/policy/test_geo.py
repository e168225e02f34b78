"""Where addresses are, and databases that change while they are in use."""

import ipaddress
import os
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from zt_proxy.core.types import Origin
from zt_proxy.policy.geo import GENERATION, Origins, OriginSettings, Zones, parse_address

Records = dict[str, dict[str, object]]


def write(path: Path, records: Records, *, kind: str = "GeoLite2-Country") -> None:
    """A database, put in place by a rename as `geoipupdate` does."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path) + ".new")
    os.rename(str(path) + ".new", path)


def country(code: str) -> dict[str, object]:
    return {"country": {"iso_code": code}}


GERMANY: Records = {"81.2.69.0/24": country("DE"), "2a02:db8::/32": country("DE")}


@pytest.mark.parametrize(
    ("address", "zones"),
    [
        ("192.0.2.7", {"office", "europe"}),
        ("::ffff:192.0.2.7", {"office", "europe"}),
        ("192.0.3.7", {"europe"}),
        ("198.51.100.1", set()),
        ("2001:db8::5", {"office"}),
        ("2001:db9::5", set()),
        ("fe80::1%eth0", {"link"}),
        ("", set()),
        ("unix", set()),
    ],
)
def test_zones_are_the_networks_that_contain_the_address(address: str, zones: set[str]) -> None:
    settings = OriginSettings(
        zones=(
            ("office", ("192.0.2.0/24", "2001:db8::/32")),
            ("europe", ("192.0.0.0/16",)),
            ("link", ("fe80::/10",)),
        )
    )
    assert Origins(settings).of(address).zones == zones


def test_a_network_of_every_address_contains_every_address() -> None:
    zones = Zones([("all", ("0.0.0.0/0", "::/0"))])
    assert zones.of(ipaddress.ip_address("203.0.113.9")) == {"all"}
    assert zones.of(ipaddress.ip_address("2001:db8::1")) == {"all"}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fd00::1", "203.0.113.9"])
def test_nobody_knows_the_country_of_an_address_that_is_nowhere(address: str) -> None:
    assert Origins(OriginSettings()).of(address) == Origin(address)


def test_the_table_that_comes_along_knows_countries() -> None:
    origins = Origins(OriginSettings())
    assert origins.of("193.0.6.139").country == "NL"
    assert origins.of("::ffff:193.0.6.139").country == "NL"
    assert origins.of("193.0.6.139").asn is None


def test_the_operators_databases_say_country_and_network(tmp_path: Path) -> None:
    write(tmp_path / "country.mmdb", GERMANY)
    write(tmp_path / "asn.mmdb", {"81.2.69.0/25": {"autonomous_system_number": 64500}}, kind="GeoLite2-ASN")
    origins = Origins(OriginSettings((), tmp_path / "country.mmdb", tmp_path / "asn.mmdb"), tmp_path / "geo")
    assert origins.of("81.2.69.1") == Origin("81.2.69.1", frozenset(), "DE", 64500)
    assert origins.of("81.2.69.200") == Origin("81.2.69.200", frozenset(), "DE", None)
    assert origins.of("2a02:db8::1").country == "DE"
    assert origins.of("193.0.6.139").country is None  # the operator's database is the only one that is asked


@pytest.mark.parametrize(
    ("record", "known"),
    [
        ({"country": {"iso_code": "de"}}, "DE"),
        ({"country_code": "DE"}, "DE"),
        ({"country": "DE"}, "DE"),
        ({"country": "Germany"}, None),
        ({"country": {"iso_code": "DEU"}}, None),
        ({"country": {}}, None),
        ({}, None),
    ],
)
def test_records_of_other_makers_are_understood(tmp_path: Path, record: dict[str, object], known: str | None) -> None:
    write(tmp_path / "c.mmdb", {"81.2.69.0/24": record})
    assert Origins(OriginSettings((), tmp_path / "c.mmdb")).of("81.2.69.1").country == known


def test_a_database_of_cities_gives_coordinates(tmp_path: Path) -> None:
    located = {**country("DE"), "location": {"latitude": 52.5, "longitude": 13.4}}
    wrong = {**country("DE"), "location": {"latitude": 152.5, "longitude": 13.4}}
    write(tmp_path / "city.mmdb", {"81.2.69.0/25": located, "81.2.69.128/25": wrong})
    origins = Origins(OriginSettings((), tmp_path / "city.mmdb"))
    berlin, nowhere = origins.place("81.2.69.1"), origins.place("81.2.69.129")
    assert (berlin.origin.country, berlin.latitude, berlin.longitude) == ("DE", 52.5, 13.4)
    assert (nowhere.latitude, nowhere.longitude) == (None, None)


def test_a_header_is_believed_only_where_the_operator_named_one() -> None:
    open_, closed = Origins(OriginSettings(insecure_origin_header="x-demo-country")), Origins(OriginSettings())
    assert open_.of("127.0.0.1", "br").country == "BR"
    assert open_.of("127.0.0.1").country is None
    assert open_.of("127.0.0.1", "Brazil").country is None
    assert closed.of("127.0.0.1", "BR").country is None


def test_what_is_remembered_is_bounded() -> None:
    origins = Origins(OriginSettings())
    for number in range(3 * GENERATION):
        origins.of(str(ipaddress.IPv4Address(0x0A000000 + number)))
    assert len(origins._young) + len(origins._old) <= 2 * GENERATION


def test_a_new_database_is_taken_over_and_the_answers_of_before_are_forgotten(tmp_path: Path) -> None:
    path, copies = tmp_path / "country.mmdb", tmp_path / "geo"
    write(path, GERMANY)
    settings = OriginSettings((), path)
    control, worker = Origins(settings, copies), Origins(settings, copies)
    assert worker.of("81.2.69.1").country == "DE"
    assert not control.refresh(copy=True)
    write(path, {"81.2.69.0/24": country("FR")})
    assert not worker.refresh()  # a worker waits for control to take it over
    assert worker.of("81.2.69.1").country == "DE"
    assert control.refresh(copy=True)
    assert worker.refresh()
    assert (control.of("81.2.69.1").country, worker.of("81.2.69.1").country) == ("FR", "FR")
    assert len(list(copies.glob("*.mmdb"))) == 1


@pytest.mark.parametrize("how", ["broken", "cut", "gone"])
def test_a_broken_or_missing_database_keeps_the_one_of_before_and_says_so(tmp_path: Path, how: str) -> None:
    path = tmp_path / "country.mmdb"
    write(path, GERMANY)
    origins = Origins(OriginSettings((), path), tmp_path / "geo")
    if how == "gone":
        path.unlink()
    elif how == "cut":  # in place, as `cp` does: what is mapped is a copy
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.write_bytes(b"not a database")
    assert not origins.refresh(copy=True)
    assert origins.place("81.2.69.1").origin.country == "DE"
    assert origins.of("81.2.69.99").country == "DE"
    [problem] = origins.problems()
    assert str(path) in problem
    assert "the one of before is in use" in problem
    assert Origins(OriginSettings((), path), tmp_path / "geo").of("81.2.69.1").country == "DE"  # after a restart, too
    write(path, {"81.2.69.0/24": country("FR")})
    assert origins.refresh(copy=True)
    assert (origins.of("81.2.69.1").country, origins.problems()) == ("FR", ())


def test_without_any_usable_database_nobody_knows_the_country(tmp_path: Path) -> None:
    origins = Origins(OriginSettings((), tmp_path / "missing.mmdb"), tmp_path / "geo")
    assert origins.of("193.0.6.139").country is None
    assert len(origins.problems()) == 1


def test_an_ipv4_address_written_as_ipv6_is_ipv4() -> None:
    assert parse_address("::ffff:192.0.2.1") == ipaddress.ip_address("192.0.2.1")
    assert parse_address("nonsense") is None
