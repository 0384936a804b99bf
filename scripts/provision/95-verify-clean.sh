#!/usr/bin/env bash
# Fails and names everything that the cleanup should have taken away and that is still there.
set -euo pipefail

left=()
# gone WHAT PATTERN...: no file may match.
gone() {
  local what=$1 path
  shift
  while IFS= read -r path; do left+=("$what: $path"); done < <(compgen -G "$1" || true)
}

for home in /root /home/ubuntu; do
  gone "authorized key" "$home/.ssh/authorized_keys"
  gone "known hosts" "$home/.ssh/known_hosts"
  gone "history" "$home/.*_history"
  gone "npm cache" "$home/.npm"
  gone "credentials" "$home/.netrc"
  gone "credentials" "$home/.aws"
done
for place in /var/lib/amazon/ssm /var/snap/amazon-ssm-agent/common/var/lib/amazon/ssm; do
  while IFS= read -r path; do left+=("Systems Manager: $path"); done < <(find "$place"/*/document "$place"/*/session -type f 2>/dev/null)
done
# npm's own notes of where packages came from, and git's.
while IFS= read -r path; do left+=("password in a URL: $path"); done < <(
  grep -rlE --include=package.json --include='*package-lock.json' --include=.npmrc --include=config '://[^/@:" ]*:[^/@" ]+@' \
    /usr/local/lib/agent-ami /root /home /etc 2>/dev/null)
gone "SSH host key" '/etc/ssh/ssh_host_*'
gone "cloud-init instance" '/var/lib/cloud/instance*/*'
gone "package list" '/var/lib/apt/lists/*Packages*'
gone "package file" '/var/cache/apt/archives/*.deb'
gone "build certificate" '/usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt'
gone "build option" '/etc/dpkg/dpkg.cfg.d/agent-ami-build'
gone "build files" '/var/tmp/agent-ami*'
gone "fail2ban's memory" '/var/lib/fail2ban/fail2ban.sqlite3'
gone "random seed" '/var/lib/systemd/random-seed'
[[ ! -s /etc/machine-id ]] || left+=("machine-id: $(cat /etc/machine-id)")
[[ ! -s /var/lib/dbus/machine-id ]] || left+=("machine-id: /var/lib/dbus/machine-id")

if ((${#left[@]} > 0)); then
  printf 'still there: %s\n' "${left[@]}" >&2
  exit 1
fi
echo "nothing of the builder is left" >&2
