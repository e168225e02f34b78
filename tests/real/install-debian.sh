#!/bin/sh
# Installs from Debian what the tests and the benchmark drive and this machine lacks: chromium, nginx, wrk,
# node, npm, slowhttptest.
# Does nothing when all of it is there. Usage: install-debian.sh [COMMAND...] (default: all of them)
set -eu

[ $# -gt 0 ] || set -- chromium nginx wrk node npm slowhttptest

missing=""
for command in "$@"; do
  # nginx lives in /usr/sbin, which is not on everybody's PATH.
  if ! PATH="$PATH:/usr/sbin" command -v "$command" >/dev/null 2>&1; then
    case "$command" in
      node) missing="$missing nodejs" ;;
      *) missing="$missing $command" ;;
    esac
  fi
done
[ -n "$missing" ] || exit 0

fail() {
  echo "install-debian.sh: $1" >&2
  echo "install-debian.sh: these Debian packages are missing:$missing" >&2
  echo "install-debian.sh: install them with: sudo apt-get install --no-install-recommends$missing" >&2
  exit 1
}

command -v apt-get >/dev/null 2>&1 || fail "this system has no apt-get"
if [ "$(id -u)" -eq 0 ]; then
  as_root="env"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  as_root="sudo env"
else
  fail "not root, and sudo needs a password or is not there"
fi

echo "installing$missing" >&2
$as_root apt-get update -qq || fail "apt-get update did not work"
# shellcheck disable=SC2086  # a list of words on purpose
$as_root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2 ||
  fail "apt-get install did not work"
