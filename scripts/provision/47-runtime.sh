#!/usr/bin/env bash
# The agents' runtime: the dispatch scripts, root's and linked from ubuntu's claude-executor, and the policy that brings the Systems
# Manager agent back. The agent itself comes with the base image or with the instance; here the machine is ready for either unit.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

bash -p /var/tmp/agent-ami/agent/install.sh ubuntu
/usr/local/lib/agent-ami/agent/ssm-keepalive.sh --prepare
# Through the link, as root: it must come as far as to say that it has no task.
code=0
/home/ubuntu/claude-executor/dispatch.sh || code=$?
((code == 64)) || die "dispatch.sh ended with $code, wanted 64"
