"""Towards the platforms: connections, their pool, and the relay that takes only what was permitted."""
