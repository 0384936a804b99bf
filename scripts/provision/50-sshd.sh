#!/usr/bin/env bash
# Configures sshd: no root login, keys only (docs/src/reference-image.md#ssh). The drop-in sorts first, because sshd uses the first value
# that it reads, and cloud-init writes drop-ins as well. Checks the effective configuration, not the file.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

cat >/etc/ssh/sshd_config.d/00-agent-ami.conf <<'CONF'
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
X11Forwarding no
MaxAuthTries 4
LoginGraceTime 60
CONF
chmod 0644 /etc/ssh/sshd_config.d/00-agent-ami.conf

install -d -m 0755 /run/sshd
effective=$(sshd -T -C user=root,host=localhost,addr=127.0.0.1)
for expected in "permitrootlogin no" "passwordauthentication no" "x11forwarding no"; do
  grep -qix "$expected" <<<"$effective" || die "sshd's effective configuration lacks '$expected'"
done
# With socket activation (ssh.socket) the service need not be running.
systemctl try-reload-or-restart ssh.service
info "root login and password authentication are disabled"
