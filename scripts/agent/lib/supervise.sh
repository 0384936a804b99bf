# shellcheck shell=bash
# A command in a session of its own, and its end: by itself, by time-out, by a signal that we get. Sourced.

# shellcheck source=leftovers.sh
. "${BASH_SOURCE[0]%/*}/leftovers.sh"

SIGNALLED="" TIMED_OUT="" SUPERVISED=""

# watch_signals: from now on, a signal that we get ends what is supervised, and then us.
watch_signals() {
  local name
  for name in HUP INT TERM; do
    # shellcheck disable=SC2064
    trap "SIGNALLED=$name; end_group $name" "$name"
  done
}

# end_group SIGNAL: sends it to all of the supervised command's group, and to what left that; after DISPATCH_GRACE seconds it is killed.
end_group() {
  [[ -n $SUPERVISED ]] || return 0
  local group=$SUPERVISED
  kill -s "$1" -- "-$group" 2>/dev/null || kill -s "$1" "$group" 2>/dev/null || :
  (
    trap '' HUP INT TERM
    # A sleep without a process that would outlive this one.
    read -rt "${DISPATCH_GRACE:-10}" <> <(:) || :
    kill -KILL -- "-$group"
  ) >/dev/null 2>&1 3<&- &
  KILLER=$!
}

signal_code() { printf '%s\n' "$((128 + $(kill -l "$SIGNALLED")))"; }

# no_more PID: ends a helper of ours and waits for it, silently.
no_more() {
  [[ -n $1 ]] || return 0
  kill -KILL "$1" 2>/dev/null || :
  wait "$1" 2>/dev/null || :
}

# supervise COMMAND...: returns its exit code; 124 if the run's time is over, 128 + n if we got signal n.
supervise() {
  local code=0 who timer left=$((RUN_STARTED + RUN_SECONDS - $(date -u +%s)))
  KILLER=""
  [[ -z $SIGNALLED ]] || return "$(signal_code)"
  # What a shell starts in the background ignores SIGINT; the agent shall not. And it shall not outlive a shell that is killed.
  DISPATCH_RUN=${RUN##*/} env --default-signal=INT,QUIT,PIPE setsid -- setpriv --pdeathsig KILL -- "$@" <&3 3<&- &
  SUPERVISED=$!
  sleep "$((left > 0 ? left : 0))" >/dev/null 2>&1 3<&- &
  timer=$!
  # A signal between the last two lines found nobody to end.
  [[ -z $SIGNALLED ]] || end_group TERM
  while :; do
    who="" code=0
    wait -n -p who "$SUPERVISED" "$timer" || code=$?
    if [[ ${who:-} == "$SUPERVISED" ]]; then break; fi
    if [[ ${who:-} == "$timer" ]]; then
      TIMED_OUT=1 timer=$SUPERVISED
      printf 'dispatch: its time of %s s is over\n' "$RUN_SECONDS"
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
    end_leftovers "$group"
    return "$code"
  fi
  no_more "$KILLER"
  sweep "$group"
  return "$code"
}
