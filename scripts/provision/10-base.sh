#!/usr/bin/env bash
# Installs system packages (docs/src/reference-image.md#packages), all updates, and the packages in EXTRA_PACKAGES.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

# dpkg need not sync every file, because a failed build discards the disk. 90-cleanup.sh removes this option.
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/agent-ami-build

packages=(
  build-essential python3 python3-pip curl wget unzip jq ca-certificates gnupg lsb-release
  openssh-server iproute2 procps logrotate
)
# Debian 13 does not have these packages: its apt supports HTTPS, and add-apt-repository is specific to Ubuntu.
[[ $(distribution) != ubuntu ]] || packages+=(software-properties-common apt-transport-https)
# AWS rejects requests if the clock is off by more than 5 minutes. AWS's own images have chrony.
[[ -e /usr/sbin/chronyd ]] || packages+=(systemd-timesyncd)
read -ra extra <<<"${EXTRA_PACKAGES:-}"

settled
info "updating"
apt_get update
apt_upgrade
info "installing ${#packages[@]} packages and ${#extra[@]} extra packages"
apt_install "${packages[@]}" "${extra[@]}"
[[ -e /usr/sbin/chronyd ]] || systemctl enable systemd-timesyncd.service
