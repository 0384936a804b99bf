#!/bin/bash
# Run as root on a node by `ssm install`, which writes sum, user and archive() before it: installs the scripts that archive() prints, and asks
# them and the file system whether they are installed.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
folder=$(mktemp -d /var/tmp/agent-ami-XXXXXX)
trap 'rm -rf "$folder"' EXIT
archive >"$folder/scripts.tar.gz"
# shellcheck disable=SC2154 # sum and user stand before it
[[ $(sha256sum <"$folder/scripts.tar.gz") == "$sum  -" ]] || { echo "ssm install: the scripts arrived damaged" >&2; exit 65; }
mkdir "$folder/scripts"
tar -xzf "$folder/scripts.tar.gz" -C "$folder/scripts" --no-same-owner
command -v jq >/dev/null || echo "ssm install: jq is missing, which dispatch needs: apt-get install jq"
prefix=${PREFIX:-/usr/local/lib/agent-ami/agent}
# shellcheck disable=SC2154
PREFIX=$prefix "$folder/scripts/install.sh" "$user"
(cd "$folder/scripts" && find . -type f -exec sha256sum {} +) | (cd "$prefix" && sha256sum --quiet --check) >&2
# Root's own way in: without a task it ends with 64, after it has become the user.
code=0
DISPATCH_USER=$user "$prefix/dispatch.sh" </dev/null >/dev/null 2>&1 || code=$?
((code == 64)) || { echo "ssm install: dispatch.sh ended with $code, wanted 64" >&2; exit 70; }
echo "installed=$sum"
