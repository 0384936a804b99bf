#!/usr/bin/env bash
# Installs the dispatch scripts, which root owns and LOGIN_USER's claude-executor links to, and the restart policy of the Systems Manager
# agent. The base image or the instance provides that agent, as a snap or a package; the policy covers both units.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

bash -p /var/tmp/agent-ami/agent/install.sh "$LOGIN_USER"
/usr/local/lib/agent-ami/agent/ssm-keepalive.sh --prepare
# Run the link as root: the script must drop privileges and then exit with 64, because it has no task.
code=0
"$LOGIN_HOME"/claude-executor/dispatch.sh || code=$?
((code == 64)) || die "dispatch.sh exited with $code, expected 64"
