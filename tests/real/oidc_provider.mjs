// A certified OpenID provider (npm oidc-provider) with a small login page of its own, for the tests.
//
//   node oidc_provider.mjs '{"issuer": "https://idp.zt.test:{port}", "port": 0, "clients": [...], "users": {...}}'
//
// The configuration is one JSON object, in the first argument or in OIDC_PROVIDER_CONFIG:
//   issuer   with {port} where the port goes             host, port   where to listen (127.0.0.1, 0 = a free one)
//   tls      {cert, key}: file names; plain http without it              algorithm    ES256 (default) or RS256
//   clients  [{client_id, client_secret, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, jwks, ...}]:
//            RFC 7591 metadata; refresh tokens rotate and go to whoever names the grant type refresh_token
//   par      true: authorization requests must be pushed (RFC 9126)
//   headers  {name: value}: sent with every answer, such as Cross-Origin-Opener-Policy
//   ttl      seconds, to replace lifetimes: {AccessToken: 5}
//   users    {name: {password, code, groups, email, name, acr, amr}}; without `code` there is no second factor; with
//            `optional` the code may be left out;
//            acr and amr say what the ID token attests; null leaves the claim out
// When it answers, it writes one line of JSON to stdout: {"ready": true, "issuer": ..., "port": ...}.
// It ends on SIGTERM, and when its stdin is closed, so that no test leaves it behind.

import { generateKeyPairSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { once } from 'node:events';
import { Provider, interactionPolicy } from 'oidc-provider';

const MFA = 'urn:zt:mfa';
const ONE_FACTOR = 'urn:zt:pwd';

const config = {
  host: '127.0.0.1', port: 0, algorithm: 'ES256', users: {}, clients: [],
  ...JSON.parse(process.argv[2] ?? process.env.OIDC_PROVIDER_CONFIG ?? '{}'),
};

const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const html = (title, body) => `<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>${title}</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:3rem auto;padding:0 1rem}
label{display:block;margin:.8rem 0 .2rem}input{width:100%;padding:.5rem;font:inherit;box-sizing:border-box}
button{margin-top:1rem;padding:.6rem 1rem;font:inherit}</style><h1>${title}</h1>${body}</html>`;

const loginPage = (uid, problem = '') => html('Sign in', `${problem && `<p role="alert">${problem}</p>`}
<form method="post" action="/interaction/${escaped(uid)}">
<label for="username">User name</label><input id="username" name="username" autocomplete="username" required autofocus>
<label for="password">Password</label><input id="password" name="password" type="password" required>
<label for="code">Code, if you have a second factor</label><input id="code" name="code" autocomplete="one-time-code">
<button>Sign in</button></form>`);

function same(left, right) {
  const [a, b] = [Buffer.from(String(left ?? '')), Buffer.from(String(right ?? ''))];
  return a.length === b.length && timingSafeEqual(a, b);
}

function authenticate({ username = '', password = '', code = '' }) {
  const user = Object.hasOwn(config.users, username) ? config.users[username] : undefined;
  if (!user || !same(user.password, password)) return undefined;
  const strong = Boolean(user.code) && !(user.optional && code === '');
  if (strong && !same(user.code, code)) return undefined;
  return {
    accountId: username,
    acr: user.acr === undefined ? (strong ? MFA : ONE_FACTOR) : user.acr ?? undefined,
    amr: user.amr === undefined ? (strong ? ['pwd', 'otp'] : ['pwd']) : user.amr ?? undefined,
    remember: true,
  };
}

function policy() {
  const base = interactionPolicy.base();
  // acr_values is a wish (OpenID Connect Core 3.1.2.1): whoever has the factor and did not use it is asked for it.
  base.get('login').checks.add(new interactionPolicy.Check('acr_wished', 'a stronger sign-in was asked for', (ctx) => {
    const wished = String(ctx.oidc.params.acr_values ?? '').split(' ').filter(Boolean);
    const { session } = ctx.oidc;
    const user = config.users[session.accountId];
    return Boolean(user?.code) && wished.includes(MFA) && session.acr !== MFA;
  }));
  return base;
}

function signingKey() {
  const pair = config.algorithm === 'RS256'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = pair.privateKey.export({ format: 'jwk' });
  return { ...key, use: 'sig', alg: config.algorithm, kid: randomBytes(8).toString('hex') };
}

function settings() {
  return {
    clients: config.clients.map((client) => ({
      response_types: ['code'], grant_types: ['authorization_code'], require_auth_time: true,
      token_endpoint_auth_method: 'client_secret_basic', id_token_signed_response_alg: config.algorithm, ...client,
    })),
    jwks: { keys: [signingKey()] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    pkce: { required: () => true },
    responseTypes: ['code'],
    acrValues: [MFA, ONE_FACTOR],
    scopes: ['openid', 'profile', 'email', 'groups', 'offline_access'],
    claims: {
      openid: ['sub', 'groups', 'acr', 'amr', 'auth_time', 'sid'], groups: ['groups'], profile: ['name', 'preferred_username'], email: ['email', 'email_verified'],
    },
    conformIdTokenClaims: false,
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
    enabledJWA: { idTokenSigningAlgValues: ['ES256', 'RS256'] },
    ttl: {
      AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 28800, Grant: 28800, RefreshToken: 28800, ...config.ttl,
    },
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    // The tests' relying party listens on loopback, in plain http.
    fetch: (url, options) => { delete options.dispatcher; return globalThis.fetch(url, options); },
    interactions: { policy: policy(), url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: Boolean(config.par) },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = html('Sign out?', `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
        },
        postLogoutSuccessSource: (ctx) => { ctx.body = html('You are signed out', ''); },
      },
    },
    renderError: (ctx, out) => { ctx.type = 'html'; ctx.body = html('This cannot go on', `<p>${escaped(out.error_description ?? out.error)}</p>`); },
    findAccount: (ctx, id) => {
      const user = Object.hasOwn(config.users, id) ? config.users[id] : undefined;
      return user && {
        accountId: id,
        claims: () => ({
          sub: id, preferred_username: id, name: user.name ?? id, email: user.email ?? `${id}@example.com`,
          email_verified: true, groups: user.groups ?? [], ...user.claims,
        }),
      };
    },
    // Company providers do not ask for consent to the company's own applications.
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope('openid profile email groups offline_access');
      await grant.save();
      return grant;
    },
  };
}

async function body(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 16384) throw new Error('too much');
  }
  return Object.fromEntries(new URLSearchParams(text));
}

async function interaction(provider, request, response) {
  const answer = (status, text) => {
    response.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' }).end(text);
  };
  try {
    const { uid } = await provider.interactionDetails(request, response);
    if (request.method !== 'POST') return answer(200, loginPage(uid));
    const login = authenticate(await body(request));
    if (!login) return answer(401, loginPage(uid, 'Name, password or code is not right.'));
    return await provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
  } catch (error) {
    return answer(400, html('This cannot go on', `<p>${escaped(error.message)}</p>`));
  }
}

const server = config.tls
  ? https.createServer({ cert: readFileSync(config.tls.cert), key: readFileSync(config.tls.key) }) : http.createServer();
server.listen(config.port, config.host);
await once(server, 'listening');
const { port } = server.address();
const issuer = config.issuer ? config.issuer.replace('{port}', port) : `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, settings());
provider.on('server_error', (ctx, error) => console.error(error));
provider.on('backchannel.error', (ctx, error) => console.error(error));
const callback = provider.callback();
server.on('request', (request, response) => {
  for (const [name, value] of Object.entries(config.headers ?? {})) response.setHeader(name, value);
  return request.url.startsWith('/interaction/') ? interaction(provider, request, response) : callback(request, response);
});

const stop = () => { server.closeAllConnections(); server.close(() => process.exit(0)); };
process.on('SIGTERM', stop);
process.stdin.on('end', stop).on('error', stop).resume();
console.log(JSON.stringify({ ready: true, issuer, port }));
