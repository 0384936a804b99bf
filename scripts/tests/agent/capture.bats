#!/usr/bin/env bats
# run_with_capture: output, log, status, and that the caller's shell does not change.
# shellcheck disable=SC2016 # agents are scripts in quotes

setup() {
  DIR=$(mktemp -d)
  cd "$DIR" || return 1
  LIB=$BATS_TEST_DIRNAME/../../agent/lib/capture.sh
  export LIB DIR
}

teardown() {
  umount "$DIR/small" 2>/dev/null || true
  rm -rf "$DIR"
}

# refute COMMAND...: succeeds if the command fails. In bats, a line with ! never fails a test.
refute() { if "$@"; then return 1; fi; }

# shell OPTIONS SCRIPT: runs the script, with the function sourced, in a shell with these options.
# shellcheck disable=SC2086 # options are several words
shell() { run bash $1 -c ". \"\$LIB\"; $2"; }

@test "the output is printed and logged, the exit code is returned and in the status" {
  shell "" 'run_with_capture log status bash -c "echo out; echo err >&2; exit 7"; echo "code $?"'
  [ "$output" = $'out\nerr\ncode 7' ]
  [ "$(cat log)" = $'out\nerr' ]
  [ "$(cat status)" = 7 ]
}

@test "under set -e, the status of a failing command is written before the caller exits" {
  shell -e 'run_with_capture log status false; echo not reached'
  [ "$status" -eq 1 ]
  [ "$output" = "" ]
  [ "$(cat status)" = 1 ]
}

@test "the result is the same with and without set -e, pipefail and nounset" {
  for options in "" "-e" "-u" "-eu" "-o pipefail" "-eu -o pipefail" "-euC" "-eE"; do
    rm -f log status
    shell "$options" 'run_with_capture log status bash -c "echo text; exit 3" || echo "code $?"'
    [ "$output" = $'text\ncode 3' ] || { echo "with $options: $output"; false; }
    [ "$(cat status)" = 3 ]
  done
}

@test "the options of the caller do not change" {
  for options in "" "-e" "-eu -o pipefail" "-f" "-C" "-o posix"; do
    shell "$options" 'before=$(set +o; shopt; trap); run_with_capture log status false || :; [[ $before == "$(set +o; shopt; trap)" ]] && echo same'
    [ "$output" = same ] || { echo "with $options: $output"; false; }
  done
}

@test "a function runs in the current shell" {
  shell "" 'here() { seen=$BASHPID; echo in; }; run_with_capture log status here; [[ $seen == "$$" ]] && echo "same shell"'
  [ "$output" = $'in\nsame shell' ]
}

@test "standard output and error are restored" {
  # The shell counts its descriptors without a pipeline, because a pipeline would open more.
  shell "" 'run_with_capture log status true; echo out; echo err >&2; fds=(/proc/$$/fd/*); echo ${#fds[@]} >before; run_with_capture log status true; fds=(/proc/$$/fd/*); echo ${#fds[@]} >after'
  [ "$output" = $'out\nerr' ]
  cmp before after
}

@test "output is printed while the command runs" {
  bash -c '. "$LIB"; run_with_capture log status bash -c "echo early; sleep 5; echo late"' >seen &
  for _ in $(seq 30); do grep -q early seen && break; sleep 0.1; done
  grep -q early seen
  refute grep -q late seen
  grep -q early log
  wait
}

@test "the status of a killed command is written" {
  shell "" 'run_with_capture log status bash -c "echo last words; kill -KILL \$\$"; echo "code $?"'
  [[ $output == *"code 137" ]]
  [ "$(cat status)" = 137 ]
  grep -q "last words" log
}

@test "output before a signal to the whole group is in the log" {
  setsid --wait bash -c 'trap : TERM; . "$LIB"; run_with_capture log status bash -c "echo before; kill -TERM 0; sleep 5"' >/dev/null 2>&1 || true
  grep -q before log
  [ "$(cat status)" = 143 ]
}

@test "a missing command returns 127" {
  shell "" 'run_with_capture log status no-such-command-7; echo "code $?"'
  [[ $output == *"code 127" ]]
  [ "$(cat status)" = 127 ]
  grep -q "no-such-command-7" log
}

@test "binary output is unchanged" {
  head -c 300000 /dev/urandom >noise
  bash -c '. "$LIB"; run_with_capture log status cat noise' >seen
  cmp noise seen
  cmp noise log
}

@test "arguments are unchanged: spaces, newlines, globs, empty, 100 kB" {
  big=$(head -c 100000 /dev/zero | tr '\0' x)
  export big
  shell "" 'run_with_capture log status printf "<%s>" "a b" $'"'"'new\nline'"'"' "*" "" "\$(id)" "-n" "$big" >/dev/null'
  [ "$(cat log)" = $'<a b><new\nline><*><><$(id)><-n>'"<$big>" ]
}

@test "file names with spaces and dashes" {
  shell "" 'run_with_capture "-a log" "-a status" echo text'
  [ "$(cat -- "-a log")" = text ]
  [ "$(cat -- "-a status")" = 0 ]
}

@test "closed standard input, and closed standard output" {
  run bash -c '. "$LIB"; run_with_capture log status bash -c "cat; echo read" <&-'
  grep -q read log
  bash -c '. "$LIB"; run_with_capture log status echo text; echo "$?" >code' >&- 2>/dev/null
  [ "$(cat code)" = 0 ]
  grep -q text log
}

@test "the log is complete if the reader of the output exits" {
  bash -c '. "$LIB"; run_with_capture log status seq 100000' 2>/dev/null | head -n 1 >/dev/null
  [ "$(tail -n 1 log)" = 100000 ]
}

@test "with a full disk for the log, an error and the output are printed, and the code is right" {
  mkdir small
  mount -t tmpfs -o size=16k tmpfs small || skip "no file system can be mounted here"
  run bash -c '. "$LIB"; run_with_capture small/log status bash -c "seq 20000; exit 5"'
  [ "$status" -eq 5 ]
  [ "$(cat status)" = 5 ]
  [[ $output == *20000* ]]
  [[ $output == *"No space left"* ]]
}

@test "if the status cannot be written, an error is printed and the code is returned" {
  run bash -c '. "$LIB"; run_with_capture log none/status bash -c "exit 4"'
  [ "$status" -eq 4 ]
  [[ $output == *"status 4 cannot be written"* ]]
}

@test "a background process delays the end only for a limited time" {
  SECONDS=0
  bash -c '. "$LIB"; run_with_capture log status bash -c "sleep 30 & echo done"' >seen 2>&1
  grep -q "done" seen
  [ "$SECONDS" -lt 15 ]
  pkill -fx "sleep 30"
}
