"""The guard of reloads: that it looks at something."""

from zt_proxy.config.check import Checking

LONGEST = 90 * 86_400.0


def check(checking: Checking) -> None:
    guard = checking.schema.guard
    if guard is None:
        return
    checking.not_zero(guard)
    if guard.window > LONGEST:
        checking.problems.error(guard.at("window"), "`window` is longer than any replay would take", "up to `90d`")
    if guard.max_changed == -1.0:
        checking.problems.warning(guard.at("max_changed"), "`max_changed` of `100%` refuses nothing")
