# shellcheck shell=bash
# What every provisioning script needs. Sourced; sets no options of its caller.

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
# Node has a certificate store of its own; while the image is built it must trust what the system trusts.
export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt

export TOOLS_DIR=/usr/local/lib/agent-ami
export NODE_DIR=/usr/local/lib/nodejs

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# retry TIMES COMMAND...: for what depends on the network; waits a little longer each time.
retry() {
  local times=$1 try
  shift
  for ((try = 1; try <= times; try++)); do
    "$@" && return 0
    say "try $try of $times failed: $*"
    sleep $((try * 3))
  done
  return 1
}

# apt_get ARGS...: never asks, waits for the lock, keeps configuration files that were changed.
apt_get() {
  retry 3 apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"
}

apt_install() { apt_get install --no-install-recommends "$@"; }

# distribution: ubuntu or debian.
distribution() {
  # shellcheck disable=SC1091
  (. /etc/os-release && printf '%s\n' "$ID")
}

# reachable URL: whether this network lets us there.
reachable() { curl -fsSI --max-time 8 -o /dev/null "$1" 2>/dev/null; }

# version_at_least WANTED FOUND
version_at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }
