#!/usr/bin/env bats
# A run: input of the agent, run directory, end. Requires root.
# shellcheck disable=SC2016 # agents are scripts in quotes

load support.bash

@test "arguments reach the agent unchanged" {
  big=$(head -c 100000 /dev/zero | tr '\0' x)
  dispatch -- $'-a "task"\nof *two* lines \xff' "a b" "" '*' $'new\nline' '$(id)' -n "$big"
  printf '%s\0' --print --dangerously-skip-permissions "a b" "" '*' $'new\nline' '$(id)' -n "$big" -- $'-a "task"\nof *two* lines \xff' >"$PLACE/expected"
  cmp "$PLACE/expected" "$HOME_OF/seen.args"
  [ "$(cat "$(run_directory)/task")" = $'-a "task"\nof *two* lines \xff' ]
}

@test "each agent gets the task in its own syntax, never as an option" {
  export OPENAI_API_KEY=k GEMINI_API_KEY=k XAI_API_KEY=k
  for name in codex gemini grok aider; do
    agent $name
    "$PLACE/agent/dispatch-$name.sh" -- --version more
    tr '\0' '\n' <"$HOME_OF/seen.args" >"$PLACE/args"
    grep -qx more "$PLACE/args"
    case $name in
      codex) [ "$(tail -n 2 "$PLACE/args" | tr '\n' ' ')" = "-- --version " ] ;;
      aider) grep -qxF -- --message=--version "$PLACE/args" ;;
      gemini) grep -qxF -- --prompt=--version "$PLACE/args" ;;
      grok) grep -qxF -- --single=--version "$PLACE/args" ;;
    esac
  done
}

@test "log, status, metadata" {
  agent claude 'echo out; echo err >&2; exit 7'
  run dispatch "a task"
  [ "$status" -eq 7 ]
  directory=$(run_directory)
  [ "$(cat "$directory/log")" = $'out\nerr' ]
  [ "$(cat "$directory/status")" = 7 ]
  [ "$(metadata '"\(.schema) \(.agent) \(.state) \(.exit_code) \(.user) \(.uid) \(.signal)"')" = "1 claude exited 7 $WHO $(id -u "$WHO") null" ]
  [ "$(metadata .id)" = "${directory##*/}" ]
  [ "$(metadata '(.ended_at | fromdate) - (.started_at | fromdate)')" = "$(metadata .seconds)" ]
  [ "$(metadata .directory)" = "$directory/work" ]
}

@test "during the run, the metadata has the state running and the pid" {
  agent claude 'sleep 60'
  "$PLACE/agent/dispatch.sh" task &
  soon processes "sleep 60"
  [ "$(metadata .state)" = running ]
  [ "$(metadata .pid)" = $! ]
  kill $!
  wait $! || true
}

@test "binary output reaches log and caller unchanged" {
  head -c 200000 /dev/urandom >"$PLACE/noise"
  chmod 644 "$PLACE/noise"
  agent claude "cat $PLACE/noise"
  dispatch task >"$PLACE/seen" 2>/dev/null
  cmp "$PLACE/noise" "$PLACE/seen"
  cmp "$PLACE/noise" "$(run_directory)/log"
}

@test "with --stdin the agent reads standard input; a closed one is empty" {
  agent claude 'cat; echo end'
  printf 'from \0 here' | dispatch --stdin task >"$PLACE/seen" 2>/dev/null
  printf 'from \0 hereend\n' | cmp - "$PLACE/seen"
  for option in "" --stdin; do
    # In a separate shell, because `run` would use the free descriptor for a pipe.
    run timeout 20 bash -c 'exec "$0" $1 task <&-' "$PLACE/agent/dispatch.sh" "$option"
    [ "$status" -eq 0 ]
    [[ $output == *end* ]]
  done
}

@test "without --stdin the agent reads /dev/null" {
  agent claude 'readlink /proc/self/fd/0; cat; echo end'
  # A pipe that stays open, as that of Run Command: an agent that read it would wait for its end.
  run timeout 20 bash -c 'sleep 300 | "$0" task & pid=$!; wait $pid' "$PLACE/agent/dispatch.sh"
  [[ $output == */dev/null*end* ]]
  pkill -fx "sleep 300" || true
}

@test "dispatch in a loop over lines does not consume the lines" {
  agent claude 'cat'
  printf '%s\n' one two three | while read -r line; do
    echo "$line"
    dispatch "task $line" >/dev/null 2>&1
  done >"$PLACE/lines"
  [ "$(paste -sd' ' "$PLACE/lines")" = "one two three" ]
  [ "$(cat "$EXECUTOR"/runs/*/task | wc -c)" -eq "$(printf 'task onetask twotask three' | wc -c)" ]
}

