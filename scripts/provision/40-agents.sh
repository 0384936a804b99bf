#!/usr/bin/env bash
# Installs Bun, PM2 and the coding agents of PROVIDER from the lock file in one transaction, and the Locus CLI if LOCUS_PACKAGE is set.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

# npm stores the URL of a package in world-readable files.
[[ ! ${LOCUS_PACKAGE:-} =~ ://[^/@]*:[^/@]*@|https?://[^/@]+@ ]] ||
  die "LOCUS_PACKAGE has a user or a password in its URL: upload the package with a file provisioner and name its path"

readonly tools=$TOOLS_DIR/npm
declare -A commands=([claude-code]="claude" [codex]="codex" [gemini]="gemini" [grok]="grok")
declare -A packages=([claude-code]="@anthropic-ai/claude-code" [codex]="@openai/codex" [gemini]="@google/gemini-cli" [grok]="@xai-official/grok-linux-x64")

install -d -m 0755 "$tools"
cp /var/tmp/agent-ami/package.json /var/tmp/agent-ami/package-lock.json "$tools/"
cd "$tools"

links=(bun bunx pm2)
scripts=(bun)
for agent in "${!packages[@]}"; do
  if [[ $PROVIDER == all || $PROVIDER == "$agent" ]]; then
    links+=("${commands[$agent]}")
    [[ $agent != claude-code ]] || scripts+=("${packages[$agent]}")
  else
    # Not selected: remove it and its dependencies from the copy of the lock file, so that one lock file covers all providers.
    npm uninstall --package-lock-only --ignore-scripts --no-fund --no-audit --loglevel=error "${packages[$agent]}"
  fi
done

info "installing the locked tools"
retry 3 npm ci --ignore-scripts --no-fund --no-audit
# Most attacks through npm use lifecycle scripts, so only the two that install a native binary run.
npm rebuild --foreground-scripts "${scripts[@]}"
# The binary of grok is compressed. Decompress it here once; its npm package would do so at the first start.
if [[ -e node_modules/${packages[grok]} ]]; then
  packed=node_modules/${packages[grok]}/bin/grok.br
  node -e 'const fs = require("fs"); fs.writeFileSync(process.argv[2], require("zlib").brotliDecompressSync(fs.readFileSync(process.argv[1])))' \
    "$packed" node_modules/.bin/grok
  chmod 0755 node_modules/.bin/grok
  rm -f "$packed"
fi

for name in "${links[@]}"; do ln -sf "$tools/node_modules/.bin/$name" "/usr/local/bin/$name"; done

if [[ -n ${LOCUS_PACKAGE:-} ]]; then
  info "installing the Locus CLI: $LOCUS_PACKAGE"
  install -d -m 0755 "$TOOLS_DIR/locus"
  retry 3 npm install --prefix "$TOOLS_DIR/locus" --ignore-scripts --no-fund --no-audit "$LOCUS_PACKAGE"
  ln -sf "$TOOLS_DIR/locus/node_modules/.bin/locus" /usr/local/bin/locus
  links+=(locus)
fi

chmod -R a+rX "$TOOLS_DIR"
for name in "${links[@]}"; do
  info "$name $(as_user "$name" --version 2>/dev/null | tail -n 1)"
done
