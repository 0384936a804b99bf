#!/usr/bin/env bash
# UFW: nothing comes in but SSH (guide, section 10.2).
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

apt_install ufw
ufw default deny incoming
ufw default allow outgoing
ufw allow 22/tcp
ufw --force enable
ufw status verbose | grep -q '^Status: active' || die "ufw is not active"
systemctl enable ufw.service