@test "a task from a file or from standard input is unchanged" {
  agent claude 'printf %s "${@: -1}" >~/seen.task; cat'
  printf -- '-t\nask *\n\n' >"$PLACE/task"
  chmod 644 "$PLACE/task"
  dispatch --task-file "$PLACE/task"
  cmp "$PLACE/task" "$HOME_OF/seen.task"
  cmp "$PLACE/task" "$(run_directory)/task"
  printf 'from a pipe\n' | dispatch --task-file -
  [ "$(cat "$HOME_OF/seen.task")" = "from a pipe" ]
}

@test "a task file that is missing, unreadable for the user, empty, too long or not text is refused" {
  agent claude
  : >"$PLACE/empty"
  head -c 131001 /dev/zero | tr '\0' x >"$PLACE/long"
  printf 'a\0b' >"$PLACE/nul"
  echo secret >"$PLACE/private"
  chmod 644 "$PLACE"/{empty,long,nul}
  chmod 600 "$PLACE/private"
  for pair in none:66 private:66 empty:64 long:64 nul:64; do
    run dispatch --task-file "$PLACE/${pair%:*}"
    [ "$status" -eq "${pair#*:}" ] || { echo "$pair: $status $output"; false; }
    [[ $output == *"$PLACE/${pair%:*}"* ]]
  done
  run dispatch --stdin --task-file -
  [ "$status" -eq 64 ]
  [ -z "$(ls "$EXECUTOR/runs")" ]
}

@test "background processes of an agent end with it, also those in another session" {
  agent claude 'sleep 311 & setsid sleep 312 & setsid bash -c "trap \"\" TERM; while :; do sleep 313; done" & sleep 1; echo done'
  DISPATCH_GRACE=1 run dispatch task
  [ "$status" -eq 0 ]
  [[ $output == *"dispatch: ending "*" orphaned processes"* ]]
  for seconds in 311 312 313; do none_left "sleep $seconds"; done
  [ "$(cat "$(run_directory)/status")" = 0 ]
}

@test "the log has a size limit, the output has none, and the exit code is the agent's" {
  agent claude 'head -c 3000000 /dev/zero; exit 4'
  code=0
  DISPATCH_LOG_MIB=1 dispatch task >"$PLACE/seen" 2>"$PLACE/errors" || code=$?
  [ "$code" -eq 4 ]
  grep -q "reached 1 MiB" "$PLACE/errors"
  [ "$(stat -c %s "$(run_directory)/log")" -eq 1048576 ]
  [ "$(stat -c %s "$PLACE/seen")" -eq 3000000 ]
  [ "$(cat "$(run_directory)/status")" = 4 ]
}

@test "a timeout above the limit of Run Command prints a warning" {
  agent claude
  run dispatch --timeout 2h task
  [ "$status" -eq 0 ]
  [[ $output == *"AWS-RunShellScript ends a command after 3600 s"* ]]
  run dispatch task
  [[ $output != *AWS-RunShellScript* ]]
  [ "$(jq -s 'map(.timeout_seconds) | sort | .[0]' "$EXECUTOR"/runs/*/metadata.json)" -eq 3300 ]
}

@test "a timeout ends the whole group, and processes that left it" {
  agent claude 'sleep 301 & setsid sleep 302 & trap "" TERM; echo begun; sleep 303; sleep 304'
  DISPATCH_GRACE=1 run dispatch --timeout 5s task
  [ "$status" -eq 124 ]
  for seconds in 301 302 303 304; do soon none_left "sleep $seconds"; done
  [ "$(cat "$(run_directory)/status")" = 124 ]
  [ "$(metadata .state)" = timed-out ]
  grep -q begun "$(run_directory)/log"
  grep -q "timed out after 5 s" "$(run_directory)/log"
}

