#!/usr/bin/env bats
# Dropping privileges from root to the user, with hostile input from the user and from root's environment. Requires root.
# shellcheck disable=SC2016 # agents are scripts in quotes

load support.bash

@test "root drops privileges to the user: uid, groups, home, supplementary groups" {
  run dispatch task
  [ "$status" -eq 0 ]
  [[ $output == *"Auto-dropping privileges from root to $WHO user..."* && $output == *"the agent ran"* ]]
  [ "$(cat "$HOME_OF/seen.uid")" = "$(id -u "$WHO")" ]
  [ "$(tr ' ' '\n' <"$HOME_OF/seen.groups" | sort)" = "$(id -G "$WHO" | tr ' ' '\n' | sort)" ]
  grep -qx "HOME=$HOME_OF" "$HOME_OF/seen.env"
  grep -qx "USER=$WHO" "$HOME_OF/seen.env"
  grep -qx "LOGNAME=$WHO" "$HOME_OF/seen.env"
}

@test "no_new_privs is set, and no capability remains" {
  dispatch task
  grep -q $'^NoNewPrivs:\t1' "$HOME_OF/seen.status"
  run grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' "$HOME_OF/seen.status"
  while read -r _ set; do [[ $set =~ ^0+$ ]]; done <<<"$output"
}

@test "DISPATCH_ALLOW_SUDO=1 permits sudo" {
  DISPATCH_ALLOW_SUDO=1 dispatch task
  grep -q $'^NoNewPrivs:\t0' "$HOME_OF/seen.status"
}

@test "variables that only root's environment can set are refused in .env" {
  agent claude
  for name in DISPATCH_ALLOW_SUDO DISPATCH_ISOLATE DISPATCH_USER DISPATCH_PATH DISPATCH_MEMORY DISPATCH_TASKS; do
    echo "$name=1" >"$EXECUTOR/.env"
    run dispatch task
    [ "$status" -eq 78 ]
    [[ $output == *"sets $name, which only root's environment can set"* ]]
  done
  [ ! -e "$HOME_OF/seen.uid" ]
}

@test "an isolated run is refused if isolation is impossible" {
  agent claude
  run env DISPATCH_ISOLATE=yes "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 64 ]
  run env DISPATCH_ISOLATE=1 DISPATCH_ALLOW_SUDO=1 "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 64 ]
  # Users other than root cannot create the unit.
  run as_user DISPATCH_ISOLATE=1 "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 77 ]
  # The user of these tests has another group.
  if [[ -d /run/systemd/system ]]; then code=67; else code=69; fi
  run env DISPATCH_ISOLATE=1 "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq "$code" ]
  [ ! -e "$HOME_OF/seen.uid" ]
}

@test "threat: a library that others can write is not run" {
  agent claude
  chmod o+w "$PLACE/agent/lib/prune.sh"
  run dispatch task
  chmod o-w "$PLACE/agent/lib/prune.sh"
  [ "$status" -eq 77 ]
  [[ $output == *"$PLACE/agent/lib/prune.sh can be written by others than root"* ]]
  [ ! -e "$HOME_OF/seen.uid" ]
}

@test "threat: an .env planted with a root payload runs as the user" {
  victim=$(mktemp)
  chmod 600 "$victim"
  echo "id -u >>$HOME_OF/seen.payload; echo owned >$victim" >"$EXECUTOR/.env"
  run dispatch task
  [ "$(cat "$HOME_OF/seen.payload")" = "$(id -u "$WHO")" ]
  [ ! -s "$victim" ]
  rm "$victim"
}

@test "threat: root does not run programs from the user's PATH" {
  for name in id stat find getent setpriv env readlink mktemp jq; do
    # shellcheck disable=SC2016
    agent $name 'test "$(/usr/bin/id -u)" != 0 || echo "$0" >>/tmp/agent-ami-root-ran; exec /usr/bin/'$name' "$@"'
  done
  rm -f /tmp/agent-ami-root-ran
  run env PATH="$HOME_OF/.local/bin:$PATH" "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 0 ]
  [ ! -e /tmp/agent-ami-root-ran ]
}

