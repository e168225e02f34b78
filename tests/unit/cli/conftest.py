"""A policy to ask questions about, without certificates or secrets, and people to ask about."""

from pathlib import Path

import pytest

CONFIG = """version: 1
listen:
  - {name: web, address: "0.0.0.0:8443", tls: {certificate: site.pem, key: site.key}}
portal: {url: "https://auth.example.com:8443"}
identity:
  providers:
    corp: {issuer: "https://sso.example.com", client_id: zt, client_secret: "${file:secret}", claims: [dept]}
networks: {office: [192.0.2.0/24], home: 198.51.100.0/24}
roles: {releaser: {groups: [releasers]}}
routes:
  - name: builder
    host: flows.example.com
    upstream: http://127.0.0.1:1880
    profile: node-red
    rules:
      - {id: staff, allow: [view, use], to: {groups: [staff]}}
      - {id: deploy, allow: [deploy], to: {roles: [releaser]}, when: {network: office}, require: {reauth: 5m}}
      - {id: finance, allow: [export], to: {groups: [finance]}, mask: [pay]}
      - {id: new-devices, deny: [deploy], when: {device_known: false}}
    mask: [{name: pay, fields: ["$..salary"], with: last4, only_by_rule: true}]
integrations:
  sync:
    owner: ops@example.com
    purpose: nightly
    certificate: [{san_dns: sync.example.com, issuer: "CN=Clients,O=Example"}]
    allow: [{route: builder, methods: [GET], paths: ["/flows"]}]
"""
PEOPLE = """
- {user: ann@example.com, groups: [staff]}
- {user: rita@example.com, groups: [releasers]}
- {subject: "4711", groups: []}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "zt-proxy.yaml"
    path.write_text(CONFIG)
    (tmp_path / "people.yaml").write_text(PEOPLE)
    return path
