"""Watching: what people do, against what they and their peers usually do, from the records that control reads anyway.

    audit writer ──► Observer (cheap, bounded) ──► detectors ──► Alerts ──► audit log, program log, webhooks
                            │                                      └─► a lock, where the operator says `enforce`
                            └── WatchStore: the history, through restarts

Watching is no part of a decision. What fails here is logged and counted; records and requests go on.
"""
