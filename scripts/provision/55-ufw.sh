#!/usr/bin/env bash
# Configures UFW: denies incoming connections except SSH (docs/src/reference-image.md#firewall).
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

# Disables LLMNR and mDNS, so that only sshd listens on non-loopback addresses (resolved.conf(5), LLMNR= and MulticastDNS=).
install -d -m 0755 /etc/systemd/resolved.conf.d
printf '[Resolve]\nLLMNR=no\nMulticastDNS=no\n' >/etc/systemd/resolved.conf.d/50-agent-ami.conf
systemctl try-restart systemd-resolved.service
