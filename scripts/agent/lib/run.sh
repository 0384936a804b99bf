# shellcheck shell=bash
# One run of one agent: its folder, its repository, its task, its end. Everything here is done as the user. Sourced after entry.sh.

# shellcheck source=agents.sh
. "${BASH_SOURCE[0]%/*}/agents.sh"
# shellcheck source=capture.sh
. "${BASH_SOURCE[0]%/*}/capture.sh"
# shellcheck source=inputs.sh
. "${BASH_SOURCE[0]%/*}/inputs.sh"
# shellcheck source=metadata.sh
. "${BASH_SOURCE[0]%/*}/metadata.sh"
# shellcheck source=prune.sh
. "${BASH_SOURCE[0]%/*}/prune.sh"
# shellcheck source=repository.sh
. "${BASH_SOURCE[0]%/*}/repository.sh"
# shellcheck source=supervise.sh
. "${BASH_SOURCE[0]%/*}/supervise.sh"
# shellcheck source=options.sh
. "${BASH_SOURCE[0]%/*}/options.sh"

# make_run NAME: a folder that nobody else has, for this run alone; sets RUN.
make_run() {
  local name
  name=$(date -u +%Y%m%dT%H%M%SZ)-$1-XXXXXX
  mkdir -p -- "$DISPATCH_HOME/runs" "$DISPATCH_HOME/repos" 2>/dev/null || :
  # mktemp makes it for its owner alone, and fails if anything is there.
  RUN=$(mktemp -d -- "$DISPATCH_HOME/runs/$name" 2>/dev/null) ||
    fail 73 "no folder for the run can be made in $DISPATCH_HOME/runs" "look whose it is, and whether the disk is full"
}

# standard_input: 3 is the agent's; ours is read no more, whose lines may be another's.
standard_input() {
  if [[ -z $OPT_STDIN ]]; then
    exec 3</dev/null
  else
    [[ ! -t 0 ]] || fail 64 "standard input is a terminal" "agents that are dispatched ask nobody: leave --stdin out"
    exec 3<&0
  fi
  exec </dev/null
}

# work: what is captured; ends with the agent's exit code.
work() {
  local code=0
  # What the agent is to read from standard input, git must not.
  [[ -z $OPT_REPO ]] || fetch_repository 3</dev/null || code=$?
  if [[ -n $SIGNALLED ]]; then return "$(signal_code)"; elif [[ -n $TIMED_OUT ]]; then return 124; fi
  ((code == 0)) || return 75
  cd -- "$RUN_DIR" || return 66
  supervise "${AGENT_LINE[@]}"
}

# dispatch AGENT [OPTIONS] TASK [ARGS...]
dispatch() {
  RUN_AGENT=$1
  shift
  DISPATCH_HOME=${DISPATCH_HOME:-$HOME/claude-executor}
  [[ $DISPATCH_HOME == /* ]] || DISPATCH_HOME=$PWD/$DISPATCH_HOME
  # Whoever read our output and left must not end us before all is written down.
  trap '' PIPE
  options "$@"
  read_task
  standard_input
  { cd -P . && [[ -x . ]]; } 2>/dev/null || cd -- "$HOME" || fail 66 "$HOME cannot be entered" "the user needs a home"
  load_env
  RUN_SECONDS=$(seconds "${OPT_TIMEOUT:-${DISPATCH_TIMEOUT:-55m}}")
  agent_ready "$RUN_AGENT"
  command -v jq >/dev/null || fail 69 "jq is not installed" "apt-get install jq"
  [[ -z $OPT_DIR || -d $OPT_DIR && -x $OPT_DIR ]] ||
    fail 66 "$OPT_DIR is no directory that $(id -un) can enter" "--dir takes one that is there, --repo clones one"
  # ProtectSystem= makes read-only what an isolated run is not given.
  [[ -z $OPT_DIR || -z $ISOLATED || -w $OPT_DIR ]] ||
    fail 66 "$OPT_DIR cannot be written in an isolated run" "--repo clones a repository; only what is below $HOME can be written"
  CAPTURE_MIB=${DISPATCH_LOG_MIB:-256}
  [[ $CAPTURE_MIB =~ ^[1-9][0-9]{0,6}$ ]] || fail 64 "DISPATCH_LOG_MIB is \"$CAPTURE_MIB\"" "it is a number of MiB"
  ((RUN_SECONDS < 3600)) || say "AWS-RunShellScript ends a command after 3600 s, and this run may take $RUN_SECONDS s: set its executionTimeout"
  prune
  make_run "$RUN_AGENT"
  RUN_DIR=$RUN/work
  if [[ -n $OPT_DIR ]]; then RUN_DIR=$(readlink -e -- "$OPT_DIR"); elif [[ -z $OPT_REPO ]]; then mkdir -- "$RUN_DIR"; fi
  RUN_STARTED=$(date -u +%s)
  printf %s "$OPT_TASK" >"$RUN/task" || fail 73 "$RUN/task cannot be written" "is the disk full?"
  agent_line "$RUN_AGENT" "$OPT_TASK" "${OPT_ARGS[@]}"
  tell running
  say "$RUN_AGENT works in $RUN_DIR, log in $RUN/log"
  watch_signals
  local code=0
  run_with_capture "$RUN/log" "$RUN/status" work || code=$?
  local state=exited
  if [[ -n $TIMED_OUT ]]; then state=timed-out; elif [[ -n $SIGNALLED ]]; then state=signalled; fi
  tell "$state" "$code"
  say "$RUN_AGENT $state with $code after $(($(date -u +%s) - RUN_STARTED)) s: $RUN"
  exit "$code"
}
