/* zt-proxy in the page: a request that needs a fresh proof of identity is held, confirmed and sent once more.
 *
 * Load it as the first classic script of every document. It has no authority: what it asks for is decided by the proxy,
 * and what other tabs tell it is a hint that it checks with the proxy. It writes no markup and no inline style, so that
 * it runs under any Content-Security-Policy that admits it, Trusted Types included. It is one file, past the usual length,
 * because one classic script is all that a page can be relied on to run before any other.
 *
 *   1 who asked        a person, an unattended change, or the background
 *   2 what is asked    ZT-Challenge of a 401, and the preflight that asks ahead
 *   3 what is shown    one shadow tree with dialogs, notes and a banner
 *   4 prompts          one for all requests that wait for the same proof, over frames and tabs
 *   5 fetch            6 XMLHttpRequest            7 the session: activity, warnings, its end
 */
(() => {
  'use strict';
  const MARK = Symbol.for('zt-proxy.session');
  if (location.origin === 'null' || window[MARK]) return;

  const native = { fetch: window.fetch, open: window.open, XHR: window.XMLHttpRequest };
  const OWN = '/.zt/', HOST = location.host, MINUTE = 60000;
  const LARGE = 1 << 20; // bytes: asked for ahead instead of being sent twice
  const GESTURE = 5000; // ms a gesture counts where the browser does not say (HTML: transient activation)
  const UNATTENDED = 10000; // ms after the last gesture from which an unsafe request is an autosave
  const NOTE_FOR = 120000, POLL = 1500, STALE = 480000;
  const clock = () => performance.now();
  const safe = (method) => /^(GET|HEAD|OPTIONS)$/i.test(method);
  const listen = (target, types, use, options) => types.forEach((type) => target.addEventListener(type, use, options));

  /** Requests to the proxy's own places: same origin, never redirected, and out of sight of our own wrapper. */
  const ask = (path, body) =>
    native.fetch.call(window, location.origin + OWN + path, { // not relative: the page may have a <base>
      credentials: 'same-origin', cache: 'no-store', redirect: 'error',
      ...(body && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), keepalive: true }),
    });

  // The document that prompts for this one: the outermost of the same origin that has this script too.
  const parentRoot = (() => {
    try { return window.parent === window ? null : window.parent[MARK] ?? null; } catch { return null; }
  })();

  // ---- 1 who asked: known when the request is made, not when its 401 arrives

  let gesture = -Infinity;
  const background = new Set(); // GET paths that were seen without a gesture: polls, for as long as the page lives
  const GESTURES = ['pointerdown', 'keydown', 'wheel', 'drop'];
  listen(window, GESTURES, (event) => {
    if (!event.isTrusted) return;
    root.touch();
    if (event.type !== 'wheel' && event.key !== 'Escape' && event.key !== 'Tab') gesture = clock();
  }, { capture: true, passive: true });

  const byPerson = () => navigator.userActivation ? navigator.userActivation.isActive : clock() - gesture < GESTURE;
  const whoAsked = (method, path) => {
    const active = byPerson();
    if (!safe(method)) return active || clock() - gesture < UNATTENDED ? 'person' : 'unattended';
    if (!active) background.add(path);
    return background.has(path) ? 'background' : 'person';
  };
  const isOurs = (url) => url.origin === location.origin && !url.pathname.startsWith(OWN);
  const newRequest = (method, url) => ({
    method, url: url.href.split('#')[0], path: url.pathname + url.search, who: whoAsked(method, url.pathname), sentAt: clock(), asked: new Set(), led: false,
  });

  /** May it go out again, after a challenge that came from `at`? If it was led there, the app has acted on it before: what
   *  changes something is not repeated then, and what only reads needs what is needed there. */
  const mayGoAgain = (request, challenge, at) => {
    const same = !challenge.method || challenge.method === request.method.toUpperCase();
    if (same && (!at || at === request.url)) return true;
    const url = new URL(at || request.url);
    if (!safe(request.method) || !isOurs(url)) return false;
    request.path = url.pathname + url.search;
    return true;
  };

  // ---- 2 what is asked

  /** What is asked, in words: a proof, a reason, or that somebody else agrees. */
  const WORDS = {
    proof: {
      title: 'Confirm it is you', until: 'you confirm that it is you', go: 'Confirm', wait: 600000,
      here: 'Finish there, or confirm here.', goHere: 'Confirm here', again: 'needs another proof than the one you just gave. Please try again.',
    },
    justify: {
      title: 'Say why', until: 'you say why', go: 'Say why', wait: 600000,
      here: 'Finish there, or say it here.', goHere: 'Say it here', again: 'still wants to know why. Please try again.',
    },
    approve: {
      title: 'Somebody else has to agree', until: 'somebody else agrees', go: 'Ask for it', wait: 1800000,
      here: 'Wait there, or ask here.', goHere: 'Ask here', again: 'still waits for somebody to agree.',
    },
  };

  /** The value of ZT-Challenge as {kind, url, level, scope, once, method, ask, at}; null when it is none that we follow. */
  const readChallenge = (header) => {
    const found = /^\s*(step-up|login)\s*;(.*)$/i.exec(header ?? '');
    if (!found) return null;
    const given = {};
    for (const part of found[2].matchAll(/([\w-]+)\s*=\s*(?:"([^"]*)"|([^;,\s]+))/g)) given[part[1].toLowerCase()] = part[2] ?? part[3];
    let url;
    try { url = new URL(given.url, location.origin); } catch { return null; }
    if (url.origin !== location.origin || !url.pathname.startsWith(OWN)) return null; // never anywhere else
    return { kind: found[1].toLowerCase(), url, level: given.level ?? '', scope: given.scope ?? '', once: given.once === '?1', method: given.method ?? '', ask: Object.hasOwn(WORDS, given.ask ?? '') ? given.ask : 'proof', at: clock() };
  };

  /** The challenge of a 401, given what reads its headers. One that says that the session is over is taken note of. */
  const challengeOf = (header) => {
    const challenge = readChallenge(header('ZT-Challenge'));
    if (challenge?.kind === 'step-up') return challenge;
    if (challenge || /^Bearer realm="zt-proxy"(?!.*insufficient_user)/.test(header('WWW-Authenticate') ?? '')) root.ended();
    return null;
  };

  /** Would this request pass now? true, the challenge that it would meet, or null when nobody could be asked. */
  const preflight = async (request, more) => {
    try {
      const answer = await ask('preflight', { method: request.method.toUpperCase(), path: request.path, ...more });
      if (answer.status === 401) return readChallenge(answer.headers.get('ZT-Challenge'));
      return answer.ok || null;
    } catch { return null; }
  };

  let unique = 0;
  /** What this challenge is grouped by, or null when the request shall get its 401. Called once for each 401. */
  const groupOf = (request, challenge) => {
    let group = challenge.scope ? `scope ${challenge.scope}` : `level ${challenge.level}`;
    if (request.asked.has(group)) {
      if (challenge.scope || challenge.once || request.led) return null; // confirmed for this very thing, and refused
      group += ` alone ${++unique}`; // it joined the prompt of another rule: it gets one of its own, and no more
      request.led = true;
    }
    if (request.who === 'background' && !root.isAsking(group)) return null;
    request.asked.add(group);
    return challenge.once ? `${group} once ${++unique} ${Math.random()}` : group; // one proof, one request: no company
  };

  /** Resolves to whether the request may be sent again; rejects with the signal's reason when the app gives up. */
  const confirmed = async (request, challenge, group, signal) => {
    if (signal?.aborted) throw signal.reason;
    if (root.confirmedAt(group) > request.sentAt) return true; // while this one was under way
    const seat = root.join(group, challenge, request);
    if (!signal) return seat.result.finally(seat.leave);
    let stop;
    const aborted = new Promise((_, reject) => { stop = () => reject(signal.reason); });
    signal.addEventListener('abort', stop, { once: true });
    try { return await Promise.race([seat.result, aborted]); } finally { signal.removeEventListener('abort', stop); seat.leave(); }
  };

  // ---- 3 what is shown

  const STYLE = `
:host{all:initial!important;--zt-card:#fff;--zt-ink:#17202c;--zt-soft:#4c5868;--zt-line:#d5dbe3;--zt-accent:#1f5fbf;--zt-on:#fff}
@media (prefers-color-scheme:dark){:host{--zt-card:#1a212b;--zt-ink:#e7ecf3;--zt-soft:#a8b4c4;--zt-line:#3a4756;--zt-accent:#8db8f8;--zt-on:#0d1b2e}}
*{box-sizing:border-box}
.card{margin:auto;padding:1.5rem;border:1px solid var(--zt-line);border-radius:.9rem;background:var(--zt-card);color:var(--zt-ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;text-align:start;box-shadow:0 1px 2px rgba(10,20,40,.1),0 12px 40px rgba(10,20,40,.28);overflow-wrap:anywhere}
dialog.card{width:27rem;max-width:calc(100vw - 2rem);max-height:calc(100dvh - 2rem);overflow:auto}
dialog.card::backdrop{background:rgba(12,18,28,.5)}
.corner,.top{position:fixed;z-index:2147483647;inset:auto 1rem 1rem auto;margin:0;width:23rem;max-width:calc(100vw - 2rem);padding:1.1rem 1.25rem}
.top{inset:.75rem 0 auto 0;margin:0 auto;width:46rem;display:flex;flex-wrap:wrap;align-items:center;gap:.5rem 1.25rem;padding:.75rem 1.1rem;border-left:5px solid var(--zt-accent)}
.top>div:first-child{flex:1 1 18rem}
.site{margin:0 0 .75rem;display:flex;align-items:center;gap:.5rem;color:var(--zt-soft);font-size:.85rem}
.site svg{flex:none;width:1.3rem;height:1.3rem;fill:none;stroke:var(--zt-accent);stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}
h2{margin:0 0 .35rem;font-size:1.2rem;line-height:1.3;font-weight:650}
.corner h2,.top h2{font-size:1rem;margin:0 0 .15rem}
p{margin:0;color:var(--zt-soft)}
.corner p,.top p{font-size:.92rem}
.row{display:flex;flex-wrap:wrap;justify-content:flex-end;gap:.6rem;margin-top:1.25rem}
.corner .row{margin-top:.8rem}
.top .row{margin-top:0}
button{min-height:2.6rem;padding:.5rem 1.1rem;border:1px solid var(--zt-accent);border-radius:.55rem;background:transparent;color:var(--zt-accent);font:inherit;font-weight:600;cursor:pointer}
button.go{background:var(--zt-accent);color:var(--zt-on)}
button:hover{text-decoration:underline}
:focus-visible{outline:3px solid var(--zt-accent);outline-offset:2px}
dialog:focus-visible{outline:none}
@media (prefers-reduced-motion:no-preference){.card{animation:in .14s ease-out}@keyframes in{from{opacity:0;transform:translateY(6px)}}}
@media (max-width:30rem){.card{padding:1.25rem 1.1rem}dialog .row{flex-direction:column-reverse}.corner,.top{inset:auto .75rem .75rem;width:auto;max-width:none}.top{inset:.5rem .5rem auto}.top .row{flex:1 0 100%}}
@media (forced-colors:active){button.go{border-width:3px}}`;

  let host = null;
  const build = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    element.append(...children);
    return element;
  };
  const shield = () => {
    const draw = (tag, attributes) => {
      const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
      for (const name in attributes) element.setAttribute(name, attributes[name]);
      return element;
    };
    const svg = draw('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' });
    svg.append(draw('path', { d: 'M12 3l7.5 2.7v5.6c0 4.5-3 8.1-7.5 9.7-4.5-1.6-7.5-5.2-7.5-9.7V5.7z' }), draw('path', { d: 'M8.6 12.2l2.3 2.3 4.6-4.8' }));
    return svg;
  };
  const stage = () => {
    if (!host) {
      host = build('zt-session', {});
      const tree = host.attachShadow({ mode: 'open' });
      try { // a constructed sheet is CSSOM: no style-src is asked
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(STYLE);
        tree.adoptedStyleSheets = [sheet];
      } catch { /* an old browser shows the same words without the looks */ }
      // What is pressed here is none of the app's business (its Delete key would delete).
      listen(tree, ['click', 'dblclick', 'pointerdown', 'pointerup', 'mousedown', 'mouseup', 'wheel', 'contextmenu', 'focusin', 'focusout'], (event) => event.stopPropagation());
    }
    if (!host.isConnected) document.documentElement.append(host); // beside <body>, which apps replace
    return host.shadowRoot;
  };
  const isModal = () => Boolean(host?.isConnected && host.shadowRoot.querySelector('dialog[open]'));
  listen(window, ['keydown', 'keypress', 'keyup'], (event) => {
    // The browser's own doing (a button's Enter, Tab, Escape) does not depend on listeners and goes on.
    if (host && (isModal() || event.target === host)) event.stopImmediatePropagation();
  }, true);

  /** A card: `modal` takes the focus and everything else is inert; `corner` and `top` leave the person alone. */
  class Card {
    constructor(kind, onCancel) {
      const modal = kind === 'modal';
      this.title = build('h2', { id: 'title' });
      this.text = build('p', { id: 'text' });
      this.row = build('div', { class: 'row' });
      const words = build('div', {}, ...(kind === 'top' ? [] : [build('p', { class: 'site' }, shield(), HOST)]), this.title, this.text);
      this.box = build(modal ? 'dialog' : 'div', {
        class: modal ? 'card' : `card ${kind}`, 'aria-labelledby': 'title', 'aria-describedby': 'text',
        ...(!modal && { role: 'status', 'aria-live': 'polite' }),
      }, words, this.row);
      this.open = true;
      const cancel = () => { if (this.open) onCancel(); };
      if (modal) listen(this.box, ['cancel', 'close'], cancel);
      else this.box.addEventListener('keydown', (event) => { if (event.key === 'Escape') cancel(); });
    }
    /** Say something, with buttons [text, what it does, quiet]; the last one is the one to press, unless it is quiet. */
    say(title, text, ...buttons) {
      if (!this.open) return;
      const tree = stage();
      if (!this.box.isConnected && !this.box.showModal) tree.append(this.box); // a live region tells what changes in it
      this.title.textContent = title;
      this.text.textContent = text;
      const had = this.row.contains(this.box.getRootNode().activeElement);
      this.row.replaceChildren(...buttons.map(([label, use, quiet], at) => {
        const last = at === buttons.length - 1, button = build('button', { type: 'button', ...(last && !quiet && { class: 'go' }), ...(last && this.box.showModal && { autofocus: '' }) }, label);
        button.addEventListener('click', (event) => { if (event.isTrusted) use(); });
        return button;
      }));
      if (this.box.showModal && !this.box.open) {
        tree.append(this.box);
        this.box.showModal();
      } else if (this.box.showPopover && !this.box.popover) {
        this.box.popover = 'manual';
        this.box.showPopover(); // above every z-index
      } else if (had) this.row.lastChild?.focus();
    }
    remove() {
      if (!this.open) return;
      this.open = false;
      if (this.box.open) this.box.close(); // gives the focus back to where it was
      this.box.remove();
      if (host && !host.shadowRoot.childElementCount) host.remove();
    }
  }
  const toast = (title, text) => {
    const card = new Card('corner', () => card.remove());
    card.say(title, text, ['OK', () => card.remove()]);
    setTimeout(() => card.remove(), 15000);
  };

  const openWindow = (url) => {
    if (navigator.userActivation && !navigator.userActivation.isActive) return null; // it would only be blocked, with a noise
    const inWindow = new URL(url), width = 480, height = 680;
    if (inWindow.origin !== location.origin || !inWindow.pathname.startsWith(OWN)) return null; // whoever asked for it
    inWindow.searchParams.set('window', '1');
    const left = Math.round(Math.max(0, screenX + (outerWidth - width) / 2)), top = Math.round(Math.max(0, screenY + (outerHeight - height) / 3));
    try { return native.open.call(window, inWindow.href, 'zt-step-up', `popup,width=${width},height=${height},left=${left},top=${top}`); } catch { return null; }
  };

  // ---- 4 prompts

  let channel = null;
  try { channel = parentRoot ? null : new BroadcastChannel('zt-step-up'); } catch { /* the poll does it alone */ }
  const tell = (type) => { try { channel?.postMessage({ type }); } catch { /* nobody there */ } };

  const prompts = new Map(); // group → Prompt
  const successes = new Map(); // group → clock() of the last success
  const line = []; // prompts of other groups that wait for their turn
  let current = null, confirmedAt = -Infinity;

  const guard = (event) => { event.preventDefault(); event.returnValue = ''; }; // leaving would lose what is held
  const watchLeaving = () => {
    removeEventListener('beforeunload', guard);
    if ([...prompts.values()].some((prompt) => prompt.waiting > 0)) addEventListener('beforeunload', guard);
  };

  /** One question to the person, and every request that waits for its answer. */
  class Prompt {
    constructor(group, challenge, request) {
      Object.assign(this, { group, challenge, request, waiting: 0, over: false, raised: false, card: null, handle: null, confirmedOnce: false });
      this.result = new Promise((resolve) => { this.resolve = resolve; });
      this.end = new AbortController();
    }

    get words() { return WORDS[this.challenge.ask] ?? WORDS.proof; }

    note() {
      this.card = new Card('corner', () => this.finish(false));
      this.card.say('Your last change is waiting', `${HOST} keeps it until ${this.words.until}.`,
        ['Not now', () => this.finish(false)], [this.words.go, () => this.raise()]);
      this.timer = setTimeout(() => this.finish(false), NOTE_FOR);
    }

    /** The person is there: ask now, or as soon as another question is answered. */
    raise() {
      if (this.raised) return;
      this.raised = true;
      clearTimeout(this.timer);
      this.card?.remove();
      this.timer = setTimeout(() => this.finish(false), this.words.wait);
      if (current) line.push(this); else this.begin();
    }

    /** Of several tabs that need the same proof, the one with the lock opens the window. */
    begin() {
      current = this;
      const locks = navigator.locks, name = `zt-step-up ${this.group}`;
      if (!locks) { this.show(); return; }
      locks.request(name, { ifAvailable: true }, (lock) => {
        if (this.over) return undefined;
        if (lock) { this.show(); return this.result; }
        this.elsewhere();
        locks.request(name, { signal: this.end.signal }, () => { // the other tab gave up
          if (!this.over && !this.handle) this.view('refused');
          return this.result;
        }).catch(() => {});
        return undefined;
      }).catch(() => { if (!this.over) this.show(); });
    }

    show() { this.launch(); }

    elsewhere() { this.view('elsewhere'); this.watch(); }

    async launch() {
      const { at } = this.challenge;
      if (at < confirmedAt || clock() - at > STALE) await this.check(); // an address has an end, and is bound to the cookie of its time
      if (this.over) return;
      this.handle = openWindow(this.challenge.url);
      this.view(this.handle ? 'opened' : 'refused');
      this.watch();
    }

    view(state) {
      if (!this.card?.open) this.card = new Card('modal', () => this.finish(false));
      const { title, here, goHere, again } = this.words;
      const words = {
        opened: [`Finish in the window that just opened. ${HOST} then goes on by itself.`, 'Open it again'],
        refused: [`${HOST} asks for this before it goes on. Nothing you entered is lost.`, title],
        elsewhere: [`You are being asked already, in another tab of ${HOST}. ${here}`, goHere],
        again: [`${HOST} ${again}`, 'Try again'],
      }[state];
      this.card.say(title, words[0], ['Cancel', () => this.finish(false)], [words[1], () => this.launch(), state === 'opened']);
    }

    /** `opener` and `closed` say nothing where a page on the way isolates itself (COOP): so the proxy is asked. */
    watch() { if (!this.poll) this.poll = setInterval(() => this.check(), POLL); }

    async check() {
      const answer = await preflight(this.request);
      if (this.over) return true;
      if (answer === true) {
        if (this.challenge.once && !this.handle) return false; // a proof that is good once is another request's
        this.finish(true);
        return true;
      }
      if (answer === null) return null;
      if (answer.kind === 'login') { root.ended(); this.finish(false); return false; }
      if (answer.scope !== this.challenge.scope) { this.finish(true); return true; } // passed this rule, met another
      this.challenge = answer;
      return false;
    }

    /** Somebody confirmed something, in whatever tab: see whether it is good for us. */
    async heard() {
      for (const wait of [0, 200, 500, 1000]) {
        await new Promise((resolve) => { setTimeout(resolve, wait); });
        if (this.over) return;
        const answer = await this.check();
        if (this.over) return;
        if (answer === null) { this.finish(true); return; } // nobody to ask: a lie costs no more than a second 401
      }
      if (this.handle && this.card?.open) this.view('again');
    }

    join(request) {
      this.waiting += 1;
      watchLeaving();
      if (request.who === 'person' && document.visibilityState === 'visible') this.raise();
      else if (!this.card && !this.raised) this.note();
      let left = false;
      return { result: this.result, leave: () => { if (!left) { left = true; this.waiting -= 1; watchLeaving(); } } };
    }

    finish(good) {
      if (this.over) return;
      this.over = true;
      clearTimeout(this.timer);
      clearInterval(this.poll);
      this.end.abort();
      prompts.delete(this.group);
      if (good) {
        confirmedAt = clock();
        if (!this.challenge.once) successes.set(this.group, confirmedAt);
      }
      this.card?.remove();
      try { this.handle?.close(); } catch { /* not ours any more */ }
      if (good && this.waiting === 0) toast('Confirmed', `${HOST} did not wait for it. Please do it once more.`);
      this.resolve(good);
      watchLeaving();
      if (current === this) { current = null; line.shift()?.begin(); } else if (line.includes(this)) line.splice(line.indexOf(this), 1);
    }
  }

  const root = parentRoot ?? {
    isAsking: (group) => prompts.has(group),
    confirmedAt: (group) => successes.get(group) ?? -Infinity,
    join(group, challenge, request) {
      let prompt = prompts.get(group);
      if (!prompt) {
        prompt = new Prompt(group, challenge, request);
        prompts.set(group, prompt);
        request.led = true;
      }
      return prompt.join(request);
    },
    touch: () => touch(),
    ended: () => {
      if (endDismissed || banner?.about === 'ended' || clock() - toldOfEnd < POLL) return; // a poll tells it every time
      toldOfEnd = clock();
      lookAgain(true);
    },
    api: null,
  };

  // ---- 5 fetch

  const sizeOf = (body) => {
    if (body === null || body === undefined) return 0;
    if (body instanceof FormData) { let size = 0; for (const value of body.values()) size += value.size ?? value.length; return size; }
    return body.size ?? body.byteLength ?? body.length ?? 0;
  };
  /** The body as it is now: the app may use its buffer for something else while we wait. */
  const snapshot = (body) => {
    if (body instanceof FormData) {
      const copy = new FormData();
      for (const [name, value] of body) if (typeof value === 'string') copy.append(name, value); else copy.append(name, value, value.name);
      return copy;
    }
    if (body instanceof URLSearchParams) return new URLSearchParams(body);
    if (body instanceof ArrayBuffer) return body.slice(0);
    if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice();
    return body;
  };

  /** What fetch was called with, as {request, signal, ahead, send}; null when it is none of ours. `send` may be repeated. */
  const describeFetch = (input, init) => {
    const given = input !== null && typeof input === 'object' && typeof input.clone === 'function' && typeof input.url === 'string' ? input : null;
    const url = new URL(given ? given.url : String(input), document.baseURI);
    if (!isOurs(url)) return null;
    const method = String(init?.method ?? given?.method ?? 'GET'), signal = init?.signal ?? given?.signal ?? null, body = init?.body;
    const stream = typeof body?.getReader === 'function';
    const request = newRequest(method, url);
    if (given) {
      if (given.bodyUsed) return null;
      return { request, signal, ahead: stream || sizeOf(body) > LARGE, oneShot: stream, send: () => native.fetch.call(window, given.clone(), init) };
    }
    let options = init;
    if (init) { // may be any object, a Request too: what may change is fixed, all else is read where it is
      const fixed = { method: init.method, signal: init.signal, body: snapshot(body), headers: init.headers === undefined ? undefined : new Headers(init.headers) };
      options = new Proxy(init, { get: (target, name) => name in fixed ? fixed[name] : Reflect.get(target, name, target) });
    }
    return { request, signal, ahead: !safe(method) && (stream || sizeOf(body) > LARGE), oneShot: stream, send: () => native.fetch.call(window, url.href, options) };
  };

  const fetchAndHold = async ({ request, signal, ahead, oneShot, send }) => {
    if (ahead) {
      const challenge = await preflight(request);
      const group = challenge?.kind === 'step-up' ? groupOf(request, challenge) : null;
      if (group) oneShot = !(await confirmed(request, challenge, group, signal)) || oneShot;
      request.sentAt = clock();
    }
    for (;;) {
      const answer = await send();
      if (answer.status !== 401 || oneShot) return answer;
      const challenge = challengeOf((name) => answer.headers.get(name));
      const group = challenge && mayGoAgain(request, challenge, answer.url) && groupOf(request, challenge);
      if (!group || !(await confirmed(request, challenge, group, signal))) return answer;
      answer.body?.cancel().catch(() => {});
      request.sentAt = clock();
    }
  };

  window.fetch = new Proxy(native.fetch, {
    apply(target, self, args) {
      let call = null;
      try { call = describeFetch(args[0], args[1]); } catch { /* the native one says what is wrong with it */ }
      return call ? fetchAndHold(call) : Reflect.apply(target, self, args);
    },
  });

  // ---- 6 XMLHttpRequest: the native object stays. Its events are held back; then it is opened and sent again.
  // Chromium calls listeners in the order of their registration, capture or not: ours have to be there from the
  // constructor on, or the app's own would see the 401 first.

  const proto = native.XHR.prototype;
  const raw = Object.fromEntries(['open', 'send', 'setRequestHeader', 'abort', 'overrideMimeType', 'getResponseHeader'].map((name) => [name, proto[name]]));
  const readyStateOf = (xhr) => getters.readyState.call(xhr), statusOf = (xhr) => getters.status.call(xhr);
  const getters = Object.fromEntries(['readyState', 'status', 'responseURL', 'upload'].map((name) => [name, Object.getOwnPropertyDescriptor(proto, name).get]));
  const EVENTS = ['loadstart', 'progress', 'load', 'loadend', 'error', 'abort', 'timeout'];
  const VEILED = ['readyState', 'status', 'statusText', 'response', 'responseText', 'responseXML', 'responseURL'];
  const calls = new WeakMap(); // XHR → what it was asked to do
  const owners = new WeakMap(); // its upload → XHR
  const attached = new WeakSet();

  /** Whoever looks at the object while its request is held sees one that is still under way. */
  const veil = (xhr, shown = {}) => {
    const empty = { readyState: 1, status: 0, statusText: '', responseText: '', responseXML: null, responseURL: '', response: /^(text)?$/.test(xhr.responseType) ? '' : null, ...shown };
    for (const name of VEILED) Object.defineProperty(xhr, name, { configurable: true, get: () => empty[name] });
    Object.defineProperty(xhr, 'getResponseHeader', { configurable: true, value: () => null });
    Object.defineProperty(xhr, 'getAllResponseHeaders', { configurable: true, value: () => '' });
  };
  const unveil = (xhr) => { for (const name of [...VEILED, 'getResponseHeader', 'getAllResponseHeaders']) delete xhr[name]; };

  const gate = (event) => {
    const xhr = event.currentTarget, call = calls.get(xhr);
    if (!call?.request || !event.isTrusted) return;
    const state = readyStateOf(xhr);
    if (call.phase === 'sent' && state >= 2 && statusOf(xhr) === 401) judge(xhr, call);
    if (call.phase === 'held') {
      event.stopImmediatePropagation();
      call.kept.push({ type: event.type, state, lengthComputable: event.lengthComputable, loaded: event.loaded, total: event.total });
      if (event.type === 'loadend') settle(xhr, call);
    } else if (call.again && (event.type === 'loadstart' || (event.type === 'readystatechange' && state === 1))) {
      event.stopImmediatePropagation(); // the app has seen the request begin
    } else if (event.type === 'loadend') call.body = null;
  };
  const uploadGate = (event) => {
    const call = calls.get(owners.get(event.currentTarget));
    if (call?.again && event.isTrusted) event.stopImmediatePropagation(); // the app has seen 100 %
  };

  const judge = (xhr, call) => {
    call.phase = 'passed';
    const challenge = challengeOf((name) => raw.getResponseHeader.call(xhr, name));
    const group = challenge && mayGoAgain(call.request, challenge, getters.responseURL.call(xhr)) && groupOf(call.request, challenge);
    if (!group) return;
    if (!call.async) { root.join(group, challenge, call.request).leave(); return; } // cannot wait: it works at the next try
    Object.assign(call, { phase: 'held', challenge, group, kept: [] });
    veil(xhr);
  };
  const isCurrent = (xhr, call, phase) => calls.get(xhr) === call && call.phase === phase; // not aborted or reopened since

  const settle = async (xhr, call) => {
    const broke = call.kept.some((event) => /^(error|abort|timeout)$/.test(event.type));
    const good = !broke && await confirmed(call.request, call.challenge, call.group, call.given.signal).catch(() => false);
    if (!isCurrent(xhr, call, 'held')) return;
    unveil(xhr);
    if (!good) { playBack(xhr, call); return; }
    Object.assign(call, { phase: 'sent', again: true });
    call.request.sentAt = clock();
    const { responseType, timeout, withCredentials } = xhr;
    raw.open.apply(xhr, call.args);
    Object.assign(xhr, { responseType, timeout, withCredentials });
    for (const header of call.headers) raw.setRequestHeader.apply(xhr, header);
    if (call.mime !== undefined) raw.overrideMimeType.call(xhr, call.mime);
    raw.send.call(xhr, call.body);
  };

  const fire = (xhr, type, details) => xhr.dispatchEvent(type === 'readystatechange' ? new Event(type) : new ProgressEvent(type, details));
  const playBack = (xhr, call) => {
    call.phase = 'passed';
    for (const event of call.kept) {
      if (!isCurrent(xhr, call, 'passed')) return;
      if (event.state < 4) Object.defineProperty(xhr, 'readyState', { configurable: true, get: () => event.state });
      fire(xhr, event.type, event);
      delete xhr.readyState;
    }
    call.body = call.kept = null;
  };

  const attach = (xhr) => {
    if (attached.has(xhr)) return;
    attached.add(xhr);
    listen(xhr, ['readystatechange', ...EVENTS], gate);
  };
  window.XMLHttpRequest = new Proxy(native.XHR, {
    construct(target, args, asked) {
      const xhr = Reflect.construct(target, args, asked);
      attach(xhr);
      return xhr;
    },
  });
  proto.constructor = window.XMLHttpRequest;

  // A listener on `upload` makes a cross-origin request preflighted, so ours comes only when the app looks there itself.
  Object.defineProperty(proto, 'upload', {
    ...Object.getOwnPropertyDescriptor(proto, 'upload'),
    get() {
      const upload = getters.upload.call(this);
      if (!owners.has(upload)) { owners.set(upload, this); listen(upload, EVENTS, uploadGate); }
      return upload;
    },
  });

  const patch = (name, apply) => { proto[name] = new Proxy(raw[name], { apply: (target, xhr, args) => apply(xhr, args) }); };
  patch('open', (xhr, args) => {
    if (!(xhr instanceof native.XHR)) return Reflect.apply(raw.open, xhr, args);
    let url = null;
    try { url = new URL(args[1], document.baseURI); } catch { /* the native one throws */ }
    attach(xhr); // made by a constructor that was taken before us
    const before = calls.get(xhr);
    before?.given.abort();
    if (before?.phase === 'held') unveil(xhr);
    const again = [...args];
    if (url && args.length > 1) again[1] = url.href;
    calls.set(xhr, { args: again, method: String(args[0]), url, async: args.length < 3 || Boolean(args[2]), headers: [], phase: 'open', again: false, given: new AbortController() });
    return Reflect.apply(raw.open, xhr, args);
  });
  patch('setRequestHeader', (xhr, args) => {
    const call = calls.get(xhr);
    if (call?.phase === 'ahead') throw new DOMException('The request has been sent.', 'InvalidStateError');
    Reflect.apply(raw.setRequestHeader, xhr, args);
    call?.headers.push(args);
  });
  patch('overrideMimeType', (xhr, args) => {
    Reflect.apply(raw.overrideMimeType, xhr, args);
    const call = calls.get(xhr);
    if (call) call.mime = args[0];
  });
  patch('send', (xhr, args) => {
    const call = calls.get(xhr), body = args[0];
    if (call?.phase === 'ahead') throw new DOMException('The request has been sent.', 'InvalidStateError');
    if (!call?.url || call.phase !== 'open' || !isOurs(call.url)) return Reflect.apply(raw.send, xhr, args);
    call.request = newRequest(call.method, call.url);
    call.body = snapshot(body);
    if (call.async && !safe(call.method) && sizeOf(body) > LARGE) { sendAhead(xhr, call); return undefined; }
    call.phase = 'sent';
    return Reflect.apply(raw.send, xhr, args);
  });
  patch('abort', (xhr, args) => {
    const call = calls.get(xhr);
    if (!call?.async || !(call.phase === 'held' || call.phase === 'ahead')) return Reflect.apply(raw.abort, xhr, args);
    call.given.abort();
    call.phase = 'aborted'; // natively nothing would be fired any more (XMLHttpRequest standard, abort(), step 3)
    Reflect.apply(raw.abort, xhr, args);
    veil(xhr, { readyState: 4 });
    for (const type of ['readystatechange', 'abort', 'loadend']) if (isCurrent(xhr, call, 'aborted')) fire(xhr, type);
    if (isCurrent(xhr, call, 'aborted')) unveil(xhr);
    return undefined;
  });
  const sendAhead = async (xhr, call) => {
    call.phase = 'ahead';
    const challenge = await preflight(call.request);
    const group = challenge?.kind === 'step-up' && isCurrent(xhr, call, 'ahead') ? groupOf(call.request, challenge) : null;
    const refused = group && !(await confirmed(call.request, challenge, group, call.given.signal).catch(() => false));
    if (!isCurrent(xhr, call, 'ahead')) return;
    call.phase = refused ? 'passed' : 'sent';
    call.request.sentAt = clock();
    raw.send.call(xhr, call.body);
  };

  // ---- 7 the session: what a person does keeps it; its end is announced. In the outermost document only.

  const IDLE_WARNING = 120, ABSOLUTE_WARNING = 300; // seconds before the end
  let state = null, learnt = 0, longest = 0, firstWho = null, reportedAt = clock(), unreported = false, reporter = null, timer = null;
  let warning = null, banner = null, absoluteDismissed = 0, endDismissed = false, toldOfEnd = -Infinity, lastTouch = -Infinity;

  const left = (deadline) => deadline - state.now - (Date.now() - learnt) / 1000;
  const report = async () => {
    clearTimeout(reporter);
    reporter = null;
    unreported = false;
    reportedAt = clock();
    tell('activity');
    try {
      const answer = await ask('activity', {});
      if (answer.status === 401 || answer.status === 403) await lookAgain();
    } catch { /* the next one may arrive */ }
  };
  const touch = () => {
    lastTouch = clock();
    if (parentRoot || !state?.signed_in) return;
    if (warning) { stay(); return; }
    if (clock() - reportedAt >= MINUTE) report();
    else if (!unreported) {
      unreported = true;
      reporter = setTimeout(report, MINUTE - (clock() - reportedAt));
    }
  };
  const stay = async () => {
    closeWarning();
    await report();
    await lookAgain();
    tell('look');
  };
  const closeWarning = () => { clearInterval(warning?.tick); warning?.remove(); warning = null; };
  const closeBanner = () => { banner?.remove(); banner = null; };

  /** Ask the proxy how the session stands, and act on it. `over`: a request was told that there is none. */
  const lookAgain = async (over = false) => {
    let fresh = null;
    try {
      const answer = await ask('session');
      if (answer.ok) fresh = await answer.json();
      else if (answer.status === 401) fresh = { signed_in: false };
    } catch { /* not reachable: nothing is known, and nothing said */ }
    if (!fresh) { plan(POLL * 20); return; }
    const had = state?.signed_in || over;
    state = fresh;
    learnt = Date.now();
    if (!fresh.signed_in) { if (had) showEnded(); return; }
    endDismissed = false;
    if (firstWho === null) firstWho = fresh.who;
    if (banner?.about === 'ended') closeBanner();
    if (fresh.who !== firstWho) showOther(); else if (banner?.about === 'other') closeBanner();
    judgeTime();
  };
  const plan = (after) => { clearTimeout(timer); timer = setTimeout(lookAgain, Math.min(Math.max(after, 500), 60 * MINUTE)); };

  const judgeTime = () => {
    if (typeof state.idle_deadline !== 'number' || typeof state.absolute_deadline !== 'number') return;
    const idle = left(state.idle_deadline), absolute = left(state.absolute_deadline);
    longest = Math.max(longest, idle);
    const warnAt = Math.min(IDLE_WARNING, longest / 3); // of a session that may rest for a minute, the last 20 seconds
    if (idle > warnAt) closeWarning();
    if (absolute > ABSOLUTE_WARNING && banner?.about === 'absolute') closeBanner();
    if (document.visibilityState === 'visible') {
      if (absolute <= ABSOLUTE_WARNING) { closeWarning(); warnOfAbsolute(absolute); }
      else if (idle <= warnAt) warnOfIdle();
    }
    const next = [idle - warnAt, absolute - ABSOLUTE_WARNING, idle + 1, absolute + 1].filter((seconds) => seconds > 0);
    plan(Math.min(...next, 3600) * 1000);
  };

  const span = (seconds) => {
    if (seconds < 1) return 'now';
    if (seconds <= 90) return `in ${Math.ceil(seconds)} seconds`;
    return `in ${Math.round(seconds / 60)} minutes`;
  };
  const warnOfIdle = () => {
    if (warning) return;
    warning = new Card('modal', closeWarning); // Escape is a key that a person pressed: `touch` has seen it
    const words = () => `${HOST} signs you out ${span(left(state.idle_deadline))}, because nothing was done here for a while.`;
    warning.say('Are you still there?', words(), ['Stay signed in', stay]);
    warning.tick = setInterval(() => { if (warning) warning.text.textContent = words(); }, 1000);
  };
  const announce = (about, kind, title, text, ...buttons) => {
    if (banner?.about === about) return;
    closeBanner();
    banner = new Card(kind, closeBanner);
    banner.about = about;
    banner.say(title, text, ...buttons);
  };
  const warnOfAbsolute = (seconds) => {
    if (absoluteDismissed === state.absolute_deadline) return;
    const dismiss = () => { absoluteDismissed = state.absolute_deadline; closeBanner(); };
    announce('absolute', 'corner', `Your session ends ${span(seconds)}`, `It has reached its longest time at ${HOST}. Sign in again now, and you can go on where you are.`,
      ['Later', dismiss], ['Sign in again', () => signIn({ renew: true })]);
  };
  const showEnded = () => {
    closeWarning();
    if (endDismissed) return;
    announce('ended', 'top', 'You are signed out', `${HOST} takes nothing more from this page until you sign in. What is on it stays.`,
      ['Hide', () => { endDismissed = true; closeBanner(); }], ['Sign in', () => signIn({})]);
  };
  const showOther = () => announce('other', 'top', `You are signed in as ${state.who} now`, `This page of ${HOST} was opened as ${firstWho}. Reload it before you go on.`,
    ['Hide', closeBanner], ['Reload', () => location.reload()]);

  /** Sign in in a window of its own; its address is fetched now, because one has an end. */
  const signIn = async (more) => {
    const challenge = await preflight({ method: 'GET', path: location.pathname + location.search }, more);
    if (challenge?.kind === 'login') openWindow(challenge.url);
    else if (challenge !== true || more.renew) native.open.call(window, location.href, '_blank'); // the page again, by way of the sign-in
    let tries = 400;
    const poll = setInterval(async () => {
      await lookAgain();
      if (!tries-- || (banner?.about !== 'ended' && banner?.about !== 'absolute')) clearInterval(poll);
    }, POLL);
  };

  channel?.addEventListener('message', ({ data }) => {
    switch (data?.type) {
      case 'confirmed':
        confirmedAt = clock();
        for (const prompt of prompts.values()) prompt.heard();
        lookAgain();
        break;
      case 'look':
        lookAgain();
        break;
      case 'activity': // another tab reported for all of them
        reportedAt = clock();
        if (warning) lookAgain();
        break;
      default:
    }
  });

  const api = parentRoot?.api ?? Object.freeze({
    /** How the session stood when the proxy was last asked, or null. */
    get session() { return state ? Object.freeze({ ...state }) : null; },
    /** The person wants to go on: reported if there was a gesture in the last minute. Resolves to the new state. */
    async extend() {
      if (clock() - lastTouch < MINUTE) await stay();
      return api.session;
    },
  });
  root.api = api;
  Object.defineProperty(window, MARK, { value: root });
  if (!('zt' in window)) Object.defineProperty(window, 'zt', { value: api, enumerable: true });

  if (!parentRoot) {
    addEventListener('pagehide', () => { if (unreported) report(); });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState !== 'visible' || !state) return;
      if (banner || Date.now() - learnt > MINUTE / 2) lookAgain(); // somebody may have signed in elsewhere
      else if (state.signed_in) judgeTime();
    });
    addEventListener('pageshow', (event) => { if (event.persisted) lookAgain(); });
    setTimeout(lookAgain, 1000);
  }
})();
