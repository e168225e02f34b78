"""Two hundred WebSockets and fifty downloads over two workers, cut within a second by the provider's logout token."""

import asyncio
from pathlib import Path

import pytest

from tests.lab.idp import ABSENT
from tests.lab.logout import announce, logout_token
from tests.load.stage import Stage, show
from tests.load.test_revoke import BYSTANDERS, Scene, settle
from zt_proxy.core.clock import SystemClock


@pytest.mark.case("ZT-OIDC-20")
@pytest.mark.parametrize("by", ["sid", "sub"])
async def test_a_logout_at_the_provider_cuts_all_streams_on_every_worker_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    count = {"sid": 1, "sub": 25}[by]
    async with Stage(tmp_path, workers=2, crowd=[*["ann"] * count, *BYSTANDERS]) as stage:
        ann, others = stage.people[:count], stage.people[count:]
        sent: list[float] = []

        async def tell() -> None:
            names = {"sid": "at-provider-0", "sub": ABSENT} if by == "sid" else {"sid": ABSENT, "sub": "ann"}
            token = logout_token(stage.idp, **names)
            sent.append(SystemClock().now())
            answer = await announce(stage.browser(), f"https://{stage.auth}", token)
            assert answer.status == 200, answer

        figures = await Scene(stage, ann, others).play(lambda _: sent[0], tell)
        answers = await asyncio.gather(*(stage.get("/", cookie) for _, cookie in ann))
        assert {answer.status for answer in answers} == {401}
        await settle(stage)
    show(capsys, f"by the provider's logout token ({by}, {count} sessions): {figures}")
