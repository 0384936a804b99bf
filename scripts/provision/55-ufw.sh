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

# Names are asked of DNS: nothing but sshd listens on addresses of others (resolved.conf(5), LLMNR= and MulticastDNS=).
install -d -m 0755 /etc/systemd/resolved.conf.d
printf '[Resolve]\nLLMNR=no\nMulticastDNS=no\n' >/etc/systemd/resolved.conf.d/50-agent-ami.conf
systemctl try-restart systemd-resolved.service
