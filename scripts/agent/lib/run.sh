# shellcheck shell=bash
# One run of one agent: its folder, its repository, its task, its end. Everything here is done as the user. Sourced after entry.sh.

# shellcheck source=agents.sh
. "${BASH_SOURCE[0]%/*}/agents.sh"
# shellcheck source=capture.sh
. "${BASH_SOURCE[0]%/*}/capture.sh"
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

# tell STATE [CODE]: what is known of the run goes into metadata.json, whole or not at all.
tell() {
  local state=$1 code=${2:-null} now
  now=$(date -u +%s)
  if ! jq -n --arg id "${RUN##*/}" --arg agent "$RUN_AGENT" --arg state "$state" --arg signal "$SIGNALLED" --arg repo "$OPT_REPO" \
    --arg dir "$RUN_DIR" --arg user "$(id -un)" --argjson uid "$(id -u)" --argjson pid "$$" --argjson code "$code" \
    --argjson timeout "$RUN_SECONDS" --argjson started "$RUN_STARTED" --argjson now "$now" '{
      schema: 1, id: $id, agent: $agent, state: $state, exit_code: $code, signal: (if $signal == "" then null else $signal end),
      started_at: ($started | todate), ended_at: (if $state == "running" then null else ($now | todate) end),
      seconds: ($now - $started), timeout_seconds: $timeout, repository: (if $repo == "" then null else $repo end),
      directory: $dir, user: $user, uid: $uid, pid: $pid}' >"$RUN/metadata.json.new" 2>/dev/null ||
    ! mv -f -- "$RUN/metadata.json.new" "$RUN/metadata.json"; then
    say "$RUN/metadata.json cannot be written"
    rm -f -- "$RUN/metadata.json.new"
  fi
}

# work: what is captured; ends with the agent's exit code.
work() {
  local code=0
  [[ -z $OPT_REPO ]] || fetch_repository || code=$?
  if [[ -n $SIGNALLED || -n $TIMED_OUT ]]; then return "$code"; fi
  if ((code != 0)); then
    printf 'dispatch: %s cannot be fetched\n  %s\n' "$OPT_REPO" "is it there, and may GITHUB_TOKEN read it?"
    return 75
  fi
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
  { cd -P . && [[ -x . ]]; } 2>/dev/null || cd -- "$HOME" || fail 66 "$HOME cannot be entered" "the user needs a home"
  load_env
  RUN_SECONDS=$(seconds "${OPT_TIMEOUT:-${DISPATCH_TIMEOUT:-2h}}")
  agent_ready "$RUN_AGENT"
  command -v jq >/dev/null || fail 69 "jq is not installed" "apt-get install jq"
  [[ -z $OPT_DIR || -d $OPT_DIR && -x $OPT_DIR ]] ||
    fail 66 "$OPT_DIR is no directory that $(id -un) can enter" "--dir takes one that is there, --repo clones one"
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
