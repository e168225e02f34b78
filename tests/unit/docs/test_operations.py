"""docs/reference/operations.md names every metric of our own."""

from pathlib import Path

from zt_proxy.worker.metrics import Metrics

TEXT = (Path(__file__).parents[3] / "docs" / "reference" / "operations.md").read_text("utf-8")


def test_every_metric_of_the_path_is_documented() -> None:
    for family in Metrics().collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
        assert f"`{family.name}{suffix}`" in TEXT
