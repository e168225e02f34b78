"""zt-proxy: an identity-aware reverse proxy for low-code platforms. This page is its architecture.

Two wings and a corridor
========================

    clients ──TLS──► worker    edge ► gateway ► upstream          enforcement: caches only, no store ──► platforms
                       │ ▲
                       │ link   look-ups, activity ─► ◄─ invalidations, keys
                       ▼ │
                     control   portal · identity · sessions · audit · the one store ──► OpenID provider

The *worker* is the path of every request: it must be cheap, and it is where attacks arrive. *Control* is everything
rare, slow or secret. They never import each other; `link` has the messages and Protocols between them: `link.unix`
joins processes, `link.memory` the same parts in one event loop (`workers: 0`, and most tests). A *supervisor* owns the
listening sockets, starts control and a worker for each core, starts again what ends, and takes a changed configuration
over (docs/decisions/0011); no byte of a request passes it.

Packages, from the top; imports go down only, and `make check` proves it:

    cli          one command per file
    processes    wiring: which parts exist, in which order they start and stop
    config       YAML ─► schema ─► checks that gather every problem ─► plain settings for both wings
    worker       the request path          control      sign-in, sessions, audit, keys
    link         messages; the unix and the memory link; the record ring
    policy       pure: facts in, decision out           pages    texts and pages that both wings may use
    core         words that both wings share: errors and reasons, time, keys, sessions, hand-offs
    demo         a provider, an app and a configuration to look at; nothing imports it but `cli`

The way of a request
====================

`worker.gateway.pipeline.Gateway.handle` is the function to read first; each stage is one call.

    edge.listener ► edge.tls ► edge.connection ─bytes─► wire.h1 ─RequestHead─► gateway.pipeline
     admit      is the record writable, control there, the request one that anyone may send?     503 405 400
     locate     Host, connection and canonical target ─► route, or a place of the proxy          404 421 400 413
     identify   session cookie ─► session; only an unknown one waits, for control                401 503
     understand profile: request ─► action, object; address ─► zones, country; session ─► risk  403
    decide     `policy.engine`: Facts ─► Allow | Challenge(login, mfa, reauth, justify, approve) | Deny(reason)
     record     one decision into the worker's ring, before anything follows from it             503
     no         `gateway.respond`, the only author of denials: redirect, page, or problem+json   302 401 403
     yes        `identify.assertion` ► `upstream.pool` ► `upstream.relay`, both ways, with back-pressure
     finish     one end record, counters, the connection's next turn

What holds it together:

- **Bytes in, events out.** `worker.wire` does no IO and knows no asyncio; it is tried with tables and byte by byte.
- **Normalised once.** `wire.target` parses the target into canonical form; policy and upstream see the same bytes.
- **Proof by type.** `relay` takes only a `Permitted`, which only an ALLOW makes, or an `Internal`: a closed list of the
  proxy's own places in `upstream.permit`.
- **Closed.** An exception in any stage denies, and is on record. An empty rule set denies. What is unsafe has
  `insecure_` in its name and is logged at start.
- **Current.** Every change of a session is numbered and told to workers, which forget what they knew and decide open
  streams anew (`gateway.streams`).
- **Compiled at load.** Routes, rules, path templates and header tables; a request runs none of it.
- **One sweep.** Deadlines are numbers that `edge.listener` looks at each 250 ms; there is no timer per connection.
- **Injected time.** Everything takes a `core.clock.Clock`.

Signing in
==========

    app host ──hand-off──► portal ──► provider ──► portal ──one-time code──► app host: /.zt/resume ──► the page

The portal (`control.portal`) is an aiohttp application on a private unix socket. Workers relay to it as to any,
and it verifies a signed header as any upstream should. Hand-offs are sealed with the key ring and bound to the browser
(`core.handoff`); codes are one-time; each host has a `__Host-` cookie of its own. docs/decisions/0008.

Who proved one factor to the provider shows a second to the portal: `control.factors` keeps passkeys, one-time passwords
and recovery codes, `control.portal.confirm` and `enrol` ask for them. docs/decisions/0014, 0015.

Proving more, in the middle of work
===================================

    decide: too weak, or too old ──► 401 + ZT-Challenge, 302, or a kept form ──► portal: a factor, or the provider
        └── the request goes on ◄── /.zt/resume: counts for this rule, in this session's browser alone ◄── code ┘

A proof is (time, level) under session, route and rule, or good once for one request. `pages/static/session.js` holds an
app's own requests meanwhile; `worker.protect.inject` brings it into pages. docs/decisions/0016.

What a policy is decided by
===========================

    profiles/NAME.yaml ─► policy.actions (which action?)   policy.geo (from where?)   policy.risk (how unusual?)
        └──────────────► core.types.Facts ◄──────────────────────┘───────────────────────┘
                              └─► policy.engine ─► Decision ─► obligations: masks, limits, notice (worker.protect)

Rules are bits in an index by request and subject (docs/decisions/0017). `policy.explain` asks the same functions that
decide, so that a trace cannot say otherwise. A fact that nobody knows lets a deny apply and an allow not. Control adds
what takes memory: `control.risk` what is usual of people, `control.watch` what stands out of the record, and
`control.locks` what is stopped at once, on every worker. The operator's side of it is the policy guide in docs/how-to.

The record
==========

    worker ─► link.ring (memory-mapped, survives the process) ─► control.audit.writer ─► hash-chained JSON Lines

`control.audit.verify` checks it offline; docs/reference/audit-log.md is the format. docs/decisions/0006.

Where to go on: docs/threat-model.md for what is protected and what is not, docs/decisions/ for choices with their
figures, docs/reasons.md for every reason code, tests/attack/ for the attacks that were tried.
"""
