#!/usr/bin/env bats
# Installing the scripts next to an operator's own, and uninstalling them. Requires root.

load support.bash

install() { PREFIX=$PLACE/agent "$BATS_TEST_DIRNAME/../../agent/install.sh" "$@"; }

@test "the operator's own scripts are moved aside, and restored" {
  install --uninstall "$WHO"
  [ ! -e "$PLACE/agent" ]
  [ -z "$(find "$EXECUTOR" -name 'dispatch*')" ]
  echo 'echo mine' | as_user tee "$EXECUTOR/dispatch.sh" >/dev/null
  as_user ln -s /elsewhere/codex.sh "$EXECUTOR/dispatch-codex.sh"
  as_user touch "$EXECUTOR/runs/kept"
  run install "$WHO"
  [ "$status" -eq 0 ]
  [[ $output == *"moved your $EXECUTOR/dispatch.sh to replaced/dispatch.sh"* ]]
  [ "$(readlink "$EXECUTOR/dispatch.sh")" = "$PLACE/agent/dispatch.sh" ]
  # A second installation does not change the moved scripts.
  run install "$WHO"
  [[ $output != *moved* ]]
  [ "$(cat "$EXECUTOR/replaced/dispatch.sh")" = "echo mine" ]
  run install --uninstall "$WHO"
  [ "$status" -eq 0 ]
  [[ $output == *"restored $EXECUTOR/dispatch.sh"* ]]
  [ "$(cat "$EXECUTOR/dispatch.sh")" = "echo mine" ]
  [ "$(readlink "$EXECUTOR/dispatch-codex.sh")" = /elsewhere/codex.sh ]
  [ "$(stat -c %U "$EXECUTOR/dispatch.sh")" = "$WHO" ]
  [ ! -e "$EXECUTOR/replaced" ]
  [ ! -e "$EXECUTOR/dispatch-gemini.sh" ]
  [ -e "$EXECUTOR/runs/kept" ]
  rm "$EXECUTOR/dispatch.sh" "$EXECUTOR/dispatch-codex.sh"
  install "$WHO"
}

@test "the installed copy can reinstall and uninstall itself" {
  PREFIX=$PLACE/agent run "$PLACE/agent/install.sh" "$WHO"
  [ "$status" -eq 0 ]
  PREFIX=$PLACE/agent run "$PLACE/agent/install.sh" --uninstall "$WHO"
  [ "$status" -eq 0 ]
  [ ! -e "$PLACE/agent" ]
  install "$WHO"
}

@test "the user of isolated runs has no other groups, no password and no login" {
  [ "$(id -G "$ALONE")" = "$(id -g "$ALONE")" ]
  [ "$(getent passwd "$ALONE" | cut -d: -f7)" = /usr/sbin/nologin ]
  [[ $(getent shadow "$ALONE" | cut -d: -f2) == [!*]* ]]
  [ "$(stat -c %U:%a "/var/lib/agent-ami/$ALONE")" = "$ALONE:750" ]
}

@test "an existing user with another home, an unknown user, and an unknown option are refused" {
  ISOLATED_USER=$WHO run install "$WHO"
  [ "$status" -eq 67 ]
  run install no-such-user-7
  [ "$status" -eq 67 ]
  run install --help
  [ "$status" -eq 64 ]
}

@test "an update without a user keeps the user of the installation" {
  run install
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [ "$(cat "$PLACE/agent/login-user")" = "$WHO" ]
}

@test "the user of the installation is the default, unless others can write its name" {
  [ "$(stat -c %U:%a "$PLACE/agent/login-user")" = root:644 ]
  unset DISPATCH_USER
  run "$PLACE/agent/dispatch.sh" task
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [[ $output == *"from root to $WHO user..."* ]]
  [ "$(cat "$HOME_OF/seen.uid")" = "$(id -u "$WHO")" ]
  chmod 666 "$PLACE/agent/login-user"
  run "$PLACE/agent/dispatch.sh" task
  chmod 644 "$PLACE/agent/login-user"
  [ "$status" -eq 77 ]
  [[ $output == *"$PLACE/agent/login-user can be written by others"* ]]
}
