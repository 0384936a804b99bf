#!/usr/bin/env bash
# Installs Python 3.11 as python3.11, beside the system's python3: from the distribution if it has a release of it (Ubuntu 22.04 has a
# release candidate), else PYTHON_VERSION (RELEASE+BUILD) of python-build-standalone with the hash PYTHON_SHA256, else, on Debian, the
# signed packages of Debian 12.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh
# shellcheck source=../lib/download.sh
. /var/tmp/agent-ami/lib/download.sh

readonly minimum=3.11.2 place=/usr/local/lib/python-3.11 debian_12=/etc/apt/sources.list.d/agent-ami-debian-12.list
readonly source=https://github.com/astral-sh/python-build-standalone/releases/download
readonly release=${PYTHON_VERSION%+*} build=${PYTHON_VERSION#*+}
readonly url=$source/$build/cpython-$release%2B$build-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz

# has_release: true if apt would install a release; in a Debian version `~rc1` sorts before it.
has_release() {
  local candidate
  candidate=$(apt-cache policy python3.11 | sed -n 's/^ *Candidate: //p')
  [[ $candidate == [0-9]* ]] && dpkg --compare-versions "$candidate" ge "$minimum"
}

from_tarball() {
  local file=/var/tmp/agent-ami/python.tar.gz
  info "Python $release from python-build-standalone"
  download "$url" "$PYTHON_SHA256" "$file"
  rm -rf "$place"
  install -d -m 0755 "$place"
  tar -xzf "$file" -C "$place" --strip-components=1 --no-same-owner
  rm -f "$file"
  ln -sf "$place/bin/python3.11" /usr/local/bin/python3.11
}

# from_debian_12: adds the suites of Debian 12 that correspond to the configured ones, for Python 3.11 only: other packages of Debian 12
# must not replace newer ones. Security updates are installed automatically, as for the distribution's packages.
from_debian_12() {
  local codename site suite key=/usr/share/keyrings/debian-archive-keyring.gpg
  info "Python 3.11 from Debian 12"
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && printf '%s\n' "$VERSION_CODENAME")
  # shellcheck disable=SC2016 # expanded by apt-get
  apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' | sort -u | while read -r site suite; do
    [[ $suite != "$codename"* ]] || echo "deb [signed-by=$key] $site bookworm${suite#"$codename"} main"
  done >"$debian_12"
  cat >/etc/apt/preferences.d/agent-ami-debian-12 <<'PREFERENCES'
Package: *
Pin: release n=bookworm*
Pin-Priority: -1

Package: python3.11* libpython3.11*
Pin: release n=bookworm*
Pin-Priority: 500
PREFERENCES
  cat >/etc/apt/apt.conf.d/53agent-ami-debian-12 <<'CONF'
Unattended-Upgrade::Origins-Pattern { "origin=Debian,codename=bookworm-security,label=Debian-Security"; };
CONF
  apt_get update
  has_release || die "the archives in $debian_12 have no Python 3.11 of at least $minimum"
  # python3.11-venv requires packages of Debian 12 that conflict with newer ones. It has only the pip of new environments.
  apt_install python3.11
}

if [[ -e $debian_12 ]]; then
  from_debian_12
elif has_release; then
  apt_install python3.11 python3.11-venv
elif reachable "$url"; then
  from_tarball
elif [[ $(distribution) == debian ]]; then
  from_debian_12
else
  die "$url is unreachable, and the distribution has no release of Python 3.11"
fi

scratch=$(mktemp -d)
python3.11 -m venv --without-pip "$scratch"
found=$("$scratch/bin/python" -c 'import ssl, sqlite3, sys; print("%d.%d.%d" % sys.version_info[:3])')
rm -rf "$scratch"
if [[ $found != 3.11.* ]] || ! version_at_least "$minimum" "$found"; then die "python3.11 is $found, expected 3.11, at least $minimum"; fi
info "python3.11 $found"
