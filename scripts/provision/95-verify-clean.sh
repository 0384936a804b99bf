#!/usr/bin/env bash
# Fails if files that 90-cleanup.sh should have removed exist, and lists them.
set -euo pipefail

left=()
# absent WHAT PATTERN: no file may match.
absent() {
  local what=$1 path
  shift
  while IFS= read -r path; do left+=("$what: $path"); done < <(compgen -G "$1" || true)
}

for home in /root /home/*; do
  absent "authorized key" "$home/.ssh/authorized_keys"
  absent "known hosts" "$home/.ssh/known_hosts"
  absent "history" "$home/.*_history"
  absent "npm cache" "$home/.npm"
  absent "credentials" "$home/.netrc"
  absent "credentials" "$home/.aws"
done
for place in /var/lib/amazon/ssm /var/snap/amazon-ssm-agent/common/var/lib/amazon/ssm; do
  while IFS= read -r path; do left+=("Systems Manager: $path"); done < <(find "$place"/*/document "$place"/*/session -type f 2>/dev/null)
done
# npm and git store the URLs of packages and remotes.
while IFS= read -r path; do left+=("password in a URL: $path"); done < <(
  grep -rlE --include=package.json --include='*package-lock.json' --include=.npmrc --include=config '://[^/@:" ]*:[^/@" ]+@' \
    /usr/local/lib/agent-ami /root /home /etc 2>/dev/null)
absent "SSH host key" '/etc/ssh/ssh_host_*'
absent "cloud-init instance" '/var/lib/cloud/instance*/*'
absent "package list" '/var/lib/apt/lists/*Packages*'
absent "package file" '/var/cache/apt/archives/*.deb'
absent "build certificate" '/usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt'
absent "build option" '/etc/dpkg/dpkg.cfg.d/agent-ami-build'
absent "build files" '/var/tmp/agent-ami*'
absent "fail2ban database" '/var/lib/fail2ban/fail2ban.sqlite3'
absent "random seed" '/var/lib/systemd/random-seed'
[[ ! -s /etc/machine-id ]] || left+=("machine-id: $(cat /etc/machine-id)")
[[ ! -s /var/lib/dbus/machine-id ]] || left+=("machine-id: /var/lib/dbus/machine-id")

if ((${#left[@]} > 0)); then
  printf 'not removed: %s\n' "${left[@]}" >&2
  exit 1
fi
echo "the image contains no data of the builder" >&2
