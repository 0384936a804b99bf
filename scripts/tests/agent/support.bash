# shellcheck shell=bash
# Shared by the tests of the dispatch scripts: an unprivileged user, the installed scripts, agents that record how they were called.

readonly WHO=agent-ami-test
readonly OTHERS=agent-ami-more
readonly ALONE=agent-ami-alone

setup_file() {
  ((EUID == 0)) || { echo "these tests switch users: run them as root" >&2; return 1; }
  getent group $OTHERS >/dev/null || groupadd $OTHERS
  id "$WHO" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups $OTHERS "$WHO"
  PLACE=$(mktemp -d /opt/agent-ami-test-XXXXXX)
  chmod 755 "$PLACE"
  export PLACE DISPATCH_USER="$WHO" ISOLATED_USER="$ALONE"
  PREFIX=$PLACE/agent "$BATS_TEST_DIRNAME/../../agent/install.sh" "$WHO" >&2
}

teardown_file() {
  pkill -KILL -u "$WHO" || true
  rm -rf "$PLACE"
  userdel --remove "$WHO" 2>/dev/null || true
  userdel "$ALONE" 2>/dev/null || true
  rm -rf "/var/lib/agent-ami/$ALONE"
  groupdel $OTHERS 2>/dev/null || true
}

setup() {
  HOME_OF=$(getent passwd "$WHO" | cut -d: -f6)
  EXECUTOR=$HOME_OF/claude-executor
  export ANTHROPIC_API_KEY=sk-test
  as_user mkdir -p "$HOME_OF/.local/bin"
  agent claude
}

teardown() {
  pkill -KILL -u "$WHO" || true
  rm -rf "$EXECUTOR"/runs/* "$EXECUTOR"/repos/* "$EXECUTOR"/.pruned* "$HOME_OF"/.local "$HOME_OF"/seen*
  : >"$EXECUTOR/.env"
}

as_user() { setpriv --reuid "$WHO" --regid "$WHO" --init-groups env -i HOME="$HOME_OF" USER="$WHO" PATH=/usr/bin:/bin "$@"; }

# agent NAME [BODY]: creates a program of that name in the user's ~/.local/bin. Without a body it records its state in ~/seen.*.
agent() {
  local file=$HOME_OF/.local/bin/$1 body
  # shellcheck disable=SC2016
  body='cd ~ || exit 9
id -u >seen.uid; id -G >seen.groups; tr "\0" "\n" </proc/$$/environ >seen.env; pwd -P >seen.home
printf "%s\0" "$@" >seen.args; grep -E "^(NoNewPrivs|Cap|SigIgn)" /proc/self/status >seen.status; ls /proc/$$/fd >seen.fds
echo "the agent ran"'
  printf '#!/bin/bash\n%s\n' "${2:-$body}" | as_user tee "$file" >/dev/null
  as_user chmod 755 "$file"
}

dispatch() { "$PLACE/agent/dispatch.sh" "$@"; }

# run_directory: prints the directory of the only run.
run_directory() {
  local all=("$EXECUTOR"/runs/*)
  if ((${#all[@]} != 1)) || [[ ! -d ${all[0]} ]]; then
    echo "runs: ${all[*]}" >&2
    return 1
  fi
  echo "${all[0]}"
}

metadata() { jq -r "$1" "$(run_directory)/metadata.json"; }

# refute COMMAND...: succeeds if the command fails. In bats, a line with ! never fails a test.
refute() { if "$@"; then return 1; fi; }

# soon COMMAND...: retries the command for at most ten seconds.
soon() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    if "$@" 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  echo "not within 10 s: $*" >&2
  return 1
}

processes() { pgrep -u "$WHO" -fx "$1"; }
none_left() { ! processes "$1" >/dev/null; }
