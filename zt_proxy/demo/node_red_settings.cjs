// Node-RED's settings for the demo and the tests: loopback only, nothing sent home, nothing installed.
// ZT_NODE_RED_PORT and ZT_NODE_RED_DIR say where, ZT_NODE_RED_CSP what policy the editor's pages have, if any.
// It ends when its stdin is closed, so that it never outlives its starter.
process.stdin.on('end', () => process.kill(process.pid, 'SIGTERM')).on('error', () => {}).resume();

module.exports = {
  uiHost: '127.0.0.1',
  uiPort: Number(process.env.ZT_NODE_RED_PORT),
  userDir: process.env.ZT_NODE_RED_DIR,
  flowFile: 'flows.json',
  flowFilePretty: true,
  credentialSecret: false,
  telemetry: { enabled: false, updateNotification: false },
  editorTheme: { tours: false, projects: { enabled: false }, header: { title: 'Flows' } },
  externalModules: { autoInstall: false, palette: { allowInstall: false }, modules: { allowInstall: false } },
  diagnostics: { enabled: false, ui: false },
  runtimeState: { enabled: false, ui: false },
  functionExternalModules: false,
  // A policy of its own for the editor's pages, as an operator may have one.
  ...(process.env.ZT_NODE_RED_CSP && {
    httpAdminMiddleware: (request, response, next) => {
      response.setHeader('Content-Security-Policy', process.env.ZT_NODE_RED_CSP);
      next();
    },
  }),
  logging: { console: { level: 'info', metrics: false, audit: false } },
};
