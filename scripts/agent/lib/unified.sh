# shellcheck shell=bash
# Runs several agents on one task, each in a separate dispatch: labels their output, passes on signals, prints a summary. Sourced after entry.sh.

# shellcheck source=options.sh
. "${BASH_SOURCE[0]%/*}/options.sh"
# shellcheck source=agents.sh
. "${BASH_SOURCE[0]%/*}/agents.sh"
# shellcheck source=choose.sh
. "${BASH_SOURCE[0]%/*}/choose.sh"
# shellcheck source=inputs.sh
. "${BASH_SOURCE[0]%/*}/inputs.sh"
# shellcheck source=supervise.sh
. "${BASH_SOURCE[0]%/*}/supervise.sh"

declare -A CHILDREN=()

# pass_on SIGNAL: signals each child, which ends its agent and writes the status.
pass_on() {
  SIGNALLED=$1
  ((${#CHILDREN[@]} == 0)) || kill -s "$1" "${CHILDREN[@]}" 2>/dev/null || :
}

# script_of AGENT
script_of() { if [[ $1 == claude ]]; then echo dispatch.sh; else echo "dispatch-$1.sh"; fi; }

# labelled NAME: prints standard input with the agent's name before each line; ignores signals, so that it reads until the end.
labelled() {
  trap '' HUP INT TERM
  exec env LC_ALL=C sed -u "s/^/[$1] /"
}

# dispatch_all DIRECTORY AGENT[,AGENT] [OPTIONS] TASK [ARGS...]
dispatch_all() {
  local directory=$1 SYNOPSIS="AGENT[,AGENT...]|all|blueprint|REPOSITORY TASK [ARGS...]" name code worst=0
  HEAD=()
  shift
  DISPATCH_HOME=${DISPATCH_HOME:-$HOME/claude-executor}
  # Options before the agents are kept in HEAD and passed to each dispatch, which checks them again.
  trap '' PIPE
  while [[ ${1:-} =~ ^--(repo|dir|timeout|kind|task-file)$ ]] && (($# > 1)); do
    HEAD+=("$1" "$2")
    shift 2
  done
  if [[ ${1:-} == -h || ${1:-} == --help || $# -eq 0 ]]; then options "$@"; fi
  [[ $1 != --stdin ]] || fail 64 "${0##*/} does not support --stdin" "use --task-file - to read the task from standard input"
  choose "$1"
  shift
  options "${HEAD[@]}" "$@"
  [[ -z $OPT_STDIN ]] || fail 64 "${0##*/} does not support --stdin" "use --task-file - to read the task from standard input"
  # Read the task once, because only one process can read it from standard input.
  read_task
  local line=()
  [[ -z $OPT_REPO ]] || line+=(--repo "$OPT_REPO")
  [[ -z $OPT_DIR ]] || line+=(--dir "$OPT_DIR")
  [[ -z $OPT_TIMEOUT ]] || line+=(--timeout "$OPT_TIMEOUT")
  [[ -z $OPT_KIND ]] || line+=(--kind "$OPT_KIND")
  line+=(-- "$OPT_TASK" "${OPT_ARGS[@]}")
  for name in HUP INT TERM; do
    # shellcheck disable=SC2064
    trap "pass_on $name" "$name"
  done
  local results=() labels=() pipe
  for name in "${AGENTS[@]}"; do
    if [[ -n $SIGNALLED ]]; then break; fi
    exec {pipe}> >(labelled "$name")
    labels+=("$!")
    # Background jobs inherit ignored signals, which a shell cannot trap.
    env --default-signal=INT,QUIT,PIPE "$directory/$(script_of "$name")" "${line[@]}" </dev/null >&"$pipe" 2>&1 &
    CHILDREN[$name]=$!
    exec {pipe}>&-
  done
  for name in "${AGENTS[@]}"; do
    [[ -n ${CHILDREN[$name]:-} ]] || continue
    # Each signal interrupts `wait`; only the exit code after the end of the child is valid.
    while kill -0 "${CHILDREN[$name]}" 2>/dev/null; do wait "${CHILDREN[$name]}" || :; done
    code=0
    wait "${CHILDREN[$name]}" || code=$?
    results+=("$name $code")
    ((code == 0)) || worst=1
  done
  # Wait for the last lines, for at most 5 s, because a background process may keep a pipe open.
  local tries=0
  while kill -0 "${labels[@]}" 2>/dev/null && ((tries++ < 100)); do sleep 0.05; done
  if ((${#AGENTS[@]} == 1)); then worst=${code:-0}; fi
  info "$(printf '%-8s %s' agent 'exit code')"
  for name in "${results[@]}"; do info "$(printf '%-8s %s' "${name% *}" "${name#* }")"; done
  [[ -z $SIGNALLED ]] || worst=$(signal_code)
  exit "$worst"
}
