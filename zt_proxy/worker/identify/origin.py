"""Where a request comes from. The look-up itself is shared with control, which asks the same at the sign-in."""

from zt_proxy.policy.geo import Origins, OriginSettings

__all__ = ["OriginSettings", "Origins"]
