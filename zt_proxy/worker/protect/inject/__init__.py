"""Puts the helper script into an app's pages: where in the HTML, past which policy, through which coding. No IO.

ResponseHead ──page.consider──► Page or Skip ──► stream.Rewriter ──► bytes for the client
                  │ csp                             │ gzip ─► html.Inserter ─► gzip
"""
