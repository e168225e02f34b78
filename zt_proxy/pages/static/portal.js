// The portal's script: passkeys on the pages /.zt/confirm and /.zt/enrol, and the buttons under recovery codes.
// It is served from the portal's host alone. Nothing here makes markup of text, so that Trusted Types can be 'none'.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const alarm = byId("alarm");
  const button = byId("passkey");

  function say(text) {
    alarm.textContent = text;
    alarm.hidden = text === "";
  }

  class Said extends Error {}

  // WebAuthn Level 3 §5.1.8–§5.1.10: the JSON forms. Browsers of before 2024 lack them, so both ways are written out.
  function bytes(text) {
    const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(raw, (char) => char.charCodeAt(0));
  }

  function text(buffer) {
    const raw = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }

  const named = (list) => (list || []).map((each) => ({ ...each, id: bytes(each.id) }));

  function creation(options) {
    return {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: named(options.excludeCredentials),
    };
  }

  function request(options) {
    return { ...options, challenge: bytes(options.challenge), allowCredentials: named(options.allowCredentials) };
  }

  function plain(credential) {
    const { response } = credential;
    const out = { clientDataJSON: text(response.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (response[name]) out[name] = text(response[name]);
    }
    if (response.getTransports) out.transports = response.getTransports();
    return {
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment || undefined,
      clientExtensionResults: credential.getClientExtensionResults(),
      response: out,
    };
  }

  // What our own server says: an address to go on to, or why not, in words.
  async function post(path, query, body) {
    let answer;
    try {
      answer = await fetch(path + (query ? "?" + query : ""), {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(body),
        redirect: "error",
      });
    } catch {
      throw new Said("The portal did not answer. Check your connection and try again.");
    }
    if (answer.status === 204) return null;
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Said([said.title, said.detail].filter(Boolean).join(". ") || "That did not work. Try again.");
    return said;
  }

  // Why there is no credential, in words. `quiet`: nobody pressed the button, so a browser that wants a gesture first
  // (Safari), or a person who looks at something else, is no reason to complain.
  function reason(error, adding) {
    if (error instanceof Said) return error.message;
    switch (error.name) {
      case "InvalidStateError":
        return adding ? "This device has a passkey of yours already." : "This is not the device of one of your passkeys.";
      case "NotSupportedError":
      case "ConstraintError":
        return "This device cannot make such a passkey. It needs a screen lock, or a security key with a PIN.";
      case "SecurityError":
        return "Passkeys do not work at this address. Open the portal by its own name, with https.";
      case "AbortError":
      case "NotAllowedError":
        return adding
          ? "Nothing was added: it was cancelled, took too long, or this device is not allowed to."
          : "Not confirmed: it was cancelled, took too long, or your passkey is on another device.";
      default:
        return "This browser could not use a passkey (" + error.name + ").";
    }
  }

  // One ceremony at a time, and the newest counts: what began by itself may hang behind a window that nobody sees.
  let current = null;

  async function run(work, adding, quiet) {
    if (current) current.abort();
    const mine = new AbortController();
    current = mine;
    say("");
    try {
      await work(mine.signal);
    } catch (error) {
      if (current !== mine) return;
      current = null;
      if (!quiet || error instanceof Said) say(reason(error, adding));
    }
  }

  async function confirmed(query, signal) {
    const asked = await post("/.zt/confirm/options", query, {});
    signal.throwIfAborted();
    const credential = await navigator.credentials.get({ publicKey: request(asked.options), signal });
    button.disabled = true;
    const { location } = await sent("/.zt/confirm/passkey", query, asked.token, credential, "");
    window.location.replace(location);
  }

  async function added(query, signal) {
    const asked = await post("/.zt/enrol/options", query, {});
    signal.throwIfAborted();
    const credential = await navigator.credentials.create({ publicKey: creation(asked.options), signal });
    button.disabled = true;
    await sent("/.zt/enrol/passkey", query, asked.token, credential, byId("name").value);
    byId("codes").submit();
  }

  async function sent(path, query, token, credential, name) {
    try {
      return await post(path, query, { token, credential: plain(credential), name });
    } catch (error) {
      button.disabled = false;
      throw error;
    }
  }

  function passkeys() {
    const place = byId("confirm") || byId("enrol");
    if (!place || !button) return;
    const adding = place.id === "enrol";
    button.hidden = false;
    if (!window.PublicKeyCredential || !navigator.credentials) {
      button.disabled = true;
      say("This browser does not know passkeys, or the address is not https.");
      return;
    }
    const work = (signal) => (adding ? added : confirmed)(place.dataset.query, signal);
    button.addEventListener("click", () => run(work, adding, false));
    if (adding) byId("name").addEventListener("keydown", (event) => event.key === "Enter" && button.click());
    if ("auto" in place.dataset && document.visibilityState === "visible") run(work, adding, true);
    else if (!document.querySelector("[autofocus]")) button.focus();
  }

  function recoveryCodes() {
    const row = byId("keep");
    if (!row) return;
    row.hidden = false;
    const lines = [...document.querySelectorAll(".codes code")].map((each) => each.textContent);
    const sheet = ["Recovery codes for " + row.dataset.who + " at " + row.dataset.site, "", ...lines, ""].join("\n");
    byId("copy").addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(sheet);
        say("Copied.");
      } catch {
        say("This browser does not let the page copy. Select the codes and copy them.");
      }
    });
    byId("save").addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([sheet], { type: "text/plain" }));
      link.download = "recovery-codes.txt";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    byId("print").addEventListener("click", () => window.print());
  }

  // A form that is sent twice finds its second factor spent.
  for (const form of document.forms) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
    });
  }
  window.addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
  });

  passkeys();
  recoveryCodes();
})();
