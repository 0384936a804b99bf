#!/usr/bin/env bash
# Installs fail2ban with the [sshd] jail of docs/src/reference-image.md#fail2ban. Without rsyslog there is no log file, so the jail reads
# the journal. Checks the jail itself, not only the unit.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

apt_install fail2ban python3-systemd
cat >/etc/fail2ban/jail.local <<'CONF'
[DEFAULT]
backend = systemd

[sshd]
enabled = true
port = 22
maxretry = 3
bantime = 3600
findtime = 600
CONF
systemctl enable fail2ban.service
systemctl restart fail2ban.service
for ((second = 0; second < 60; second++)); do
  if fail2ban-client status sshd; then exit 0; fi
  sleep 1
done
journalctl -u fail2ban.service --no-pager | tail -n 20
die "the sshd jail is not running after 60 s"
