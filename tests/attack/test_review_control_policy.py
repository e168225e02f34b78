"""What somebody tries who means to escape watching, to lock others, or to be let through by words said for others."""

from msgspec.structs import replace

from tests.unit.control.watch.test_alerts import ALICE, NOW, Desk, too_much
from zt_proxy.control.watch.alerts import EACH, SHARE, WAITING
from zt_proxy.control.watch.findings import Facts, Finding, change

MALLORY = Facts(route="app", sub="mallory", provider="corp", sid="s9", changes="deployment")


def saved(number: int, facts: Facts = MALLORY) -> Finding:
    return change(replace(facts, kind="flow", object=f"f{number}"), f"r{number}", "/flows", NOW)


# ---- a flood of alerts


async def test_who_does_much_that_is_told_is_locked_all_the_same() -> None:
    """Each window of traffic is told once: what is dropped then is never locked."""
    desk = Desk()
    for number in range(WAITING + 5):
        desk.alerts.put(saved(number))
    await desk.find(too_much())
    assert [order.value for order in desk.orders] == ["alice"]


async def test_one_persons_flood_does_not_keep_others_from_being_told_of() -> None:
    desk = Desk()
    for number in range(2 * SHARE):
        desk.alerts.put(saved(number))
    assert desk.alerts.dropped == SHARE
    other = Facts(route="app", sub="oscar", provider="corp", changes="access-control")
    await desk.find(saved(1, other))
    assert "oscar" in {alert.user for alert in desk.sent}
    assert not desk.alerts._of, "nothing is left of who once had something in the queue"


async def test_names_that_a_client_chooses_make_no_alerts_without_end() -> None:
    desk = Desk()
    for number in range(EACH + 30):
        await desk.find(saved(number))
    assert len(desk.sent) == EACH + 1
    assert f"{EACH} alerts" in desk.sent[-1].summary
    await desk.find(saved(7, Facts(route="app", sub="mallory", provider="corp", changes="access-control")))
    assert desk.sent[-1].changes == "access-control", "another kind of change does not hide among them"
    desk.clock.advance(100_000)
    await desk.alerts.finish()
    assert max(alert.count for alert in desk.sent) == 30, "those told together are told again with their number"
    await desk.find(saved(1))
    assert desk.sent[-1].object == "flow:f1", "after the quiet time they are told apart again"
    await desk.alerts.finish(everything=True)
    assert not desk.alerts._apart
