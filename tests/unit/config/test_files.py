"""What a configuration rests on, and how it travels to the processes that serve it."""

from pathlib import Path

import pytest

from zt_proxy import config
from zt_proxy.config import Built, files
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.processes.leash import pack, unpack
from zt_proxy.worker.settings import WorkerSettings

from .examples import EVERYTHING, PLAIN


def built(place: Path, text: str) -> Built:
    file = place / "zt-proxy.yaml"
    file.write_text(text)
    loaded = config.load(file)
    config.check(loaded, ManualClock())
    return config.build(loaded)


def test_every_setting_travels_to_another_process_unchanged(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZT_TEST_SECRET", "s3cret")
    made = built(place, EVERYTHING)
    assert unpack(WorkerSettings, pack(made.worker)) == made.worker
    assert unpack(ControlSettings, pack(made.control)) == made.control


def test_the_file_and_all_it_names_are_its_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = built(place, PLAIN).files
    assert set(plain) == {
        place / name for name in ("zt-proxy.yaml", "certs/site.pem", "certs/site.key", "certs/secret")
    }
    monkeypatch.setenv("ZT_TEST_SECRET", "s3cret")
    everything = {path.name for path in built(place, EVERYTHING).files}
    assert {"site.pem", "wild.key", "ca.pem"} <= everything
    assert not {name for name in everything if name.endswith((".sock", ".crl")) or name in {"state", "records", "zt"}}


def test_workers_left_out_are_as_many_as_cores(place: Path) -> None:
    assert built(place, PLAIN).workers == files.cores() >= 1
    assert built(place, PLAIN + "workers: 3\n").workers == 3
    assert built(place, PLAIN + "workers: 0\n").workers == 0


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 64), ("x", 64)])
def test_a_containers_share_of_the_machine_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(quota)
    monkeypatch.setattr(files, "_CGROUP", limit)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert files.cores() == cores
