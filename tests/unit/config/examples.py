"""Files that are right, for tests to change: little, every key, and a policy as an operator would write it."""

PLAIN = """version: 1
listen:
  - {name: web, address: "0.0.0.0:8443", tls: {certificate: certs/site.pem, key: certs/site.key}}
portal: {url: "https://auth.example.com:8443"}
identity:
  providers:
    corp: {issuer: "https://sso.example.com", client_id: zt, client_secret: "${file:certs/secret}"}
routes:
  - name: builder
    host: flows.example.com
    upstream: http://127.0.0.1:1880
    rules:
      - {id: staff, allow: [{methods: [GET], paths: ["/**"]}], to: {groups: [staff]}}
      - {id: deploy, allow: [{methods: [POST], paths: ["/flows"]}], to: {groups: [releasers]}, require: {reauth: 5m}}
      - {id: no-settings, deny: [{paths: ["/settings/**"]}], to: anyone-signed-in, mode: report}
      - {id: health, allow: [{methods: [GET], paths: [/healthz]}], to: public}
"""

EVERYTHING = """version: 1
state_dir: ../state
runtime_dir: /run/zt
listen:
  - name: web
    address: "[::]:443"
    tls:
      certificates:
        - {certificate: certs/site.pem, key: certs/site.key}
        - {certificate: certs/wild.pem, key: certs/wild.key}
      minimum: 1.3
    proxy_protocol: {from: [10.1.0.0/16]}
    client_certificates:
      - {ca: certs/ca.pem, required: true, crl: certs/list-fresh.pem, hosts: [flows.example.com]}
portal: {url: "https://auth.example.com"}
identity:
  providers:
    corp:
      preset: google
      domain: example.com
      issuer: http://127.0.0.1:3000
      client_id: zt
      private_key: {key: certs/rsa.key, id: one, certificate: certs/rsa.pem, algorithm: PS256, audience: token-endpoint}
      par: require
      domains: [example.com, example.net]
      groups_from: {service_account: certs/google.json, administrator: admin@example.com}
      display_name: The Corporation
      scopes: [openid, groups]
      acr: {single: [low], multi: [medium], phishing-resistant: [phrh]}
      acr_values: [phr]
      amr: {phishing-resistant: [fido]}
      amr_values: [hwk]
      groups_claim: roles
      claims: [department, dept, site, level]
      ca: certs/ca.pem
      client_auth: private_key_jwt
      algorithms: [ES256]
      max_age: 1h
      refresh: false
      refresh_every: 2m
      timeout: 3s
      callback: own
      insecure_no_mfa: true
      insecure_http: true
    keys: {preset: keycloak, url: "https://sso.example.com", realm: staff, client_id: zt, client_auth: none, domains: [example.org]}
    cloud: {preset: entra, tenant: 01234567-89ab-cdef-0123-456789abcdef, client_id: zt, client_auth: none, callback: own}
  mfa:
    required: true
    accept: [passkey]
    level: phishing-resistant
    enrolment: grant
    passkeys: {aaguids: ["EE882879-721c-4913-9775-3dfcce97072a"], attestation_ca: certs/ca.pem}
  login: {lifetime: 5m, code_lifetime: 30s, pending: 100, pending_per_address: 5, at_once: 3, waiting: 7}
session: {preset: aal2, idle: 20m, absolute: 8h, limit: 3, limit_policy: refuse, recheck: 15s, form_limit: 1MB}
mail:
  server: smtp.example.com:465
  from: zt@example.com
  tls: implicit
  username: zt
  password: "${env:ZT_TEST_SECRET}"
  ca: certs/ca.pem
  timeout: 5s
require: {mfa: multi, reauth: 2h, justify: true}
mode: report
stage: identity
networks: {office: [192.0.2.0/24, "2001:db8::/32"], hosting: 198.51.100.0/24}
risk:
  weights: {new-device: 1, new-country: 2, impossible-travel: 3, unusual-hour: 4, failed-attempts: 5, address-changed: 6, agent-changed: 7, dormant: 8}
  thresholds: {medium: 31, high: 61, low_again: 21, medium_again: 51}
  networks: {office: -30}
  egress: [office]
  dormant: 30d
watch:
  respond: enforce
  volume: {factor: 5, floor: 1MB, requests_floor: 50, learn: 1d, windows: [1m], respond: report, effect: block, for: 2h}
  first_use: {learn: 7d, respond: report, effect: read-only, for: until-reviewed}
  changes: {kinds: [deployment]}
alerts: {webhooks: [{url: "http://siem.example/hook", secret: "${file:certs/hook}", timeout: 3s, insecure_http: true}], quiet: 1m}
geoip: {country: certs/country.mmdb, asn: certs/asn.mmdb, insecure_origin_header: X-Test-Country}
attributes: {department: dept, location: site, clearance: level}
roles:
  releaser: {groups: [releasers], users: [rita@example.com], when: {department: ops}}
access_levels:
  managed: {any: [{network: office}, {all: [{device_known: true}, {level: phishing-resistant}]}]}
  calm: {access_level: managed, not: {risk: {at_least: high}}}
break_glass: {accounts: [root@example.com], for: 2h}
rules:
  - {id: org-no-keys, deny: [{paths: ["/**/keys"]}], when: {country: [KP]}}
route_groups:
  lowcode: {require: {mfa: multi}, mask: [{fields: ["$..ssn"]}], rules: [{id: group-no-abroad, deny: [export], when: {not: {country: [DE, FR]}}}]}
assertion: {rotation: 7d, overlap: 2h}
trusted_proxies: [10.0.0.0/8, 192.0.2.7]
limits:
  connections: 11
  connections_per_address: 12
  handshake_timeout: 13s
  header_timeout: 14s
  body_idle_timeout: 15s
  keepalive_timeout: 16s
  request_timeout: 17s
  minimum_rate: 18B/s
  rate_grace: 19s
  header_count: 20
  header_bytes: 21KiB
  target_bytes: 22KiB
  websocket_message: 23KiB
  buffer: 24KiB
  body: 25MB
  drain: 26s
metrics: {address: "127.0.0.1:9464"}
audit: {directory: records, rotate: 1MB, ring: 1MiB}
guard: {max_changed: 5%, window: 14d}
log: {format: console, level: debug}
workers: 0
routes:
  - name: builder
    host: flows.example.com:9443
    path: /app/
    provider: corp
    upstream:
      url: https://10.0.0.5:1881
      ca: certs/ca.pem
      certificate: certs/site.pem
      key: certs/site.key
      server_name: flows.internal
      connect_timeout: 1s
      first_byte_timeout: 2m
      idle_timeout: 3s
      max_connections: 4
    audience: flows
    strip_prefix: true
    preserve_host: false
    paths: {encoded_slash: allow, double_slash: allow, parameters: allow, encoded_delimiters: allow, case: insensitive}
    session: {idle: 10m, absolute: 1h, ignore: ["/app/poll/**"]}
    cors: {origins: ["https://tools.example.com"], credentials: false}
    identity_headers: remote-user
    shared_secret: {header: X-Proxy-Secret, value: "${env:ZT_TEST_SECRET}"}
    forward_authorization: true
    machines_only: true
    helper: inject
    insecure_root_service_worker: true
    mask:
      - {name: salaries, fields: ["$..salary"], with: hash, case: insensitive, only_by_rule: true, headers: [X-Salary]}
      - {fields: ["$..iban"], unless: {groups: [finance]}, only: {users: [bo@example.com], when: {network: hosting}}, value: none}
    answers: {limit: 2MiB, uninspectable: insecure_pass, pass_types: [image/png], websocket: pass}
    body_limit: 100MB
    require: {mfa: phishing-resistant, reauth: 1h}
    mode: report
    profile: node-red
    group: lowcode
    rules:
      - id: deploy
        allow: [view, "manage-*", {action: deploy, objects: "flow:*"}, {actions: [build, use], methods: [POST]}]
        to: {roles: [releaser]}
        when:
          access_level: managed
          user: "*@example.com"
          group: [releasers, makers]
          role: releaser
          claim: {department: [x]}
          department: [ops]
          location: Berlin
          network: office
          country: [DE, FR]
          asn: [3320, AS64496]
          time: {days: [mon-thu, fri], from: "08:00", to: "18:00", zone: Europe/Berlin}
          device_known: true
          level: multi
          auth_age: {at_most: 8h, at_least: 1s}
          provider: corp
          risk: {at_most: medium, at_least: low}
          sensitivity: {at_most: confidential, at_least: internal}
          clearance: sufficient
          owner: self
          method: [POST]
          path: /app/flows/**
          header: {X-Reason: [a, "b*"]}
          action: [deploy, "manage-*"]
          object: "flow:*"
          changes: deployment
          cel: "true"
        require: {approve: {users: [ann@example.com], groups: [leads], for: 12h}}
        mask: [salaries]
        limit: {requests: 100, bytes: 50MB, per: 1h}
        notify: true
        mode: report
        since: 2026-10-01
      - {id: all, allow: all, to: {users: [ann@example.com, "keys:4711"], providers: [corp], groups: [staff], claims: {department: [x, y]}}, mode: "off"}
      - {id: no, deny: all, when: {network: hosting}}
      - {id: not-there, deny: [{paths: [/app/secret]}], to: {integrations: [crm-sync]}}
  - {name: sock, host: app.example.com, upstream: "unix:/run/app.sock", rules: [{id: open, allow: all, to: public, insecure_allow_everyone: true}]}
integrations:
  crm-sync:
    owner: ops@example.com
    purpose: nightly contact sync
    expires: 2029-06-30
    certificate:
      - {san_uri: "spiffe://example.com/crm-sync", issuer: "CN=Clients,O=Example"}
      - {san_dns: crm.example.com, sha256: "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff"}
      - {subject: "CN=crm-sync,O=Example", issuer: "CN=Clients,O=Example"}
    allow: [{route: builder, methods: [GET], paths: ["/app/contacts/**"]}]
    limits: {rate: 20/s}
"""

