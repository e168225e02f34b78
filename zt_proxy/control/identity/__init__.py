"""The OpenID Connect relying party: asks providers who a person is, and believes only what verifies.

types      what the portal sees: IdentityProvider, VerifiedLogin
provider   one provider, one sign-in: authorization URL, code exchange, checks, logout URL
client_auth  who the proxy is to the provider: secret or signed assertion
par        pushed authorization requests
replies    what the token endpoint answers
levels     acr and amr → how strongly somebody proved who they are
claims     a verified ID token's claims → VerifiedLogin, or a refusal
tokens     compact JWS → claims, under an explicit allow-list
jwks       the provider's keys: strict at load, refreshed rarely
discovery  the provider's metadata: issuer compared exactly
fetch      the only way out: capped, timed, never redirected
strict     JSON without leniency
"""
