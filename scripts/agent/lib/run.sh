# shellcheck shell=bash
# One run of one agent: run directory, repository, task, status. All of it runs as the user. Sourced after entry.sh.

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

# make_run NAME: creates the run directory; sets RUN.
make_run() {
  local name
  name=$(date -u +%Y%m%dT%H%M%SZ)-$1-XXXXXX
  mkdir -p -- "$DISPATCH_HOME/runs" "$DISPATCH_HOME/repos" 2>/dev/null || :
  # mktemp sets mode 0700, and never uses an existing path.
  RUN=$(mktemp -d -- "$DISPATCH_HOME/runs/$name" 2>/dev/null) ||
    fail 73 "cannot create a run directory in $DISPATCH_HOME/runs" "check its owner and the free disk space"
}

# standard_input: sets descriptor 3 to the agent's standard input, and that of this shell to /dev/null.
standard_input() {
  if [[ -z $OPT_STDIN ]]; then
    exec 3</dev/null
  else
    [[ ! -t 0 ]] || fail 64 "standard input is a terminal" "omit --stdin; dispatched agents are not interactive"
    exec 3<&0
  fi
  exec </dev/null
}

# work: fetches the repository and runs the agent; returns the agent's exit code.
work() {
  local code=0
  # git must not read the agent's standard input.
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
  # If the reader of the output exits, SIGPIPE must not end this script before it has written the status.
  trap '' PIPE
  options "$@"
  read_task
  standard_input
  { cd -P . && [[ -x . ]]; } 2>/dev/null || cd -- "$HOME" || fail 66 "cannot enter $HOME" "create a home directory for $(id -un)"
  load_env
  RUN_SECONDS=$(seconds "${OPT_TIMEOUT:-${DISPATCH_TIMEOUT:-55m}}")
  agent_ready "$RUN_AGENT"
  command -v jq >/dev/null || fail 69 "jq is not installed" "apt-get install jq"
  [[ -z $OPT_DIR || -d $OPT_DIR && -x $OPT_DIR ]] ||
    fail 66 "$OPT_DIR is not a directory that $(id -un) can enter" "pass an existing directory, or use --repo to clone one"
  # ProtectSystem= makes everything except the user's home read-only.
  [[ -z $OPT_DIR || -z $ISOLATED || -w $OPT_DIR ]] ||
    fail 66 "$OPT_DIR is read-only in an isolated run" "use --repo, or a directory below $HOME"
  CAPTURE_MIB=${DISPATCH_LOG_MIB:-256}
  [[ $CAPTURE_MIB =~ ^[1-9][0-9]{0,6}$ ]] || fail 64 "invalid DISPATCH_LOG_MIB \"$CAPTURE_MIB\"" "set it to a number of MiB, at least 1"
  ((RUN_SECONDS < 3600)) || info "AWS-RunShellScript ends a command after 3600 s, and the timeout of this run is $RUN_SECONDS s: set its executionTimeout"
  prune
  make_run "$RUN_AGENT"
  RUN_DIR=$RUN/work
  if [[ -n $OPT_DIR ]]; then RUN_DIR=$(readlink -e -- "$OPT_DIR"); elif [[ -z $OPT_REPO ]]; then mkdir -- "$RUN_DIR"; fi
  RUN_STARTED=$(date -u +%s)
  printf %s "$OPT_TASK" >"$RUN/task" || fail 73 "cannot write $RUN/task" "check the free disk space"
  agent_line "$RUN_AGENT" "$OPT_TASK" "${OPT_ARGS[@]}"
  write_metadata running
  info "$RUN_AGENT runs in $RUN_DIR, log in $RUN/log"
  watch_signals
  local code=0
  run_with_capture "$RUN/log" "$RUN/status" work || code=$?
  local state=exited
  if [[ -n $TIMED_OUT ]]; then state=timed-out; elif [[ -n $SIGNALLED ]]; then state=signalled; fi
  write_metadata "$state" "$code"
  info "$RUN_AGENT $state with $code after $(($(date -u +%s) - RUN_STARTED)) s: $RUN"
  exit "$code"
}
