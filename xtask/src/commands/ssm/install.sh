#!/bin/bash
# Run as root on a node by `ssm install`, which prepends sum, user and archive(): installs the scripts that archive() prints, and checks the
# installed files and that dispatch.sh runs.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
dir=$(mktemp -d /var/tmp/agent-ami-XXXXXX)
trap 'rm -rf "$dir"' EXIT
archive >"$dir/scripts.tar.gz"
# shellcheck disable=SC2154 # `ssm install` prepends sum and user
[[ $(sha256sum <"$dir/scripts.tar.gz") == "$sum  -" ]] || { echo "ssm install: the scripts were damaged in transfer" >&2; exit 65; }
mkdir "$dir/scripts"
tar -xzf "$dir/scripts.tar.gz" -C "$dir/scripts" --no-same-owner
command -v jq >/dev/null || echo "ssm install: dispatch requires jq, which is not installed; run apt-get install jq"
prefix=${PREFIX:-/usr/local/lib/agent-ami/agent}
# shellcheck disable=SC2154
PREFIX=$prefix "$dir/scripts/install.sh" ${user:+"$user"}
(cd "$dir/scripts" && find . -type f -exec sha256sum {} +) | (cd "$prefix" && sha256sum --quiet --check) >&2
# Without a task, dispatch.sh switches from root to the user and then exits with 64.
code=0
"$prefix/dispatch.sh" </dev/null >/dev/null 2>&1 || code=$?
((code == 64)) || { echo "ssm install: dispatch.sh exited with $code, expected 64" >&2; exit 70; }
echo "installed=$sum"
