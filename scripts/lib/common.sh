# shellcheck shell=bash
# Functions and variables of all provisioning scripts. Sourced; does not change the options of its caller.

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
# Node.js has its own certificate store. During the build it must trust the system's certificates as well.
export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt

export TOOLS_DIR=/usr/local/lib/agent-ami
export NODE_DIR=/usr/local/lib/nodejs
# The account that people and agents use. The builder logs in as the base image's account, ubuntu.
export LOGIN_USER=${LOGIN_USER:-ubuntu}
export LOGIN_HOME=/home/$LOGIN_USER

info() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# retry TIMES COMMAND...: for commands that depend on the network; waits 3 s longer after each failure.
retry() {
  local times=$1 try
  shift
  for ((try = 1; try <= times; try++)); do
    "$@" && return 0
    info "try $try of $times failed: $*"
    sleep $((try * 3))
  done
  return 1
}

# apt_get ARGS...: non-interactive; waits for the locks of dpkg and of the package lists, and keeps modified configuration files. With
# Error-Mode=any `update` fails if an archive is unreachable; by default it exits with 0.
apt_get() {
  retry 3 wait_and_apt_get -q -y -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"
}

wait_and_apt_get() {
  wait_for_lists 300 && apt-get "$@"
}

# wait_for_lists SECONDS: waits until the lock of the package lists is free, which DPkg::Lock::Timeout= does not cover.
wait_for_lists() {
  local lists inode waited=0
  lists=$(apt-config shell lists Dir::State::lists/d | sed "s/^lists='\(.*\)'$/\1/")
  while inode=$(stat -c %i -- "$lists/lock" 2>/dev/null) && grep -qE "^[0-9]+: (POSIX|OFDLCK) .* WRITE .*:$inode [0-9]" /proc/locks; do
    ((waited % 30 > 0)) || info "another program holds $lists/lock"
    ((waited < $1)) || { info "$lists/lock is still held after $1 s"; return 1; }
    sleep 1
    waited=$((waited + 1))
  done
}

# apt_upgrade: installs all updates, including those that require a new package (kernels do); fails if a security update remains.
apt_upgrade() {
  local left
  apt_get upgrade --with-new-pkgs
  left=$(pending_security)
  [[ -z $left ]] || die "security updates are not installed: $left; list held packages with apt-mark showhold"
}

# pending_security: prints the packages with an update in an archive of security updates.
pending_security() {
  apt-get -s -o Debug::NoLocking=true dist-upgrade | sed -n 's/^Inst \([^ ]*\) .*[Ss]ecurity.*/\1/p' | paste -sd ' '
}

# settled: waits until cloud-init and apt's services have finished, and stops apt's timers.
settled() {
  local code=0 unit waited=0
  [[ -d /run/systemd/system ]] || return 0
  systemctl stop apt-daily.timer apt-daily-upgrade.timer 2>/dev/null || :
  if command -v cloud-init >/dev/null; then
    timeout 600 cloud-init status --wait >/dev/null || code=$?
    # 2: finished with recoverable errors.
    ((code == 0 || code == 2)) || die "cloud-init failed with exit code $code; run cloud-init status --long"
  fi
  for unit in apt-daily.service apt-daily-upgrade.service; do
    while [[ $(systemctl show --property ActiveState --value "$unit") == @(activating|active) ]]; do
      ((waited++ < 600)) || die "$unit still runs after 600 s"
      sleep 1
    done
  done
}

apt_install() { apt_get install --no-install-recommends "$@"; }

# as_user COMMAND...: runs the command as LOGIN_USER in its home directory; it may not be able to enter the current one.
as_user() { runuser -u "$LOGIN_USER" -- env --chdir="$LOGIN_HOME" HOME="$LOGIN_HOME" "$@"; }

# distribution: prints ubuntu or debian.
distribution() {
  # shellcheck disable=SC1091
  (. /etc/os-release && printf '%s\n' "$ID")
}

# reachable URL: true if the URL responds within 8 s.
reachable() { curl -fsSI --max-time 8 -o /dev/null "$1" 2>/dev/null; }

# version_at_least MINIMUM FOUND
version_at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }
