#!/usr/bin/env bats
# Secrets in the inputs of a build, and unusable package sources. Runs the provisioning scripts with their paths moved to a temporary
# directory.

setup() {
  PLACE=$(mktemp -d)
  SCRIPTS=$BATS_TEST_DIRNAME/../../provision
  mkdir -p "$PLACE"/{lib,tools,etc/apt/keyrings,etc/apt/sources.list.d,ssm}
  sed -e "s#/usr/local/lib/agent-ami#$PLACE/tools#" "$BATS_TEST_DIRNAME/../../lib/common.sh" >"$PLACE/lib/common.sh"
}

teardown() { rm -rf "$PLACE"; }

# moved SCRIPT: copies the script with its paths moved, and prints the path of the copy.
moved() {
  sed -e "s#/var/tmp/agent-ami#$PLACE#g" -e "s#/usr/local/lib/agent-ami#$PLACE/tools#g" -e "s#/var/lib/amazon/ssm#$PLACE/ssm#g" \
    -e "s#/etc/apt#$PLACE/etc/apt#g" "$SCRIPTS/$1" >"$PLACE/$1"
  printf '%s\n' "$PLACE/$1"
}

@test "a password in the URL of LOCUS_PACKAGE is refused before any change" {
  for url in 'http://deploy:SECRET-PW@127.0.0.1:8765/locus.tgz' 'https://ghp_abc@github.com/a/b/tarball' 'git+https://u:p@host/x.git'; do
    run env PROVIDER=all LOCUS_PACKAGE="$url" bash "$(moved 40-agents.sh)"
    [ "$status" -eq 1 ]
    [[ $output == *"LOCUS_PACKAGE has a user or a password in its URL"* && $output != *SECRET-PW* ]]
    [ ! -e "$PLACE/tools/npm" ]
  done
}

@test "a package URL without a password, and one with an SSH user, are accepted" {
  for url in 'https://host/x@2.tgz' 'git+ssh://git@github.com/a/b.git' '@locus/cli@1.2.3'; do
    run env PROVIDER=all LOCUS_PACKAGE="$url" bash "$(moved 40-agents.sh)"
    [[ $output != *"a user or a password"* ]]
  done
}

@test "passwords in npm metadata and commands of Systems Manager fail the verification" {
  mkdir -p "$PLACE/tools/locus/node_modules" "$PLACE/ssm/i-0abc/document/orchestration/x"
  echo '{"resolved": "http://deploy:SECRET-PW@host/locus.tgz"}' >"$PLACE/tools/locus/node_modules/.package-lock.json"
  echo 'export TOKEN=x' >"$PLACE/ssm/i-0abc/document/orchestration/x/_script.sh"
  run bash "$(moved 95-verify-clean.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"password in a URL: $PLACE/tools/locus/node_modules/.package-lock.json"* ]]
  [[ $output == *"Systems Manager: $PLACE/ssm/i-0abc/document/orchestration/x/_script.sh"* ]]
}

@test "an unusable NodeSource key fails from_nodesource and leaves no files" {
  mkdir "$PLACE/server"
  echo "no key at all" >"$PLACE/server/key"
  # shellcheck source=/dev/null
  . "$PLACE/lib/common.sh"
  eval "$(sed -n '/^from_nodesource()/,/^}/p' "$(moved 30-node.sh)")"
  # shellcheck disable=SC2317
  { sleep() { :; }; apt_get() { :; }; }
  export NODE_MAJOR=24
  # An unreachable server, and an invalid key.
  for source in http://127.0.0.1:9 "file://$PLACE/server"; do
    mkdir -p "$PLACE/server/gpgkey"
    cp "$PLACE/server/key" "$PLACE/server/gpgkey/nodesource-repo.gpg.key"
    export source
    run from_nodesource
    [ "$status" -eq 1 ]
    [ -z "$(find "$PLACE/etc/apt" -name '*nodesource*')" ]
  done
}
