#!/usr/bin/env bash
# Git, at least GIT_MINIMUM (guide, section 4.2): from git's own PPA on Ubuntu, else the distribution's.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

if [[ $(distribution) == ubuntu ]]; then
  retry 3 add-apt-repository -y ppa:git-core/ppa
  apt_get update
fi
apt_install git

found=$(git --version | grep -oE '[0-9]+(\.[0-9]+)+')
version_at_least "$GIT_MINIMUM" "$found" || die "git is $found, wanted at least $GIT_MINIMUM"
say "git $found"