POLICY = """version: 1
listen:
  - {name: web, address: "0.0.0.0:8443", tls: {certificate: certs/site.pem, key: certs/site.key}}
portal: {url: "https://auth.example.com:8443"}
identity:
  providers:
    corp: {issuer: "https://sso.example.com", client_id: zt, client_secret: "${file:certs/secret}", claims: [dept, site, clearance]}
networks: {office: [192.0.2.0/24], home: 198.51.100.0/24}
attributes: {department: dept, location: site}
roles:
  releaser: {groups: [releasers], users: [rita@example.com], when: {department: ops}}
access_levels:
  managed: {any: [{network: office}, {all: [{device_known: true}, {level: phishing-resistant}]}]}
break_glass: {accounts: [root@example.com], for: 1h}
stage: monitor
require: {mfa: multi}
rules:
  - {id: org-no-exports-abroad, deny: [export], when: {not: {country: [DE, FR]}}}
route_groups:
  lowcode:
    require: {reauth: 8h}
    rules: [{id: no-unknown-builders, deny: [build, deploy], when: {device_known: false}}]
    mask: [{name: ids, fields: ["$..ssn"], with: remove}]
routes:
  - name: builder
    host: flows.example.com
    upstream: http://127.0.0.1:1880
    group: lowcode
    profile: node-red
    rules:
      - {id: staff, allow: [view, use], to: {groups: [staff]}}
      - id: deploy
        allow: [{action: deploy, objects: ["flow:*"], methods: [POST]}]
        to: {roles: [releaser]}
        when:
          access_level: managed
          time: {days: mon-fri, from: "08:00", to: "18:00", zone: Europe/Berlin}
          risk: {at_most: medium}
        require: {reauth: 5m, mfa: phishing-resistant, justify: true, approve: {groups: [leads], for: 24h}}
        limit: {requests: 100, bytes: 50MB, per: 1h}
        notify: true
      - {id: finance, allow: [export], to: {groups: [finance]}, mask: [salaries]}
      - {id: trial, deny: [export], when: {risk: {at_least: high}}, mode: report}
    mask:
      - {name: salaries, fields: ["$..iban", "$..salary"], unless: {groups: [payroll]}, with: last4}
"""
