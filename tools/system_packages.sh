#!/bin/sh
# Debian packages that tests and the report's picture need: git (git+https references), chromium (browser tests).
# Installs what is missing when it may; says what to install when it may not.
set -eu
missing=""
command -v git >/dev/null 2>&1 || missing="$missing git"
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing Debian packages:$missing"
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "missing programs:$missing" >&2
  echo "install them first, for example: sudo apt-get install$missing" >&2
  echo "(only the browser and git tests need them; everything else works without)" >&2
fi
