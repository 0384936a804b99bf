#!/usr/bin/env bats
# Several agents concurrently: separate runs, labelled output, signals, one summary. Requires root.
# shellcheck disable=SC2016 # agents are scripts in quotes

load support.bash

setup() {
  HOME_OF=$(getent passwd "$WHO" | cut -d: -f6)
  EXECUTOR=$HOME_OF/claude-executor
  export ANTHROPIC_API_KEY=k OPENAI_API_KEY=k GEMINI_API_KEY=k
  as_user mkdir -p "$HOME_OF/.local/bin"
}

unified() { "$PLACE/agent/dispatch-unified.sh" "$@"; }

@test "two agents run concurrently as the user, with labelled lines and a summary" {
  agent claude 'id -u; echo waits; for n in $(seq 100); do test -e ~/seen.codex && break; sleep 0.1; done; test -e ~/seen.codex && echo met'
  agent codex 'touch ~/seen.codex; echo "codex ran"'
  run unified claude,codex task
  [ "$status" -eq 0 ]
  [[ $output == *"[claude] $(id -u "$WHO")"* && $output == *"[claude] met"* && $output == *"[codex] codex ran"* ]]
  [[ $output == *"claude   0"* && $output == *"codex    0"* ]]
  [ "$(find "$EXECUTOR/runs" -mindepth 1 -maxdepth 1 -user "$WHO" | wc -l)" -eq 2 ]
}

@test "if one agent fails, its code is in the summary, and the exit code is 1" {
  agent claude 'exit 0'
  agent codex 'exit 9'
  run unified claude,codex task
  [ "$status" -eq 1 ]
  [[ $output == *"claude   0"* && $output == *"codex    9"* ]]
}

@test "if one agent is not installed, the other runs, and the exit code is 1" {
  agent claude 'echo ran'
  run unified claude,gemini task
  [ "$status" -eq 1 ]
  [[ $output == *"[claude] ran"* && $output == *"[gemini] dispatch: gemini is not installed"* && $output == *"gemini   69"* ]]
}

@test "the exit code of a single agent is returned" {
  agent claude 'exit 9'
  run unified claude task
  [ "$status" -eq 9 ]
}

@test "arguments reach every agent unchanged" {
  for name in claude codex; do agent $name "printf '%s\\0' \"\$@\" >~/seen.$name"; done
  unified claude,codex -- $'-t\nask *' 'a b' '' 2>/dev/null
  printf '%s\0' --print --dangerously-skip-permissions 'a b' '' -- $'-t\nask *' | cmp - "$HOME_OF/seen.claude"
  printf '%s\0' exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check 'a b' '' -- $'-t\nask *' | cmp - "$HOME_OF/seen.codex"
}

@test "a signal reaches the groups of all agents, and each status is written" {
  for name in claude codex; do agent $name 'sleep 331 & setsid sleep 332 & sleep 333'; done
  for pair in TERM:143 INT:130; do
    rm -rf "$EXECUTOR"/runs/*
    env --default-signal=INT,TERM "$PLACE/agent/dispatch-unified.sh" claude,codex task &
    soon two "sleep 333"
    soon two "sleep 332"
    kill -s "${pair%:*}" $!
    code=0
    wait $! || code=$?
    [ "$code" -eq "${pair#*:}" ]
    [ "$(cat "$EXECUTOR"/runs/*/status | sort -u)" = "${pair#*:}" ]
    [ "$(cat "$EXECUTOR"/runs/*/status | wc -l)" -eq 2 ]
    for seconds in 331 332 333; do soon none_left "sleep $seconds"; done
  done
}

two() { [ "$(processes "$1" | wc -l)" -eq 2 ]; }

@test "the timeout applies to each agent" {
  agent claude 'sleep 341'
  agent codex 'echo quick'
  run unified --timeout 10s claude,codex task
  [ "$status" -eq 1 ]
  [[ $output == *"claude   124"* && $output == *"codex    0"* ]]
  soon none_left "sleep 341"
}

@test "a run kind or a repository in repos can replace the names of agents" {
  agent claude 'pwd -P; git log --format=%s 2>/dev/null || true'
  agent codex 'echo codex'
  run unified blueprint "Generate a Nix flake"
  [ "$status" -eq 0 ]
  # The agents that are installed and have a key.
  [[ $output == *"claude   0"* && $output == *"codex    0"* && $output != *gemini* ]]
  [ "$(jq -r .kind "$EXECUTOR"/runs/*/metadata.json | sort -u)" = blueprint ]
  DISPATCH_AGENTS=codex run unified blueprint task
  [[ $output != *"claude   "* && $output == *"codex    0"* ]]
  as_user mkdir -p "$EXECUTOR/repos"
  as_user git init --quiet -b main "$EXECUTOR/repos/mine"
  as_user git -C "$EXECUTOR/repos/mine" -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m first
  DISPATCH_AGENTS=claude run unified mine task
  [ "$status" -eq 0 ]
  [[ $output == *"[claude] first"* ]]
}

@test "a task file is read once and passed to each agent, standard input to none" {
  for name in claude codex; do agent $name 'printf %s "${@: -1}"; cat'; done
  printf 'to all' >"$PLACE/task"
  chmod 644 "$PLACE/task"
  run unified --task-file "$PLACE/task" claude,codex
  [ "$status" -eq 0 ]
  [[ $output == *"[claude] to all"* && $output == *"[codex] to all"* ]]
  printf 'from a pipe' >"$PLACE/pipe"
  run unified claude,codex --task-file - <"$PLACE/pipe"
  [[ $output == *"[claude] from a pipe"* && $output == *"[codex] from a pipe"* ]]
  run unified --stdin claude task
  [ "$status" -eq 64 ]
}

@test "binary output and long lines" {
  agent claude 'head -c 100000 /dev/zero | tr "\0" x; echo; head -c 100 /dev/urandom; echo; echo "the end"'
  run unified claude task
  [ "$status" -eq 0 ]
  [[ $output == *"[claude] the end"* ]]
}

@test "command line errors start no run" {
  agent claude
  for line in "" "claude" "nobody task" "claude,nobody task" "claude,claude task" ", task" "--timeout 1y claude task" "claude --bad task"; do
    # shellcheck disable=SC2086
    run unified $line
    [ "$status" -eq 64 ] || { echo "$line: $status"; false; }
  done
  [ -z "$(ls "$EXECUTOR/runs")" ]
  run unified --help
  [ "$status" -eq 0 ]
  [[ $output == *"AGENT[,AGENT...]"* ]]
}

@test "threat: planted .env and PATH, root's environment" {
  victim=$PLACE/victim
  : >"$victim"
  chmod 600 "$victim"
  agent id 'test "$(/usr/bin/id -u)" != 0 || echo "$0" >>'"$victim"'; exec /usr/bin/id "$@"'
  agent claude 'env | sort; /usr/bin/id -un'
  echo "echo owned >$victim" >"$EXECUTOR/.env"
  run env PATH="$HOME_OF/.local/bin:$PATH" AWS_SECRET_ACCESS_KEY=s3 "$PLACE/agent/dispatch-unified.sh" claude task
  [ "$status" -eq 0 ] || [ "$status" -eq 78 ]
  [ ! -s "$victim" ]
  [[ $output != *AWS_SECRET* ]]
}
