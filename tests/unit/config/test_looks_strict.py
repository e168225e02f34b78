"""Files that look strict and are not: what they leave open is told."""

from pathlib import Path

import pytest

from .examples import PLAIN
from .test_check import said

REPORTS = PLAIN.replace("    host: flows", "    mode: report\n    host: flows")
ORG = "rules: [{id: org, deny: [{paths: ['/healthz']}]%s}]\n"
LOOSE = {
    "stage: least-privilege\nwatch: {respond: enforce}\n": "locks nobody while the file has `stage: least-privilege`",
    "stage: identity\nwatch: {volume: {respond: enforce}}\n": "locks nobody while the file has `stage: identity`",
    "mode: report\nwatch: {first_use: {respond: enforce}}\n": "locks nobody while the file has `mode: report`",
    ORG % ", to: anyone-signed-in": "rule `org` stops nobody who signs out: `health` lets strangers through there",
    ORG % ", to: {groups: [staff]}": "rule `org` stops nobody who signs out: `health` lets strangers through there",
}
STRICT = [
    "stage: monitor\nwatch: {respond: enforce}\n",
    ORG % "",
    ORG % ", to: public",
    "rules: [{id: org, deny: all, to: {groups: [guests]}}]\n",
]


@pytest.mark.parametrize("more", LOOSE)
def test_what_looks_strict_and_is_not_is_told(place: Path, more: str) -> None:
    assert [line for line in said(place, PLAIN + more) if LOOSE[more] in line]


@pytest.mark.parametrize("more", STRICT)
def test_what_is_strict_is_told_nothing(place: Path, more: str) -> None:
    assert not [line for line in said(place, PLAIN + more) if "stops nobody" in line or "locks nobody" in line]


def test_a_route_that_reports_is_told_that_nothing_from_above_stops_anybody(place: Path) -> None:
    told = [line for line in said(place, REPORTS + ORG % "") if "rules from above stop nobody" in line]
    assert len(told) == 1
    assert not [line for line in said(place, REPORTS) if "from above" in line]


def test_a_group_that_differs_by_case_alone_is_told(place: Path) -> None:
    told = said(place, PLAIN.replace("[releasers]", "[Staff]"))
    assert [line for line in told if "`Staff` is nearly spelled as `staff`" in line or "`staff` is nearly" in line]


def test_masks_on_a_platform_that_lives_by_its_websockets_are_told_of_them(place: Path) -> None:
    masked = PLAIN.replace("    rules:", '    profile: node-red\n    mask: [{fields: ["$..iban"]}]\n    rules:')
    assert [line for line in said(place, masked) if "open WebSockets, which are refused to whoever is masked" in line]
    chosen = masked.replace("    rules:", "    answers: {websocket: refuse}\n    rules:")
    assert not [line for line in said(place, chosen) if "open WebSockets" in line]