@test "SIGTERM, SIGINT and SIGHUP end the whole group and write the status" {
  for pair in TERM:143 INT:130 HUP:129; do
    rm -rf "$EXECUTOR"/runs/*
    agent claude 'sleep 311 & setsid sleep 312 & echo begun; sleep 313'
    # The caller of the tests may ignore some signals (nohup), and a shell cannot trap those.
    env --default-signal=HUP,INT,TERM "$PLACE/agent/dispatch.sh" task &
    soon processes "sleep 313"
    soon processes "sleep 312"
    kill -s "${pair%:*}" $!
    code=0
    wait $! || code=$?
    [ "$code" -eq "${pair#*:}" ]
    [ "$(cat "$(run_directory)/status")" = "${pair#*:}" ]
    [ "$(metadata '"\(.state) \(.signal)"')" = "signalled ${pair%:*}" ]
    for seconds in 311 312 313; do soon none_left "sleep $seconds"; done
  done
}

@test "an agent can clean up on SIGTERM, and its last output is in the log" {
  agent claude 'trap "sleep 1; echo cleaned up; exit 0" TERM; echo begun; while :; do sleep 0.1; done'
  "$PLACE/agent/dispatch.sh" task >/dev/null 2>&1 &
  soon grep -rq begun "$EXECUTOR/runs"
  kill $!
  wait $! || true
  grep -q "cleaned up" "$(run_directory)/log"
}

@test "the status of a killed agent is written" {
  agent claude 'kill -KILL $$'
  run dispatch task
  [ "$status" -eq 137 ]
  [ "$(cat "$(run_directory)/status")" = 137 ]
  [ "$(metadata .state)" = exited ]
}

@test "the agent ends if its dispatch script is killed" {
  agent claude 'exec sleep 351'
  "$PLACE/agent/dispatch.sh" task &
  soon processes "sleep 351"
  kill -KILL $!
  wait $! || true
  soon none_left "sleep 351"
  [ "$(metadata .state)" = running ]
}

@test "the run is recorded with closed standard output and error, and if the reader of the output exits" {
  agent claude 'echo out; echo err >&2; sleep 0.3; echo more; exit 5'
  code=0
  bash -c 'exec "$0" task >&- 2>&-' "$PLACE/agent/dispatch.sh" || code=$?
  [ "$code" -eq 5 ]
  [ "$(cat "$(run_directory)/log")" = $'out\nerr\nmore' ]
  [ "$(metadata '"\(.state) \(.exit_code)"')" = "exited 5" ]
  rm -rf "$EXECUTOR"/runs/*
  { "$PLACE/agent/dispatch.sh" task 2>&1 || echo "$?" >"$PLACE/code"; } | head -n 1 >/dev/null
  [ "$(cat "$PLACE/code")" -eq 5 ]
  [ "$(cat "$(run_directory)/log")" = $'out\nerr\nmore' ]
  [ "$(metadata '"\(.state) \(.exit_code)"')" = "exited 5" ]
}

@test "the agent does not ignore SIGINT, unlike background jobs of a shell" {
  dispatch task
  mask=$(awk '/^SigIgn/ { print $2 }' "$HOME_OF/seen.status")
  [ $((0x$mask & 2)) -eq 0 ]
}

@test "concurrent runs do not collide" {
  agent claude 'echo "$3"; sleep 0.5'
  pids=()
  for n in $(seq 8); do
    dispatch "task $n" "argument-$n" >"$PLACE/out.$n" 2>/dev/null &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  [ "$(find "$EXECUTOR/runs" -mindepth 1 -maxdepth 1 | wc -l)" -eq 8 ]
  for directory in "$EXECUTOR"/runs/*; do
    n=$(sed 's/task //' "$directory/task")
    [ "$(cat "$directory/log")" = "argument-$n" ]
    [ "$(cat "$PLACE/out.$n")" = "argument-$n" ]
  done
}

@test "with a full disk for the log, an error is printed and the status is the agent's" {
  mkdir -p "$PLACE/small"
  mount -t tmpfs -o size=64k,mode=777 tmpfs "$PLACE/small" || skip "no file system can be mounted here"
  agent claude 'seq 60000; exit 6'
  DISPATCH_HOME=$PLACE/small run dispatch task
  umount "$PLACE/small"
  [ "$status" -eq 6 ]
  [[ $output == *60000* && $output == *"No space left"* ]]
}

@test "a repository is cloned from a mirror, which the next run updates" {
  as_user git init --quiet -b main "$HOME_OF/seen.repo"
  as_user git -C "$HOME_OF/seen.repo" -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m first
  agent claude 'git log --format=%s; git remote get-url origin'
  dispatch --repo "$HOME_OF/seen.repo" task >"$PLACE/seen" 2>/dev/null
  [ "$(cat "$PLACE/seen")" = "first"$'\n'"$HOME_OF/seen.repo" ]
  as_user git -C "$HOME_OF/seen.repo" -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m second
  dispatch --repo "$HOME_OF/seen.repo" task >"$PLACE/one" 2>/dev/null &
  dispatch --repo "$HOME_OF/seen.repo" task >"$PLACE/two" 2>/dev/null
  wait
  [ "$(head -n 1 "$PLACE/one")" = second ]
  [ "$(head -n 1 "$PLACE/two")" = second ]
  [ "$(find "$EXECUTOR/repos" -maxdepth 1 -name '*.git' | wc -l)" -eq 1 ]
}

@test "a missing repository, and a signal during the fetch" {
  run dispatch --repo /no/such/repository task
  [ "$status" -eq 75 ]
  [[ $output == *"/no/such/repository cannot be fetched"* ]]
  [ "$(cat "$(run_directory)/status")" = 75 ]
  rm -rf "$EXECUTOR"/runs/*
  agent git 'case "$*" in *ls-remote*) exec sleep 321 ;; esac; exec /usr/bin/git "$@"'
  "$PLACE/agent/dispatch.sh" --repo /no/such/repository task &
  soon processes "sleep 321"
  kill $!
  code=0
  wait $! || code=$?
  [ "$code" -eq 143 ] || { echo "code $code"; false; }
  soon none_left "sleep 321"
}

@test "--dir runs the agent in the directory; a missing one has its own exit code" {
  as_user mkdir "$HOME_OF/seen here"
  agent claude 'pwd -P'
  run dispatch --dir "$HOME_OF/seen here" task
  [[ $output == *$'\n'"$HOME_OF/seen here"$'\n'* ]]
  run dispatch --dir /no/such/dir task
  [ "$status" -eq 66 ]
  run dispatch --dir /root task
  [ "$status" -eq 66 ]
}

@test "a missing agent and a missing key have their own exit codes and hints" {
  run "$PLACE/agent/dispatch-grok.sh" task
  [ "$status" -eq 69 ]
  [[ $output == *"grok is not installed"*"--provider all"* ]]
  unset ANTHROPIC_API_KEY
  run dispatch task
  [ "$status" -eq 77 ]
  [[ $output == *"claude has no key"*ANTHROPIC_API_KEY* ]]
  as_user mkdir -p "$HOME_OF/.claude"
  echo '{}' | as_user tee "$HOME_OF/.claude/.credentials.json" >/dev/null
  run dispatch task
  rm -rf "$HOME_OF/.claude"
  [ "$status" -eq 0 ]
  [ "$(find "$EXECUTOR/runs" -mindepth 1 -maxdepth 1 | wc -l)" -eq 1 ]
}

@test "keys are read from .env; variables that root passes take precedence" {
  printf 'ANTHROPIC_API_KEY="from the file"\nGITHUB_TOKEN=file\nexport MORE=1\n' >"$EXECUTOR/.env"
  unset ANTHROPIC_API_KEY
  GITHUB_TOKEN=$'root\'s "own" declare -x' dispatch task
  grep -qx 'ANTHROPIC_API_KEY=from the file' "$HOME_OF/seen.env"
  grep -qxF $'GITHUB_TOKEN=root\'s "own" declare -x' "$HOME_OF/seen.env"
  grep -qx MORE=1 "$HOME_OF/seen.env"
}

@test "an invalid .env is an error before the agent runs" {
  echo 'KEY="no end' >"$EXECUTOR/.env"
  run dispatch task
  [ "$status" -eq 78 ]
  [[ $output == *"$EXECUTOR/.env"* ]]
  [ ! -e "$HOME_OF/seen.uid" ]
}

@test "command line errors" {
  for line in "" "--timeout" "--timeout soon task" "--no-such-option task" "--repo a --dir b task" "--timeout 1y task"; do
    # shellcheck disable=SC2086
    run dispatch $line
    [ "$status" -eq 64 ] || { echo "$line: $status"; false; }
  done
  # Passwords would be in metadata.json, in the mirror and in the agent's clone.
  for url in https://u:p@host/x.git https://ghp_token@github.com/a/b.git; do
    run dispatch --repo "$url" task
    [ "$status" -eq 64 ]
    [[ $output == *"a user or a password in its URL"* && $output == *GITHUB_TOKEN* ]]
  done
  run dispatch --help
  [ "$status" -eq 0 ]
  [[ $output == *"exit codes"* ]]
}

@test "variables of the caller do not change those of the run" {
  run as_user ANTHROPIC_API_KEY=k RUN_DIR=/tmp RUN=/tmp OPT_DIR=/tmp SIGNALLED=TERM PATH="$HOME_OF/.local/bin:/usr/bin:/bin" "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 0 ]
  [ "$(metadata .directory)" = "$(run_directory)/work" ]
}
