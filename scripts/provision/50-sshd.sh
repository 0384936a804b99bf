#!/usr/bin/env bash
# sshd: no root login, keys only (guide, sections 10.1 and 10.5). A drop-in that sorts first, because sshd takes the first
# value it reads and cloud-init writes drop-ins too; judged by what sshd says, not by the file.
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
for wanted in "permitrootlogin no" "passwordauthentication no" "x11forwarding no"; do
  grep -qix "$wanted" <<<"$effective" || die "sshd does not say '$wanted'"
done
# Where connections start it (ssh.socket), it need not run now.
systemctl try-reload-or-restart ssh.service
say "root and passwords are refused"
