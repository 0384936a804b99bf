# shellcheck shell=bash
# What a supervised command started and left behind. Sourced by supervise.sh.

# ours GROUP: the processes that are in the group, or bear this run's id and went into a session of their own.
ours() {
  local process
  # Not those that have ended and that nobody has waited for.
  pgrep -g "$1" -r D,R,S,T,t,I || :
  for process in /proc/[0-9]*; do
    if grep -qzxF "DISPATCH_RUN=${RUN##*/}" "$process/environ" 2>/dev/null; then printf '%s\n' "${process##*/}"; fi
  done
}

# sweep GROUP: kills them.
sweep() {
  local all
  mapfile -t all < <(ours "$1")
  ((${#all[@]} == 0)) || kill -KILL "${all[@]}" 2>/dev/null || :
}

# end_leftovers GROUP: what a command started and left behind ends with it, after DISPATCH_GRACE seconds by force.
end_leftovers() {
  local all tries=0
  mapfile -t all < <(ours "$1" | sort -u)
  ((${#all[@]} > 0)) || return 0
  printf 'dispatch: %s processes that it left behind are ended\n' "${#all[@]}"
  kill -TERM "${all[@]}" 2>/dev/null || :
  while [[ -n $(ours "$1") && -z $SIGNALLED ]] && ((tries++ < ${DISPATCH_GRACE:-10} * 10)); do sleep 0.1 3<&-; done
  sweep "$1"
}
