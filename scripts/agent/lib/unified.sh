# shellcheck shell=bash
# Several agents on one task, each a dispatch of its own: their output side by side, our signals theirs, one summary. Sourced after entry.sh.

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

# pass_on SIGNAL: each child ends its agent and writes down how.
pass_on() {
  SIGNALLED=$1
  ((${#CHILDREN[@]} == 0)) || kill -s "$1" "${CHILDREN[@]}" 2>/dev/null || :
}

# script_of AGENT
script_of() { if [[ $1 == claude ]]; then echo dispatch.sh; else echo "dispatch-$1.sh"; fi; }

# labelled NAME: standard input with the agent's name before each line, through the end whatever signal comes.
labelled() {
  trap '' HUP INT TERM
  exec env LC_ALL=C sed -u "s/^/[$1] /"
}

# dispatch_all FOLDER AGENT[,AGENT] [OPTIONS] TASK [ARGS...]
dispatch_all() {
  local folder=$1 SYNOPSIS="AGENT[,AGENT...]|all|blueprint|REPOSITORY TASK [ARGS...]" name code worst=0
  HEAD=()
  shift
  DISPATCH_HOME=${DISPATCH_HOME:-$HOME/claude-executor}
  # Options may stand before the agents, too: all but the agents goes to each dispatch, which looks at it again.
  trap '' PIPE
  while [[ ${1:-} =~ ^--(repo|dir|timeout|kind|task-file)$ ]] && (($# > 1)); do
    HEAD+=("$1" "$2")
    shift 2
  done
  if [[ ${1:-} == -h || ${1:-} == --help || $# -eq 0 ]]; then options "$@"; fi
  [[ $1 != --stdin ]] || fail 64 "--stdin is for one agent" "several cannot read the same standard input"
  choose "$1"
  shift
  options "${HEAD[@]}" "$@"
  [[ -z $OPT_STDIN ]] || fail 64 "--stdin is for one agent" "several cannot read the same standard input"
  # Read once: standard input can be the task of all, but only one can read it.
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
  local told=() labels=() pipe
  for name in "${AGENTS[@]}"; do
    if [[ -n $SIGNALLED ]]; then break; fi
    exec {pipe}> >(labelled "$name")
    labels+=("$!")
    # Signals that a shell's background jobs ignore from birth cannot be trapped in them.
    env --default-signal=INT,QUIT,PIPE "$folder/$(script_of "$name")" "${line[@]}" </dev/null >&"$pipe" 2>&1 &
    CHILDREN[$name]=$!
    exec {pipe}>&-
  done
  for name in "${AGENTS[@]}"; do
    [[ -n ${CHILDREN[$name]:-} ]] || continue
    # Interrupted by each signal that we pass on; only its end has a code that counts.
    while kill -0 "${CHILDREN[$name]}" 2>/dev/null; do wait "${CHILDREN[$name]}" || :; done
    code=0
    wait "${CHILDREN[$name]}" || code=$?
    told+=("$name $code")
    ((code == 0)) || worst=1
  done
  # Their last lines, unless something in the background keeps the pipe.
  local tries=0
  while kill -0 "${labels[@]}" 2>/dev/null && ((tries++ < 100)); do sleep 0.05; done
  if ((${#AGENTS[@]} == 1)); then worst=${code:-0}; fi
  say "$(printf '%-8s %s' agent 'exit code')"
  for name in "${told[@]}"; do say "$(printf '%-8s %s' "${name% *}" "${name#* }")"; done
  [[ -z $SIGNALLED ]] || worst=$(signal_code)
  exit "$worst"
}
