"""The verifier printed in docs/reference/audit-log.md works on a real log."""

import re
from pathlib import Path

import pytest

from zt_proxy.control.audit.chain import Chain, log_files
from zt_proxy.core.clock import ManualClock

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "audit-log.md"


def test_the_documented_verifier_accepts_a_log_and_refuses_an_edited_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    program = compile(found[1].replace("open(", "opened("), str(PAGE), "exec")
    chain = Chain.open(tmp_path, clock=ManualClock(), rotate_bytes=1 << 20)
    chain.append([b'{"n":%d}' % number for number in range(5)])
    chain.close()

    def opened(name: str, mode: str) -> list[bytes]:
        assert mode == "rb"
        return (tmp_path / name).read_bytes().splitlines(keepends=True)

    exec(program, {"opened": opened})
    path = log_files(tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b'"n":3', b'"n":4'))
    with pytest.raises(AssertionError):
        exec(program, {"opened": opened})
