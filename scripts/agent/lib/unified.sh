# shellcheck shell=bash
# Several agents on one task, each a dispatch of its own: their output side by side, our signals theirs, one summary. Sourced after entry.sh.

# shellcheck source=options.sh
. "${BASH_SOURCE[0]%/*}/options.sh"
# shellcheck source=supervise.sh
. "${BASH_SOURCE[0]%/*}/supervise.sh"

declare -A CHILDREN=()

# pass_on SIGNAL: each child ends its agent and writes down how.
pass_on() {
  SIGNALLED=$1
  ((${#CHILDREN[@]} == 0)) || kill -s "$1" "${CHILDREN[@]}" 2>/dev/null || :
}

# choose NAMES: sets AGENTS to what stands between the commas.
choose() {
  local name known=(claude codex gemini grok aider)
  if [[ $1 == all ]]; then AGENTS=("${known[@]}"); else IFS=, read -ra AGENTS <<<"$1"; fi
  ((${#AGENTS[@]})) || fail 64 "no agent" "known are ${known[*]}"
  for name in "${AGENTS[@]}"; do
    [[ " ${known[*]} " == *" $name "* ]] || fail 64 "there is no agent \"$name\"" "known are ${known[*]}"
  done
  [[ -z $(printf '%s\n' "${AGENTS[@]}" | sort | uniq -d) ]] || fail 64 "an agent stands twice in $1" "name each once"
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
  local folder=$1 SYNOPSIS="AGENT[,AGENT...]|all TASK [ARGS...]" name code worst=0
  shift
  DISPATCH_HOME=${DISPATCH_HOME:-$HOME/claude-executor}
  # Options may stand before the agents, too: all but the agents goes to each dispatch, which judges it.
  local head=()
  trap '' PIPE
  while [[ ${1:-} == --repo || ${1:-} == --dir || ${1:-} == --timeout ]] && (($# > 1)); do
    head+=("$1" "$2")
    shift 2
  done
  if [[ ${1:-} == -h || ${1:-} == --help || $# -lt 2 ]]; then options "$@"; fi
  (($# > 1)) || fail 64 "no task" "${0##*/} $SYNOPSIS"
  choose "$1"
  shift
  (options "${head[@]}" "$@") || exit "$?"
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
    env --default-signal=INT,QUIT,PIPE "$folder/$(script_of "$name")" "${head[@]}" "$@" </dev/null >&"$pipe" 2>&1 &
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