@test "threat: root's PATH does not reach the agent" {
  PATH=/root/secret:$PATH dispatch task
  grep -qx "PATH=$HOME_OF/.local/bin:/usr/local/bin:/usr/bin:/bin" "$HOME_OF/seen.env"
}

@test "threat: LD_PRELOAD and similar variables do not reach the agent" {
  library=$(ldconfig -p | awk '/libdl.so.2/ { print $NF; exit }')
  run env LD_PRELOAD="$library" LD_LIBRARY_PATH=/tmp BASH_ENV=/tmp/x ENV=/tmp/x IFS=x SHELLOPTS=xtrace PYTHONPATH=/tmp \
    NODE_OPTIONS=--no-warnings GIT_SSH_COMMAND=evil "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 0 ]
  refute grep -E '^(LD_|BASH_ENV|ENV=|IFS|SHELLOPTS|PYTHONPATH|NODE_OPTIONS|GIT_SSH)' "$HOME_OF/seen.env"
}

@test "threat: BASH_ENV and exported functions have no effect on root's shell and the agent" {
  printf 'echo "ran as $(id -u)" >>%s/seen.bashenv\n' "$HOME_OF" >"$PLACE/bashenv"
  BASH_ENV=$PLACE/bashenv env 'BASH_FUNC_getent%%=() { echo evil >>/tmp/agent-ami-root-ran; }' "$PLACE/agent/dispatch.sh" task
  [ ! -e "$HOME_OF/seen.bashenv" ]
  [ ! -e /tmp/agent-ami-root-ran ]
  refute grep -a 'BASH_FUNC' "$HOME_OF/seen.env"
}

@test "threat: variables that sudo -E would keep are dropped, the agents' tokens are passed" {
  AWS_SECRET_ACCESS_KEY=s3 SSH_AUTH_SOCK=/root/agent MAIL=x DBUS_SESSION_BUS_ADDRESS=x XDG_RUNTIME_DIR=/run/user/0 GITHUB_TOKEN=ght \
    ANTHROPIC_API_KEY='sk with "quotes"' HTTPS_PROXY=http://p dispatch task
  grep -qx 'ANTHROPIC_API_KEY=sk with "quotes"' "$HOME_OF/seen.env"
  grep -qx GITHUB_TOKEN=ght "$HOME_OF/seen.env"
  grep -qx HTTPS_PROXY=http://p "$HOME_OF/seen.env"
  refute grep -E '^(AWS_|SSH_|MAIL|DBUS|XDG|SUDO|DISPATCH_USER)' "$HOME_OF/seen.env"
}

@test "threat: no token is in a command line" {
  agent claude 'sleep 2'
  ANTHROPIC_API_KEY=sk-very-secret dispatch task &
  for _ in $(seq 40); do
    refute grep -aqs sk-very-secret /proc/[0-9]*/cmdline
    sleep 0.05
  done
  wait
}

@test "threat: links in place of log, status and runs directory do not redirect writes to root's files" {
  victim=$PLACE/victim
  mkdir "$victim"
  as_user rm -rf "$EXECUTOR/runs"
  as_user ln -s "$victim" "$EXECUTOR/runs"
  run dispatch task
  [ "$status" -eq 73 ]
  [ -z "$(ls "$victim")" ]
  rm "$EXECUTOR/runs"
  as_user mkdir "$EXECUTOR/runs"
  echo precious >"$PLACE/log"
  chmod 600 "$PLACE/log"
  # The agent creates links in place of the files that are written after it ends.
  agent claude "ln -sf $PLACE/log ../log; ln -sf $PLACE/log ../status; ln -sf $PLACE/log ../status.new; ln -sf $PLACE/log ../metadata.json.new; echo text"
  run dispatch task
  [ "$(cat "$PLACE/log")" = precious ]
}

@test "threat: the run directory is replaced between its creation and its use" {
  victim=$PLACE/swapped
  mkdir -p "$victim"
  agent claude "mv \"\$PWD/..\" \"\$PWD/../../moved\"; sleep 0.2"
  (
    for _ in $(seq 200); do
      for directory in "$EXECUTOR"/runs/2*; do
        [[ ! -d $directory || -L $directory || $directory == *.away ]] || { as_user mv "$directory" "$directory.away" && as_user ln -s "$victim" "$directory"; } 2>/dev/null
      done
      sleep 0.01
    done
  ) &
  racer=$!
  for _ in 1 2 3; do dispatch task >/dev/null 2>&1 || true; done
  kill $racer
  wait $racer || true
  [ -z "$(ls -A "$victim")" ]
}

