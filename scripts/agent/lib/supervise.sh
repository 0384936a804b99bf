# shellcheck shell=bash
# Runs a command in a new session until it exits, until the timeout, or until this script gets a signal. Sourced.

# shellcheck source=orphans.sh
. "${BASH_SOURCE[0]%/*}/orphans.sh"

SIGNALLED="" TIMED_OUT="" SUPERVISED=""

# watch_signals: sets traps for signals that end the supervised command and then this script.
watch_signals() {
  local name
  for name in HUP INT TERM; do
    # shellcheck disable=SC2064
    trap "SIGNALLED=$name; end_group $name" "$name"
  done
}

# end_group SIGNAL: sends the signal to the process group of the supervised command, and SIGKILL after DISPATCH_GRACE seconds.
end_group() {
  [[ -n $SUPERVISED ]] || return 0
  local group=$SUPERVISED
  kill -s "$1" -- "-$group" 2>/dev/null || kill -s "$1" "$group" 2>/dev/null || :
  (
    trap '' HUP INT TERM
    # `read -t` instead of `sleep`, because a sleep process would outlive this subshell.
    read -rt "${DISPATCH_GRACE:-10}" <> <(:) || :
    kill -KILL -- "-$group"
  ) >/dev/null 2>&1 3<&- &
  KILLER=$!
}

signal_code() { printf '%s\n' "$((128 + $(kill -l "$SIGNALLED")))"; }

# no_more PID: kills a helper process and waits for it, silently.
no_more() {
  [[ -n $1 ]] || return 0
  kill -KILL "$1" 2>/dev/null || :
  wait "$1" 2>/dev/null || :
}

# supervise COMMAND...: returns its exit code, 124 after the timeout of the run, or 128 + n if this script got signal n.
supervise() {
  local code=0 who timer left=$((RUN_STARTED + RUN_SECONDS - $(date -u +%s)))
  KILLER=""
  [[ -z $SIGNALLED ]] || return "$(signal_code)"
  # Background jobs of a shell ignore SIGINT, but the agent must not. --pdeathsig ends the agent if this shell is killed.
  DISPATCH_RUN=${RUN##*/} env --default-signal=INT,QUIT,PIPE setsid -- setpriv --pdeathsig KILL -- "$@" <&3 3<&- &
  SUPERVISED=$!
  sleep "$((left > 0 ? left : 0))" >/dev/null 2>&1 3<&- &
  timer=$!
  # A signal before SUPERVISED was set had no process to end.
  [[ -z $SIGNALLED ]] || end_group TERM
  while :; do
    who="" code=0
    wait -n -p who "$SUPERVISED" "$timer" || code=$?
    if [[ ${who:-} == "$SUPERVISED" ]]; then break; fi
    if [[ ${who:-} == "$timer" ]]; then
      TIMED_OUT=1 timer=$SUPERVISED
      printf 'dispatch: timed out after %s s\n' "$RUN_SECONDS"
      end_group TERM
    fi
  done
  no_more "$timer"
  local group=$SUPERVISED
  SUPERVISED=""
  if [[ -n $SIGNALLED ]]; then
    code=$(signal_code)
  elif [[ -n $TIMED_OUT ]]; then
    code=124
  else
    end_orphans "$group"
    return "$code"
  fi
  no_more "$KILLER"
  sweep "$group"
  return "$code"
}
