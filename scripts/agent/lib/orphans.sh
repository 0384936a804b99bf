# shellcheck shell=bash
# Orphaned processes of a supervised command. Sourced by supervise.sh.

# ours GROUP: prints the processes in the group, and those in other sessions that have this run's id in their environment.
ours() {
  local process
  # The states exclude zombies.
  pgrep -g "$1" -r D,R,S,T,t,I || :
  for process in /proc/[0-9]*; do
    if grep -qzxF "DISPATCH_RUN=${RUN##*/}" "$process/environ" 2>/dev/null; then printf '%s\n' "${process##*/}"; fi
  done
}

# sweep GROUP: kills the processes that `ours` prints.
sweep() {
  local all
  mapfile -t all < <(ours "$1")
  ((${#all[@]} == 0)) || kill -KILL "${all[@]}" 2>/dev/null || :
}

# end_orphans GROUP: ends the processes that a command left running, after DISPATCH_GRACE seconds by SIGKILL.
end_orphans() {
  local all tries=0
  mapfile -t all < <(ours "$1" | sort -u)
  ((${#all[@]} > 0)) || return 0
  printf 'dispatch: ending %s orphaned processes\n' "${#all[@]}"
  kill -TERM "${all[@]}" 2>/dev/null || :
  while [[ -n $(ours "$1") && -z $SIGNALLED ]] && ((tries++ < ${DISPATCH_GRACE:-10} * 10)); do sleep 0.1 3<&-; done
  sweep "$1"
}
