#!/usr/bin/env bash
# System packages (guide, section 4.1), all updates, and what the caller wants besides (EXTRA_PACKAGES).
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

# The builder's disk is thrown away if the build fails: dpkg need not sync after every file. 90-cleanup.sh takes it back.
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/agent-ami-build

packages=(
  build-essential python3 python3-pip curl wget unzip jq ca-certificates gnupg lsb-release
  openssh-server iproute2 procps logrotate
)
# Debian 13 has no such packages: apt speaks HTTPS itself and add-apt-repository is Ubuntu's.
[[ $(distribution) != ubuntu ]] || packages+=(software-properties-common apt-transport-https)
# A clock that is 5 minutes off makes AWS refuse every request. AWS's own images have chrony.
[[ -e /usr/sbin/chronyd ]] || packages+=(systemd-timesyncd)
read -ra extra <<<"${EXTRA_PACKAGES:-}"

settled
say "updating"
apt_get update
apt_upgrade
say "installing ${#packages[@]} packages and ${#extra[@]} extra ones"
apt_install "${packages[@]}" "${extra[@]}"
[[ -e /usr/sbin/chronyd ]] || systemctl enable systemd-timesyncd.service
