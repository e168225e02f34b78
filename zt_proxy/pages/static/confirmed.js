try {
  new BroadcastChannel('zt-step-up').postMessage({ type: 'confirmed', at: Date.now() });
} catch { /* the page that waits asks the proxy by itself */ }
window.close();
