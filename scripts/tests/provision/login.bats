#!/usr/bin/env bats
# The login user of an image whose builder logs in as another account. Requires root, because it creates and removes a user.

setup() {
  ((EUID == 0)) || { echo "these tests create a user: run them as root" >&2; return 1; }
  PLACE=$(mktemp -d)
  SCRIPTS=$BATS_TEST_DIRNAME/../../provision
  export LOGIN_USER=agent-ami-login
  mkdir -p "$PLACE"/{lib,bin,cloud/cloud.cfg.d}
  cp "$BATS_TEST_DIRNAME"/../../lib/*.sh "$PLACE/lib/"
}

teardown() {
  userdel --remove agent-ami-login 2>/dev/null || true
  rm -rf "$PLACE"
}

# moved SCRIPT: copies the script with its paths moved, and prints the path of the copy.
moved() {
  sed -e "s#/var/tmp/agent-ami#$PLACE#g" -e "s#/etc/cloud#$PLACE/cloud#g" "$SCRIPTS/$1" >"$PLACE/$1"
  printf '%s\n' "$PLACE/$1"
}

@test "the user has a home, no password and no sudo, also after a second run" {
  for _ in 1 2; do
    run bash "$(moved 38-user.sh)"
    [ "$status" -eq 0 ] || { echo "$output"; false; }
  done
  [ "$(stat -c %U /home/agent-ami-login)" = agent-ami-login ]
  none='^[!*]+$'
  [[ $(getent shadow agent-ami-login | cut -d : -f 2) =~ $none ]]
  [ "$(id -nG agent-ami-login)" = "agent-ami-login adm" ]
  echo agent-ami-login:secret | chpasswd
  run bash "$(moved 38-user.sh)"
  [ "$status" -ne 0 ]
  [[ $output == *"agent-ami-login has a password"* ]]
}

@test "a command as the user does not depend on the current directory" {
  bash "$(moved 38-user.sh)" 2>/dev/null
  # shellcheck source=/dev/null
  . "$PLACE/lib/common.sh"
  mkdir -m 0700 "$PLACE/closed"
  cd "$PLACE/closed"
  [ "$(as_user sh -c 'pwd; printenv HOME')" = $'/home/agent-ami-login\n/home/agent-ami-login' ]
}

@test "cloud-init's default user is the login user, and another result is an error" {
  printf '#!/bin/sh\nsed -n "s/^ *name: //p" %s/cloud/cloud.cfg.d/*\n' "$PLACE" >"$PLACE/bin/python3"
  chmod +x "$PLACE/bin/python3"
  PATH=$PLACE/bin:$PATH run bash "$(moved 85-login.sh)"
  [ "$status" -eq 0 ]
  [[ $output == *"instances give their launch key to agent-ami-login"* ]]
  printf '#!/bin/sh\necho ubuntu\n' >"$PLACE/bin/python3"
  PATH=$PLACE/bin:$PATH run bash "$(moved 85-login.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"the default user of cloud-init is ubuntu, expected agent-ami-login"* ]]
}

@test "histories and keys of every home directory fail the verification" {
  bash "$(moved 38-user.sh)" 2>/dev/null
  install -d -o "$LOGIN_USER" /home/agent-ami-login/.ssh
  touch /home/agent-ami-login/.ssh/authorized_keys /home/agent-ami-login/.bash_history
  run bash "$(moved 95-verify-clean.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"authorized key: /home/agent-ami-login/.ssh/authorized_keys"* ]]
  [[ $output == *"history: /home/agent-ami-login/.bash_history"* ]]
}
