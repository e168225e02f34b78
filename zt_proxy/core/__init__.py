"""Words that both wings share: requests, principals, sessions, decisions, errors, keys, time.

Imports nothing else of the package.
"""
