#!/usr/bin/env bats
# The script of `ssm install`, run as root like Run Command does, without Systems Manager. Requires root.

load support.bash

@test "the script installs the dispatch scripts, keeps an operator's own, and prints the installed hash" {
  rm -f "$EXECUTOR/dispatch.sh"
  echo 'echo mine' | as_user tee "$EXECUTOR/dispatch.sh" >/dev/null
  archive=$PLACE/scripts.tar.gz
  tar -czf "$archive" -C "$BATS_TEST_DIRNAME/../../agent" .
  sum=$(sha256sum <"$archive")
  {
    printf 'sum=%s\nuser=%s\narchive() { base64 -d <<END\n' "${sum%% *}" "$WHO"
    base64 "$archive"
    printf 'END\n}\n'
    cat "$BATS_TEST_DIRNAME/../../../xtask/src/commands/ssm/install.sh"
  } >"$PLACE/sent"
  PREFIX=$PLACE/sent-to run sh -c 'exec /bin/bash -p -s <"$0"' "$PLACE/sent"
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [[ $output == *"moved your $EXECUTOR/dispatch.sh"* && $output == *"installed=${sum%% *}"* ]]
  [ "$(readlink "$EXECUTOR/dispatch.sh")" = "$PLACE/sent-to/dispatch.sh" ]
  cmp "$PLACE/sent-to/lib/run.sh" "$BATS_TEST_DIRNAME/../../agent/lib/run.sh"
  # The temporary files are deleted, and a damaged archive is not installed.
  [ -z "$(find /var/tmp -maxdepth 1 -name 'agent-ami-*' -newer "$PLACE/sent")" ]
  rm -rf "$PLACE/sent-to"
  sed -i "s/^sum=./sum=x/" "$PLACE/sent"
  PREFIX=$PLACE/sent-to run bash -p "$PLACE/sent"
  [ "$status" -eq 65 ]
  [ ! -e "$PLACE/sent-to" ]
  rm -rf "$EXECUTOR/replaced"
  PREFIX=$PLACE/agent "$BATS_TEST_DIRNAME/../../agent/install.sh" "$WHO"
  rm -rf "$EXECUTOR/replaced"
}
