#!/usr/bin/env bats
# What a build is given and must not keep, and sources that refuse. The provisioning scripts themselves, with their folders moved to one of
# the test's own.

setup() {
  PLACE=$(mktemp -d)
  SCRIPTS=$BATS_TEST_DIRNAME/../../provision
  mkdir -p "$PLACE"/{lib,tools,etc/apt/keyrings,etc/apt/sources.list.d,ssm}
  sed -e "s#/usr/local/lib/agent-ami#$PLACE/tools#" "$BATS_TEST_DIRNAME/../../lib/common.sh" >"$PLACE/lib/common.sh"
}

teardown() { rm -rf "$PLACE"; }

# moved SCRIPT: the script with its folders moved.
moved() {
  sed -e "s#/var/tmp/agent-ami#$PLACE#g" -e "s#/usr/local/lib/agent-ami#$PLACE/tools#g" -e "s#/var/lib/amazon/ssm#$PLACE/ssm#g" \
    -e "s#/etc/apt#$PLACE/etc/apt#g" "$SCRIPTS/$1" >"$PLACE/$1"
  printf '%s\n' "$PLACE/$1"
}

@test "a password in the URL of LOCUS_PACKAGE is refused before anything is made" {
  for url in 'http://deploy:SECRET-PW@127.0.0.1:8765/locus.tgz' 'https://ghp_abc@github.com/a/b/tarball' 'git+https://u:p@host/x.git'; do
    run env PROVIDER=all LOCUS_PACKAGE="$url" bash "$(moved 40-agents.sh)"
    [ "$status" -eq 1 ]
    [[ $output == *"LOCUS_PACKAGE has a user or a password in its URL"* && $output != *SECRET-PW* ]]
    [ ! -e "$PLACE/tools/npm" ]
  done
}

@test "an npm package's URL without a password, and an SSH user, are none" {
  for url in 'https://host/x@2.tgz' 'git+ssh://git@github.com/a/b.git' '@locus/cli@1.2.3'; do
    run env PROVIDER=all LOCUS_PACKAGE="$url" bash "$(moved 40-agents.sh)"
    [[ $output != *"a user or a password"* ]]
  done
}

@test "what npm wrote down and what Systems Manager sent is named before the image is made" {
  mkdir -p "$PLACE/tools/locus/node_modules" "$PLACE/ssm/i-0abc/document/orchestration/x"
  echo '{"resolved": "http://deploy:SECRET-PW@host/locus.tgz"}' >"$PLACE/tools/locus/node_modules/.package-lock.json"
  echo 'export TOKEN=x' >"$PLACE/ssm/i-0abc/document/orchestration/x/_script.sh"
  run bash "$(moved 95-verify-clean.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"password in a URL: $PLACE/tools/locus/node_modules/.package-lock.json"* ]]
  [[ $output == *"Systems Manager: $PLACE/ssm/i-0abc/document/orchestration/x/_script.sh"* ]]
}

@test "a NodeSource whose key is refused leaves nothing, and the lock file's turn comes" {
  mkdir "$PLACE/server"
  echo "no key at all" >"$PLACE/server/key"
  # shellcheck source=/dev/null
  . "$PLACE/lib/common.sh"
  eval "$(sed -n '/^from_nodesource()/,/^}/p' "$(moved 30-node.sh)")"
  # shellcheck disable=SC2317
  { sleep() { :; }; apt_get() { :; }; }
  export NODE_MAJOR=24
  # A server that is not there, and a key that is none.
  for source in http://127.0.0.1:9 "file://$PLACE/server"; do
    mkdir -p "$PLACE/server/gpgkey"
    cp "$PLACE/server/key" "$PLACE/server/gpgkey/nodesource-repo.gpg.key"
    export source
    run from_nodesource
    [ "$status" -eq 1 ]
    [ -z "$(find "$PLACE/etc/apt" -name '*nodesource*')" ]
  done
}
