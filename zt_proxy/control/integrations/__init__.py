"""Machines and their certificates: a small authority for those who have none, and the revocation lists of any."""
