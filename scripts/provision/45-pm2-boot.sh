#!/usr/bin/env bash
# Starts PM2 for LOGIN_USER at boot, which restores its saved processes.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

# An empty process list: without one `pm2 resurrect` fails, and the unit with it.
install -d -m 0755 -o "$LOGIN_USER" -g "$LOGIN_USER" "$LOGIN_HOME/.pm2"
echo '[]' >"$LOGIN_HOME/.pm2/dump.pm2"
chown "$LOGIN_USER:$LOGIN_USER" "$LOGIN_HOME/.pm2/dump.pm2"

env PATH="$PATH" pm2 startup systemd -u "$LOGIN_USER" --hp "$LOGIN_HOME" >/dev/null
# Every pm2 command starts a daemon if none is running. The image must not contain root's, and the unit fails if a daemon of LOGIN_USER
# already runs, because it waits for the pid file of the daemon that it started.
pm2 kill >/dev/null 2>&1 || true
rm -rf /root/.pm2
as_user pm2 kill >/dev/null 2>&1 || true

systemctl daemon-reload
systemctl enable --now "pm2-$LOGIN_USER.service"
systemctl is-active "pm2-$LOGIN_USER.service"

# The output of agents under PM2 must not fill the disk: PM2 does not rotate its logs (pm2.keymetrics.io, "Log Management"). It keeps the
# files open, so logrotate copies and truncates them.
cat >"/etc/logrotate.d/pm2-$LOGIN_USER" <<CONF
$LOGIN_HOME/.pm2/pm2.log $LOGIN_HOME/.pm2/logs/*.log {
  su $LOGIN_USER $LOGIN_USER
  daily
  maxsize 10M
  rotate 5
  compress
  missingok
  notifempty
  copytruncate
}
CONF
# maxsize= requires more than one run a day. An hourly timer need not catch up at boot.
install -d -m 0755 /etc/systemd/system/logrotate.timer.d
printf '[Timer]\nOnCalendar=\nOnCalendar=hourly\nPersistent=no\n' >/etc/systemd/system/logrotate.timer.d/agent-ami.conf
systemctl daemon-reload
systemctl enable --now logrotate.timer
