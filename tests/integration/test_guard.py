"""A reload that would turn too many of the requests on record is refused; and the whole way of a replay."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fleet import ROOT, STAFF, Fleet
from tests.lab.waiting import until
from zt_proxy.config import read
from zt_proxy.control.audit.chain import Chain
from zt_proxy.control.risk.judge import person_line
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.lines import encode_line
from zt_proxy.core.session import Principal

GUARD = ("limits:", "guard: {max_changed: %s}\nlimits:")
REFUSED = "configuration not taken over; the one before stays in force"
NO_BOB = "{id: no-bob, deny: all, to: {groups: [bob]}}"
workers = pytest.mark.parametrize("workers", [0, 2])


@dataclass
class Recorded(Fleet):
    """A fleet whose people signed in on record, as at the portal."""

    async def _sign_in(self) -> None:
        await super()._sign_in()
        settings = read(self.config).control.audit
        chain = Chain.open(settings.directory, clock=SystemClock(), rotate_bytes=settings.rotate_bytes)
        for who, sid in self.sids.items():
            principal = Principal(who, "https://idp.test", "corp", name=who, groups=frozenset(("staff", who)))
            line = {"type": "signed-in", "v": 1, "at": SystemClock().now(), "sid": sid, **person_line(principal)}
            chain.append([encode_line(line)])
        chain.close()

    @property
    def audit(self) -> Path:
        return self.directory / "state" / "audit"

    async def recorded(self, count: int) -> None:
        """Wait until so many decisions are in the log."""

        def there() -> bool:
            return sum(text.count('"type":"decision"') for text in self._texts()) >= count

        await until(there)

    def _texts(self) -> list[str]:
        return [path.read_text() for path in self.audit.glob("*.jsonl")]

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "zt_proxy.cli.main", *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    async def replay(self, against: Path, *more: str) -> tuple[int, dict[str, Any]]:
        done = await self.command("replay", "--log", str(self.audit), "--against", str(against), "--json", *more)
        return done.returncode, json.loads(done.stdout) if done.returncode < 2 else {"problem": done.stderr}


async def ask_around(fleet: Recorded) -> None:
    for path in ("/", "/orders", "/orders/1"):
        assert (await fleet.get(path, "alice")).status == 200
        assert (await fleet.get(path, "bob")).status == 200
    assert (await fleet.get("/", None)).status in {302, 303, 401}
    await fleet.recorded(7)


async def test_a_log_against_its_own_rules_changes_nothing_and_against_others_exactly_what_they_change(
    tmp_path: Path,
) -> None:
    async with Recorded(tmp_path, workers=1) as fleet:
        await ask_around(fleet)
        code, report = await fleet.replay(fleet.config)
        assert (code, report["decisions"], report["compared"], report["changes"]) == (0, 7, 7, []), report
        fleet.rules = (STAFF, '{id: orders, deny: [{paths: ["/orders/**"]}], to: {groups: [bob]}}')
        other = tmp_path / "other.yaml"
        kept = fleet.config
        fleet.config = other
        fleet.write()
        fleet.config = kept
        code, report = await fleet.replay(other, "--since", "1h", "--route", "app")
        assert code == 1
        assert [(each["who"], each["count"], each["after"], each["rule_after"]) for each in report["changes"]] == [
            ("bob", 2, "deny", "orders")
        ]
        assert "secret" not in json.dumps(report)
        assert (await fleet.replay(tmp_path / "none.yaml"))[0] == 2
        table = await fleet.command("replay", "--log", str(fleet.audit), "--against", str(other))
        assert "bob" in table.stdout
        assert "2 decisions would change, 2 of them from allowed to not allowed or back." in table.stdout
        listed = await fleet.command("replay", "--log", str(fleet.audit), "--against", str(other), "--csv")
        assert listed.stdout.splitlines()[1].startswith("2,bob,app,,allow,deny,staff,orders,rule-denied,")


@workers
async def test_the_guard_keeps_what_would_turn_too_much_until_it_is_forced(tmp_path: Path, workers: int) -> None:
    guard = (GUARD[0], GUARD[1] % 2)
    async with Recorded(tmp_path, workers=workers, replace=(guard,)) as fleet:
        await ask_around(fleet)
        fleet.rules = (STAFF, NO_BOB)
        fleet.write()
        await until(lambda: bool(fleet.said(REFUSED)))
        problem = fleet.said(REFUSED)[-1]["problem"]
        assert "3 of 7 decisions of the last 7d would turn, at most 2 may" in problem
        assert "bob on app: allow → deny by rule no-bob, 3 times" in problem
        assert (await fleet.get("/", "bob")).status == 200, "the rules before are in force"
        again = await fleet.command("reload", "-c", str(fleet.config))
        assert again.returncode == 1
        assert "the guard refuses it" in again.stderr
        forced = await fleet.command("reload", "-c", str(fleet.config), "--force", "--reason", "bob left", "--json")
        assert (forced.returncode, json.loads(forced.stdout)) == (0, {"epoch": 2, "problem": ""})
        assert (await fleet.get("/", "bob")).status == 403
        orders = [line for text in fleet._texts() for line in map(json.loads, text.splitlines()) if line["type"] == "operator"]  # fmt: skip
        assert [(each["action"], each["force"], each.get("reason")) for each in orders] == [
            ("reload", False, None),
            ("reload", True, "bob left"),
        ]


async def test_the_guard_lets_through_what_turns_little_and_what_turns_nothing(tmp_path: Path) -> None:
    guard = (GUARD[0], GUARD[1] % '"50%"')
    async with Recorded(tmp_path, workers=1, replace=(guard,)) as fleet:
        await ask_around(fleet)
        fleet.rules = (STAFF, NO_BOB)
        fleet.write()
        await until(lambda: bool(fleet.said("configuration taken over", epoch=2)))
        assert fleet.said("replayed", compared=7, turned=3)
        fleet.drain = "4s"
        fleet.write()
        await until(lambda: bool(fleet.said("configuration taken over", epoch=3)))
        assert len(fleet.said("replayed")) == 1, "the same rules need no replay"


async def test_a_file_cannot_do_away_with_the_guard_and_pass(tmp_path: Path) -> None:
    async with Recorded(tmp_path, workers=1, replace=((GUARD[0], GUARD[1] % 0),)) as fleet:
        await ask_around(fleet)
        fleet.rules, fleet.replace = (STAFF, NO_BOB), ()
        fleet.write()
        await until(lambda: bool(fleet.said(REFUSED)))
        assert "the guard refuses it" in fleet.said(REFUSED)[-1]["problem"]
