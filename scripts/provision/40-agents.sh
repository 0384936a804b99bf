#!/usr/bin/env bash
# Bun, PM2 and the coding agents of PROVIDER from the lock file, in one transaction; the Locus CLI if LOCUS_PACKAGE names it.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly tools=$TOOLS_DIR/npm
declare -A commands=([claude-code]="claude" [codex]="codex")
declare -A packages=([claude-code]="@anthropic-ai/claude-code" [codex]="@openai/codex")

install -d -m 0755 "$tools"
cp /var/tmp/agent-ami/package.json /var/tmp/agent-ami/package-lock.json "$tools/"
cd "$tools"

say "installing the locked tools"
retry 3 npm ci --ignore-scripts --no-fund --no-audit
# Lifecycle scripts are the door of most attacks on npm: only these two, which put a native binary in place, are run.
npm rebuild --foreground-scripts @anthropic-ai/claude-code bun

links=(bun bunx pm2)
for agent in "${!packages[@]}"; do
  if [[ $PROVIDER == all || $PROVIDER == "$agent" ]]; then
    links+=("${commands[$agent]}")
  else
    # Not asked for: taken out again, so that the one lock file serves every choice.
    rm -rf "node_modules/${packages[$agent]}"
    find node_modules/.bin -xtype l -delete
  fi
done
for name in "${links[@]}"; do ln -sf "$tools/node_modules/.bin/$name" "/usr/local/bin/$name"; done

if [[ -n ${LOCUS_PACKAGE:-} ]]; then
  say "installing the Locus CLI: $LOCUS_PACKAGE"
  install -d -m 0755 "$TOOLS_DIR/locus"
  retry 3 npm install --prefix "$TOOLS_DIR/locus" --ignore-scripts --no-fund --no-audit "$LOCUS_PACKAGE"
  ln -sf "$TOOLS_DIR/locus/node_modules/.bin/locus" /usr/local/bin/locus
  links+=(locus)
fi

chmod -R a+rX "$TOOLS_DIR"
for name in "${links[@]}"; do
  say "$name $(runuser -u ubuntu -- env HOME=/home/ubuntu "$name" --version 2>/dev/null | tail -n 1)"
done
