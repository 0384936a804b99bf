#!/usr/bin/env bash
# Makes LOGIN_USER the default user of cloud-init: an instance of the image gives it the launch key and sudo. Part of the last step,
# because a builder that starts from a layer logs in as the default user of the base image.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

# The file sorts after those of the distributions and of the base image.
cat >/etc/cloud/cloud.cfg.d/96-agent-ami-user.cfg <<CLOUD
system_info:
  default_user:
    name: $LOGIN_USER
    gecos: $LOGIN_USER
    lock_passwd: true
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
CLOUD

found=$(python3 -c 'from cloudinit.util import read_conf_with_confd as read; print(read("/etc/cloud/cloud.cfg")["system_info"]["default_user"]["name"])')
[[ $found == "$LOGIN_USER" ]] || die "the default user of cloud-init is $found, expected $LOGIN_USER"
info "instances give their launch key to $LOGIN_USER"
