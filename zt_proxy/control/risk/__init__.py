"""How unusual sign-ins look: what is remembered of people, put together with the signals of `policy.risk`."""
