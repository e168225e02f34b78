// Verify the X-ZT-Assertion header of zt-proxy. Node 20 or later, no dependencies; copy this file.
//
//   import { AssertionVerifier, requireAssertion } from './verify.mjs';
//   const verifier = new AssertionVerifier({
//     jwksUrl: 'https://auth.example.com/.zt/jwks.json',
//     issuer: 'https://auth.example.com',
//     audience: 'builder',
//   });
//   app.use(requireAssertion(verifier));                        // Express: claims in req.ztClaims
//   const claims = await verifier.verify(req.headersDistinct['x-zt-assertion']);   // anything else
//
// As a server to try it with:  node verify.mjs --jwks URL --issuer ISS --audience AUD [--port 8000]
// A CA of your own:            NODE_EXTRA_CA_CERTS=ca.pem node verify.mjs …

import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const HEADER = 'x-zt-assertion';
const LEEWAY = 30; // seconds that the two clocks may differ
const MAX_BYTES = 64 * 1024;
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$/; // an ES256 signature is 64 bytes

/** The request does not carry exactly one good assertion. Answer 401; the message is for your log alone. */
export class AssertionRefused extends Error {}

/** The JWKS could not be fetched, and there is none from before. Answer 503. */
export class KeysUnavailable extends Error {}

const seconds = () => performance.now() / 1000;

/**
 * The proxy's public keys: cached as long as the answer allows, fetched early for a key not seen before.
 *
 * A stranger can send any `kid`, so an unknown one leads to a fetch at most every `refresh` seconds. Keys stay in use
 * for `stale` seconds when the proxy cannot be reached. Both count from the last fetch that worked.
 */
export class Jwks {
  #url; #refresh; #stale;
  #keys = new Map();
  #fetched = -Infinity;
  #tried = -Infinity;
  #maxAge = 0;
  #pending = null;

  constructor(url, { refresh = 10, stale = 3600 } = {}) {
    const { protocol, hostname } = new URL(url);
    if (protocol !== 'https:' && !['127.0.0.1', '[::1]', 'localhost'].includes(hostname)) {
      throw new Error('the JWKS must come over https: whoever can change it can be anyone');
    }
    this.#url = url;
    this.#refresh = refresh;
    this.#stale = stale;
  }

  async key(kid) {
    const wanted = !this.#keys.has(kid) || seconds() - this.#fetched > this.#maxAge;
    if (wanted && !this.#pending && seconds() - this.#tried >= this.#refresh) {
      this.#tried = seconds();
      this.#pending = this.#fetch().finally(() => { this.#pending = null; });
    }
    // Whoever needs a key waits for the fetch that is under way; whoever has one does not.
    if (this.#pending && !this.#keys.has(kid)) await this.#pending;
    if (seconds() - this.#fetched > this.#stale) throw new KeysUnavailable('no JWKS');
    const key = this.#keys.get(kid);
    if (!key) throw new AssertionRefused('signed with an unknown key');
    return key;
  }

  async #fetch() {
    try {
      const response = await fetch(this.#url, { redirect: 'error', signal: AbortSignal.timeout(5000) });
      if (!response.ok) return;
      const text = await response.text();
      if (text.length > MAX_BYTES) return;
      const keys = new Map();
      for (const jwk of JSON.parse(text).keys) {
        if (jwk.kty === 'EC' && jwk.crv === 'P-256' && (jwk.use ?? 'sig') === 'sig') {
          keys.set(jwk.kid, createPublicKey({ key: jwk, format: 'jwk' }));
        }
      }
      const age = /max-age=(\d{1,9})/.exec(response.headers.get('cache-control') ?? '');
      this.#maxAge = Math.min(Math.max(age ? Number(age[1]) : 300, 60), 3600);
      this.#keys = keys;
      this.#fetched = seconds();
    } catch (error) {
      console.error(`JWKS: ${error.message}`); // the keys from before stay, until they are stale
    }
  }
}

const object = (segment) => {
  let value;
  try {
    value = JSON.parse(Buffer.from(segment, 'base64url').toString('utf8'));
  } catch {
    throw new AssertionRefused('not JSON');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new AssertionRefused('not an object');
  return value;
};

/** Checks algorithm, key, signature, issuer, audience and times. One for the whole application. */
export class AssertionVerifier {
  #jwks; #issuer; #audience;

  constructor({ jwksUrl, issuer, audience }) {
    // `undefined === undefined` would let a token without an issuer pass.
    if (!issuer || !audience) throw new Error('issuer and audience are needed');
    this.#jwks = new Jwks(jwksUrl);
    this.#issuer = issuer;
    this.#audience = audience;
  }

  /** The claims of the one assertion in `values`, an array: all X-ZT-Assertion headers of the request. */
  async verify(values = []) {
    if (values.length !== 1) throw new AssertionRefused(`${values.length} assertions instead of one`);
    const [token] = values;
    if (token.length > MAX_BYTES || !COMPACT.test(token)) throw new AssertionRefused('not a compact ES256 JWT');
    const [head, body, signature] = token.split('.');
    const header = object(head);
    if (header.alg !== 'ES256' || header.typ !== 'JWT' || typeof header.kid !== 'string' || 'crit' in header) {
      throw new AssertionRefused('another kind of token');
    }
    const key = { key: await this.#jwks.key(header.kid), dsaEncoding: 'ieee-p1363' };
    if (!verifySignature('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))) {
      throw new AssertionRefused('the signature is wrong');
    }
    const claims = object(body);
    const now = Date.now() / 1000;
    if (claims.iss !== this.#issuer) throw new AssertionRefused('another issuer');
    if (claims.aud !== this.#audience) throw new AssertionRefused('for another audience');
    if (!['iat', 'nbf', 'exp'].every((name) => Number.isInteger(claims[name]))) throw new AssertionRefused('no times');
    if (claims.exp <= now - LEEWAY) throw new AssertionRefused('it has ended');
    if (claims.nbf > now + LEEWAY || claims.iat > now + LEEWAY) throw new AssertionRefused('it has not begun');
    if (typeof claims.sub !== 'string' || !claims.sub) throw new AssertionRefused("nobody's assertion");
    return claims;
  }
}

/** Connect or Express middleware: 401 without a good assertion, else the claims in `req.ztClaims`. */
export const requireAssertion = (verifier) => async (req, res, next) => {
  try {
    req.ztClaims = await verifier.verify(req.headersDistinct[HEADER]);
  } catch (error) {
    console.error(`refused: ${error.message}`);
    res.writeHead(error instanceof AssertionRefused ? 401 : 503, { 'cache-control': 'no-store' }).end();
    return;
  }
  next();
};

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({
    options: {
      jwks: { type: 'string' },
      issuer: { type: 'string' },
      audience: { type: 'string' },
      port: { type: 'string', default: '8000' },
    },
  });
  const { jwks: jwksUrl, issuer, audience } = values;
  const guard = requireAssertion(new AssertionVerifier({ jwksUrl, issuer, audience }));
  const server = createServer((req, res) =>
    guard(req, res, () => {
      res.setHeader('content-type', 'application/json');
      res.end(`${JSON.stringify(req.ztClaims)}\n`);
    }),
  );
  server.listen(Number(values.port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
}
