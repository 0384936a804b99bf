#!/usr/bin/env bash
# Security updates come by themselves, and only those (guide, section 10.4).
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

apt_install unattended-upgrades
cat >/etc/apt/apt.conf.d/20auto-upgrades <<'CONF'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
CONF
if [[ $(distribution) == debian ]]; then
  # Debian's default takes point releases too; the guide wants security patches only.
  cat >/etc/apt/apt.conf.d/52agent-ami-security-only <<'CONF'
#clear Unattended-Upgrade::Origins-Pattern;
Unattended-Upgrade::Origins-Pattern { "origin=Debian,codename=${distro_codename}-security,label=Debian-Security"; };
CONF
fi
systemctl enable --now apt-daily.timer apt-daily-upgrade.timer
systemctl enable unattended-upgrades.service
apt-config dump APT::Periodic::Unattended-Upgrade | grep -q '"1"' || die "apt does not say that upgrades are on"
