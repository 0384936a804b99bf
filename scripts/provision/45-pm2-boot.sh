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
