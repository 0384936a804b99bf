#!/usr/bin/env bash
# PM2 comes up at boot for ubuntu and brings back the processes it saved (guide, section 4.5).
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

# An empty list to begin with: without one `pm2 resurrect` fails and with it the unit.
install -d -m 0755 -o ubuntu -g ubuntu /home/ubuntu/.pm2
echo '[]' >/home/ubuntu/.pm2/dump.pm2
chown ubuntu:ubuntu /home/ubuntu/.pm2/dump.pm2

env PATH="$PATH" pm2 startup systemd -u ubuntu --hp /home/ubuntu >/dev/null
# Every pm2 command starts a daemon if there is none. root's has no business in the image, and one of ubuntu's that the unit
# did not start would make the unit fail: it waits for the pid file of its own.
pm2 kill >/dev/null 2>&1 || true
rm -rf /root/.pm2
runuser -u ubuntu -- env HOME=/home/ubuntu pm2 kill >/dev/null 2>&1 || true

systemctl daemon-reload
systemctl enable --now pm2-ubuntu.service
systemctl is-active pm2-ubuntu.service

# What an agent prints under PM2 must not fill the disk: PM2 itself never ends a log (pm2.keymetrics.io, "Log Management"). It keeps its
# files open, so they are copied and truncated.
cat >/etc/logrotate.d/pm2-ubuntu <<'CONF'
/home/ubuntu/.pm2/pm2.log /home/ubuntu/.pm2/logs/*.log {
  su ubuntu ubuntu
  daily
  maxsize 10M
  rotate 5
  compress
  missingok
  notifempty
  copytruncate
}
CONF
# Once a day would be too late for maxsize=; what comes every hour need not catch up at boot.
install -d -m 0755 /etc/systemd/system/logrotate.timer.d
printf '[Timer]\nOnCalendar=\nOnCalendar=hourly\nPersistent=no\n' >/etc/systemd/system/logrotate.timer.d/agent-ami.conf
systemctl daemon-reload
systemctl enable --now logrotate.timer