@test "only the user has access to the run directory" {
  dispatch task
  directory=$(run_directory)
  [ "$(stat -c '%U %a' "$directory")" = "$WHO 700" ]
  [ -z "$(find "$EXECUTOR" ! -user "$WHO")" ]
}

@test "root's open files are closed" {
  exec 7</etc/shadow 9>"$PLACE/open"
  dispatch task
  exec 7<&- 9>&-
  run grep -xE '7|9' "$HOME_OF/seen.fds"
  [ "$status" -eq 1 ]
}

@test "scripts that others can write are not run by root" {
  cp -r "$PLACE/agent" "$PLACE/loose"
  chown -R "$WHO" "$PLACE/loose/lib"
  run "$PLACE/loose/dispatch.sh" task
  [ "$status" -eq 77 ]
  [[ $output == *"can be written by others than root"*install.sh* ]]
  chown -R root "$PLACE/loose"
  chmod 777 "$PLACE/loose"
  run "$PLACE/loose/dispatch.sh" task
  [ "$status" -eq 77 ]
  # Users other than root may run writable scripts, because no privileges are dropped.
  run as_user ANTHROPIC_API_KEY=k PATH="$HOME_OF/.local/bin:/usr/bin:/bin" "$PLACE/loose/dispatch.sh" task
  [ "$status" -eq 0 ]
}

@test "the links in claude-executor point to files owned by root, and work" {
  [ "$(stat -c %U "$EXECUTOR/dispatch.sh")" = "$WHO" ]
  [ "$(stat -Lc '%U %a' "$EXECUTOR/dispatch.sh")" = "root 755" ]
  run "$EXECUTOR/dispatch.sh" task
  [ "$status" -eq 0 ]
  [ "$(cat "$HOME_OF/seen.uid")" = "$(id -u "$WHO")" ]
}

@test "a reinstallation replaces the scripts and keeps the user's files" {
  echo 'KEPT=1' >"$EXECUTOR/.env"
  dispatch task
  echo 'echo old' >"$PLACE/agent/dispatch.sh"
  PREFIX=$PLACE/agent "$BATS_TEST_DIRNAME/../../agent/install.sh" "$WHO"
  [ "$(cat "$EXECUTOR/.env")" = KEPT=1 ]
  run_directory
  cmp "$BATS_TEST_DIRNAME/../../agent/dispatch.sh" "$PLACE/agent/dispatch.sh"
  [ -z "$(find "$PLACE/agent" -name '*.new')" ]
}

@test "a missing user, and root, are refused" {
  DISPATCH_USER=no-such-user-7 run dispatch task
  [ "$status" -eq 67 ]
  DISPATCH_USER=root run dispatch task
  [ "$status" -eq 67 ]
}

@test "it runs as the user without privileges to drop, also with sudo -u" {
  run as_user ANTHROPIC_API_KEY=k PATH="$HOME_OF/.local/bin:/usr/bin:/bin" "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 0 ]
  [[ $output != *"root becomes"* ]]
  if command -v sudo >/dev/null; then
    run sudo -u "$WHO" env ANTHROPIC_API_KEY=k PATH="$HOME_OF/.local/bin:/usr/bin:/bin" "$PLACE/agent/dispatch.sh" task
    [ "$status" -eq 0 ]
  fi
}

@test "the process keeps its pid, so that signals to it reach the user's process" {
  agent claude 'exec sleep 60'
  "$PLACE/agent/dispatch.sh" task &
  pid=$!
  soon processes "sleep 60"
  [ "$(stat -c %U "/proc/$pid")" = "$WHO" ]
  kill -TERM $pid
  code=0
  wait $pid || code=$?
  [ "$code" -eq 143 ]
}

@test "a working directory that the user cannot enter, no terminal, closed standard input" {
  cd /root || return 1
  run setsid "$PLACE/agent/dispatch.sh" task <&-
  [ "$status" -eq 0 ]
  [ "$(cat "$HOME_OF/seen.uid")" = "$(id -u "$WHO")" ]
}
