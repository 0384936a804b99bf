#!/usr/bin/env bash
# Enables automatic installation of security updates, and only of those (docs/src/reference-image.md#automatic-updates).
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

apt_install unattended-upgrades
cat >/etc/apt/apt.conf.d/20auto-upgrades <<'CONF'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
CONF
if [[ $(distribution) == debian ]]; then
  # Debian's default includes point releases; only security updates are required.
  cat >/etc/apt/apt.conf.d/52agent-ami-security-only <<'CONF'
#clear Unattended-Upgrade::Origins-Pattern;
Unattended-Upgrade::Origins-Pattern { "origin=Debian,codename=${distro_codename}-security,label=Debian-Security"; };
CONF
fi
systemctl enable --now apt-daily.timer apt-daily-upgrade.timer
systemctl enable unattended-upgrades.service
apt-config dump APT::Periodic::Unattended-Upgrade | grep -q '"1"' || die "APT::Periodic::Unattended-Upgrade is not 1"
