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

# apt_get ARGS...: never asks, waits for dpkg's lock and that of the lists, keeps configuration files that were changed. An archive that
# cannot be read fails `update`, which else takes what it has and ends with 0.
apt_get() {
  retry 3 wait_and_apt_get -q -y -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"
}

wait_and_apt_get() {
  wait_for_lists 300 && apt-get "$@"
}

# wait_for_lists SECONDS: until nobody holds the lock of the package lists, which DPkg::Lock::Timeout= is not for.
wait_for_lists() {
  local lists inode waited=0
  lists=$(apt-config shell lists Dir::State::lists/d | sed "s/^lists='\(.*\)'$/\1/")
  while inode=$(stat -c %i -- "$lists/lock" 2>/dev/null) && grep -qE "^[0-9]+: (POSIX|OFDLCK) .* WRITE .*:$inode [0-9]" /proc/locks; do
    ((waited % 30 > 0)) || say "another program holds $lists/lock"
    ((waited < $1)) || { say "$lists/lock is still held after $1 s"; return 1; }
    sleep 1
    waited=$((waited + 1))
  done
}

# apt_upgrade: all updates, those that want a new package too, as every kernel does; fails if a security update is left.
apt_upgrade() {
  local left
  apt_get upgrade --with-new-pkgs
  left=$(pending_security)
  [[ -z $left ]] || die "security updates are not installed: $left; what keeps them back? apt-mark showhold"
}

# pending_security: packages with an update in an archive of security updates.
pending_security() {
  apt-get -s -o Debug::NoLocking=true dist-upgrade | sed -n 's/^Inst \([^ ]*\) .*[Ss]ecurity.*/\1/p' | paste -sd ' '
}

# settled: the first boot's own work is done, and no timer of apt's begins in the middle of ours.
settled() {
  local code=0 unit waited=0
  [[ -d /run/systemd/system ]] || return 0
  systemctl stop apt-daily.timer apt-daily-upgrade.timer 2>/dev/null || :
  if command -v cloud-init >/dev/null; then
    timeout 600 cloud-init status --wait >/dev/null || code=$?
    # 2: it is done and had something to say that did not stop it.
    ((code == 0 || code == 2)) || die "cloud-init did not end well ($code): cloud-init status --long"
  fi
  for unit in apt-daily.service apt-daily-upgrade.service; do
    while [[ $(systemctl show --property ActiveState --value "$unit") == @(activating|active) ]]; do
      ((waited++ < 600)) || die "$unit still runs after 600 s"
      sleep 1
    done
  done
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
