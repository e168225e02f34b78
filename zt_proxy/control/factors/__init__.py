"""The proxy's own second factors, for people whose provider attests none: passkeys, one-time passwords, recovery codes.

    manager ── what the portal and the operator ask: `Factors`
      ├─ passkeys, totp, recovery    what each kind is and how it is verified: values in, values out
      ├─ enrolment                   who may add a factor, and with whose permission
      ├─ throttle                    how often somebody may be wrong
      └─ store                       `factors.db`; everything is durable before it counts

A factor belongs to a person (issuer and subject), never to a name or an address. What is secret lies sealed under the
key ring outside the store, bound to the factor's id and to the person, so that a row moved to another opens for nobody.
"""
