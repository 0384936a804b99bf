# shellcheck shell=bash
# Inside the unit that isolate.sh made: what root passes on, and whether the unit is what it was asked to be. Sourced as its user.

# be_isolated FILE: takes NAME=VALUE pairs that NUL ends, looks at the unit, and ends this run when whoever started it is gone.
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

# enforced: systemd starts a unit without what this machine cannot do for it (in a container, for example), and only logs that.
enforced() {
  local missing=""
  grep -q $'^NoNewPrivs:\t1$' /proc/self/status || missing+=" NoNewPrivileges="
  grep -q $'^Seccomp:\t2$' /proc/self/status || missing+=" SystemCallFilter="
  [[ ! -w /etc && ! -w /usr && ! -w /var && ! -w /run ]] || missing+=" ProtectSystem="
  [[ -z $(find /home /root -mindepth 1 -maxdepth 1 2>/dev/null) ]] || missing+=" ProtectHome="
  # A datagram that the kernel may not send fails at once; where no route leads there, it fails as well.
  if { printf . >/dev/udp/169.254.169.254/9; } 2>/dev/null; then missing+=" IPAddressDeny="; fi
  [[ -z $missing ]] || fail 69 "this machine does not hold a unit to$missing" "an isolated run needs it; journalctl -b shows why, and DISPATCH_ISOLATE=0 does without"
}
