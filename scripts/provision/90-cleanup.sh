#!/usr/bin/env bash
# Removes data of the builder that must not be in the image: identity, access, histories, caches, certificates of the build host.
# New SSH connections are impossible afterwards; the open one keeps working. 95-verify-clean.sh verifies the result.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

info "caches and build tools"
apt_get autoremove --purge
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /etc/dpkg/dpkg.cfg.d/agent-ami-build
# Files that the agents wrote when 80-manifest.sh ran them with --version.
rm -rf /home/*/.codex/tmp
find /home/*/.gemini -name '*.tmp' -delete 2>/dev/null || true
rm -rf /root/.npm /home/*/.npm /root/.cache /home/*/.cache /root/.config /root/.pm2 /root/.bun

info "certificates of the build host"
# Has the effect of `update-ca-certificates --fresh`, which would rehash all certificates: one minute on an emulated machine.
if compgen -G '/usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt' >/dev/null; then
  rm -f /usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt
  find /etc/ssl/certs -xtype l -delete
  find /etc/ssl/certs -name '*.pem' -type l -print0 | sort -z | xargs -0 awk 1 >/etc/ssl/certs/ca-certificates.new
  mv /etc/ssl/certs/ca-certificates.new /etc/ssl/certs/ca-certificates.crt
fi

info "state of services"
systemctl stop fail2ban.service
rm -f /var/lib/fail2ban/fail2ban.sqlite3
as_user pm2 flush >/dev/null 2>&1 || true
systemctl stop "pm2-$LOGIN_USER.service"
find "$LOGIN_HOME/.pm2" -mindepth 1 ! -name dump.pm2 -delete
echo '[]' >"$LOGIN_HOME/.pm2/dump.pm2"

info "commands that Systems Manager sent to the builder"
for place in /var/lib/amazon/ssm /var/snap/amazon-ssm-agent/common/var/lib/amazon/ssm; do
  # Files only: the agent may be running this command, and requires its directories.
  find "$place"/*/document "$place"/*/session -type f -delete 2>/dev/null || true
done
rm -f /var/log/amazon/ssm/*

info "access and identity"
rm -f /{root,home/*}/.ssh/{authorized_keys,known_hosts}
rm -f /etc/ssh/ssh_host_*
cloud-init clean --logs --seed
# Stop the service now, because it writes a seed when it stops; at shutdown it would leave the same seed for all instances.
systemctl stop systemd-random-seed.service
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
truncate -s 0 /etc/machine-id
rm -f /var/lib/dbus/machine-id
find /var/lib/dhcp /var/lib/dhcpcd /var/lib/NetworkManager -type f -name '*lease*' -delete 2>/dev/null || true

info "histories and logs"
rm -f /{root,home/*}/.*_history /{root,home/*}/.{wget-hsts,lesshst} /home/*/.sudo_as_admin_successful
# The journal continues in memory; the name of its directory on disk is the builder's machine-id.
journalctl --relinquish-var >/dev/null 2>&1 || true
find /var/log/journal -mindepth 1 -maxdepth 1 -exec rm -rf {} + 2>/dev/null || true
find /var/log -type f \( -name '*.gz' -o -name '*.1' -o -name '*.old' \) -delete
find /var/log -type f ! -path '/var/log/journal/*' -exec truncate -s 0 {} +
rm -rf /var/tmp/agent-ami
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name 'script_*.sh' -exec rm -rf {} +
sync
fstrim / 2>/dev/null || true
