#!/usr/bin/env bash
# Installs Git, at least GIT_MINIMUM: from Git's PPA on Ubuntu, otherwise from the distribution.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

if [[ $(distribution) == ubuntu ]]; then
  retry 3 add-apt-repository -y ppa:git-core/ppa
  apt_get update
fi
apt_install git

found=$(git --version | grep -oE '[0-9]+(\.[0-9]+)+')
version_at_least "$GIT_MINIMUM" "$found" || die "git is $found, expected at least $GIT_MINIMUM"
info "git $found"
