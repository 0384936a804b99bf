# shellcheck shell=bash
# Runs inside the unit of isolate.sh: reads the variables from root and checks that the sandbox is in effect. Sourced as the unit's user.

# be_isolated FILE: exports the NUL-terminated NAME=VALUE pairs, checks the sandbox, and ends this run when the starting process ends.
be_isolated() {
  local pair
  while IFS= read -r -d '' pair; do declare -gx "$pair"; done <"$1"
  enforced
  # shellcheck disable=SC2034 # read by metadata.sh
  ISOLATED=1
  (
    exec </dev/null >/dev/null 2>&1
    flock --shared "$DISPATCH_STARTER" true && kill -TERM "$$"
  ) &
  unset DISPATCH_STARTER
}

# enforced: fails if a restriction is not in effect. systemd only logs restrictions that the machine does not support (in a container, for example).
enforced() {
  local missing=""
  grep -q $'^NoNewPrivs:\t1$' /proc/self/status || missing+=" NoNewPrivileges="
  grep -q $'^Seccomp:\t2$' /proc/self/status || missing+=" SystemCallFilter="
  [[ ! -w /etc && ! -w /usr && ! -w /var && ! -w /run ]] || missing+=" ProtectSystem="
  [[ -z $(find /home /root -mindepth 1 -maxdepth 1 2>/dev/null) ]] || missing+=" ProtectHome="
  # Sending a datagram fails immediately if IPAddressDeny= is in effect, and also without a route.
  if { printf . >/dev/udp/169.254.169.254/9; } 2>/dev/null; then missing+=" IPAddressDeny="; fi
  [[ -z $missing ]] || fail 69 "this machine does not enforce$missing, which isolated runs require" "journalctl -b shows why; set DISPATCH_ISOLATE=0 to run without isolation"
}
