#!/usr/bin/env bats
# run_with_capture: what is said, the log, the status, and that the caller's shell is as it was.
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

# refute COMMAND...: it fails. In bats, a line with ! fails no test.
refute() { if "$@"; then return 1; fi; }

# shell OPTIONS SCRIPT: runs the script in a shell with these options that has the function.
# shellcheck disable=SC2086 # options are several words
shell() { run bash $1 -c ". \"\$LIB\"; $2"; }

@test "what the command says is seen and in the log, its code is returned and in the status" {
  shell "" 'run_with_capture log status bash -c "echo out; echo err >&2; exit 7"; echo "code $?"'
  [ "$output" = $'out\nerr\ncode 7' ]
  [ "$(cat log)" = $'out\nerr' ]
  [ "$(cat status)" = 7 ]
}

@test "a failing command's status is written under set -e, which then ends the caller" {
  shell -e 'run_with_capture log status false; echo not reached'
  [ "$status" -eq 1 ]
  [ "$output" = "" ]
  [ "$(cat status)" = 1 ]
}

@test "under set -e, pipefail and nounset, and with none of them, it is the same" {
  for options in "" "-e" "-u" "-eu" "-o pipefail" "-eu -o pipefail" "-euC" "-eE"; do
    rm -f log status
    shell "$options" 'run_with_capture log status bash -c "echo said; exit 3" || echo "code $?"'
    [ "$output" = $'said\ncode 3' ] || { echo "with $options: $output"; false; }
    [ "$(cat status)" = 3 ]
  done
}

@test "no option of the caller changes" {
  for options in "" "-e" "-eu -o pipefail" "-f" "-C" "-o posix"; do
    shell "$options" 'before=$(set +o; shopt; trap); run_with_capture log status false || :; [[ $before == "$(set +o; shopt; trap)" ]] && echo same'
    [ "$output" = same ] || { echo "with $options: $output"; false; }
  done
}

@test "a function runs in the current shell" {
  shell "" 'here() { seen=$BASHPID; echo in; }; run_with_capture log status here; [[ $seen == "$$" ]] && echo "same shell"'
  [ "$output" = $'in\nsame shell' ]
}

@test "standard output and error are the caller's own again" {
  # The shell counts by itself: while it starts a pipeline, ends of that are open too.
  shell "" 'run_with_capture log status true; echo out; echo err >&2; fds=(/proc/$$/fd/*); echo ${#fds[@]} >before; run_with_capture log status true; fds=(/proc/$$/fd/*); echo ${#fds[@]} >after'
  [ "$output" = $'out\nerr' ]
  cmp before after
}

@test "output comes while the command runs" {
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

@test "what is said before a signal to the whole group is in the log" {
  setsid --wait bash -c 'trap : TERM; . "$LIB"; run_with_capture log status bash -c "echo before; kill -TERM 0; sleep 5"' >/dev/null 2>&1 || true
  grep -q before log
  [ "$(cat status)" = 143 ]
}

@test "a command that is not there is 127" {
  shell "" 'run_with_capture log status no-such-command-7; echo "code $?"'
  [[ $output == *"code 127" ]]
  [ "$(cat status)" = 127 ]
  grep -q "no-such-command-7" log
}

@test "binary output arrives byte for byte" {
  head -c 300000 /dev/urandom >noise
  bash -c '. "$LIB"; run_with_capture log status cat noise' >seen
  cmp noise seen
  cmp noise log
}

@test "arguments arrive byte for byte: spaces, newlines, globs, none, 100 kB" {
  big=$(head -c 100000 /dev/zero | tr '\0' x)
  export big
  shell "" 'run_with_capture log status printf "<%s>" "a b" $'"'"'new\nline'"'"' "*" "" "\$(id)" "-n" "$big" >/dev/null'
  [ "$(cat log)" = $'<a b><new\nline><*><><$(id)><-n>'"<$big>" ]
}

@test "names of files with spaces and dashes" {
  shell "" 'run_with_capture "-a log" "-a status" echo said'
  [ "$(cat -- "-a log")" = said ]
  [ "$(cat -- "-a status")" = 0 ]
}

@test "closed standard input, and closed standard output" {
  run bash -c '. "$LIB"; run_with_capture log status bash -c "cat; echo read" <&-'
  grep -q read log
  bash -c '. "$LIB"; run_with_capture log status echo said; echo "$?" >code' >&- 2>/dev/null
  [ "$(cat code)" = 0 ]
  grep -q said log
}

@test "a reader that goes away takes nothing from the log" {
  bash -c '. "$LIB"; run_with_capture log status seq 100000' 2>/dev/null | head -n 1 >/dev/null
  [ "$(tail -n 1 log)" = 100000 ]
}

@test "a full disk for the log: told, seen, and the code is right" {
  mkdir small
  mount -t tmpfs -o size=16k tmpfs small || skip "no file system can be mounted here"
  run bash -c '. "$LIB"; run_with_capture small/log status bash -c "seq 20000; exit 5"'
  [ "$status" -eq 5 ]
  [ "$(cat status)" = 5 ]
  [[ $output == *20000* ]]
  [[ $output == *"No space left"* ]]
}

@test "a status that cannot be written is told, and the code is returned all the same" {
  run bash -c '. "$LIB"; run_with_capture log none/status bash -c "exit 4"'
  [ "$status" -eq 4 ]
  [[ $output == *"status 4 cannot be written"* ]]
}

@test "something left in the background does not hold it up for ever" {
  SECONDS=0
  bash -c '. "$LIB"; run_with_capture log status bash -c "sleep 30 & echo done"' >seen 2>&1
  grep -q "done" seen
  [ "$SECONDS" -lt 15 ]
  pkill -fx "sleep 30"
}
