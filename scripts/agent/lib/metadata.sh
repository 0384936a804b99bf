# shellcheck shell=bash
# Writes metadata.json of a run. Sourced by run.sh, whose variables it reads.

# write_metadata STATE [CODE]: replaces metadata.json atomically.
write_metadata() {
  local state=$1 code=${2:-null} now
  now=$(date -u +%s)
  if ! jq -n --arg id "${RUN##*/}" --arg agent "$RUN_AGENT" --arg state "$state" --arg signal "$SIGNALLED" --arg repo "$OPT_REPO" \
    --arg dir "$RUN_DIR" --arg user "$(id -un)" --argjson uid "$(id -u)" --argjson pid "$$" --argjson code "$code" \
    --arg kind "$OPT_KIND" --argjson isolated "${ISOLATED:-0}" --argjson timeout "$RUN_SECONDS" --argjson started "$RUN_STARTED" --argjson now "$now" '{
      schema: 1, id: $id, agent: $agent, kind: (if $kind == "" then null else $kind end), isolated: ($isolated == 1), state: $state, exit_code: $code, signal: (if $signal == "" then null else $signal end),
      started_at: ($started | todate), ended_at: (if $state == "running" then null else ($now | todate) end),
      seconds: ($now - $started), timeout_seconds: $timeout, repository: (if $repo == "" then null else $repo end),
      directory: $dir, user: $user, uid: $uid, pid: $pid}' >"$RUN/metadata.json.new" 2>/dev/null ||
    ! mv -f -- "$RUN/metadata.json.new" "$RUN/metadata.json"; then
    info "cannot write $RUN/metadata.json"
    rm -f -- "$RUN/metadata.json.new"
  fi
}
