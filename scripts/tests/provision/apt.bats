#!/usr/bin/env bats
# apt_get and apt_upgrade of scripts/lib/common.sh, with the real apt on generated archives and a generated list of installed packages.

setup() {
  PLACE=$(mktemp -d)
  chmod 755 "$PLACE"
  mkdir -p "$PLACE"/{archive,state/lists/partial,cache/archives/partial}
  export APT_CONFIG=$PLACE/apt.conf
  cat >"$APT_CONFIG" <<TEXT
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "$PLACE/sources.list";
Dir::State "$PLACE/state";
Dir::State::status "$PLACE/state/status";
Dir::Cache "$PLACE/cache";
APT::Sandbox::User "root";
TEXT
  echo "deb [trusted=yes] file:$PLACE/archive ./" >"$PLACE/sources.list"
  # A kernel metapackage whose new version depends on a package that is not installed.
  package kernel 1 installed kernel-1 >"$PLACE/state/status"
  package kernel-1 1 installed >>"$PLACE/state/status"
  { package kernel 2 "" kernel-2; package kernel-2 2; } >"$PLACE/archive/Packages"
  # shellcheck source=../../lib/common.sh
  . "$BATS_TEST_DIRNAME/../../lib/common.sh"
  # shellcheck disable=SC2317
  sleep() { command sleep 0.05; }
}

teardown() { rm -rf "$PLACE"; }

# package NAME VERSION [installed] [DEPENDS]
package() {
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: a\nDescription: d\n' "$1" "$2"
  [[ ${3:-} != installed ]] || echo "Status: install ok installed"
  [[ -z ${4:-} ]] || echo "Depends: $4"
  [[ ${3:-} == installed ]] || printf 'Filename: ./%s.deb\nSize: 1\nSHA256: %064d\n' "$1" 0
  echo
}

@test "the update fails if an archive is unreachable" {
  apt_get update
  echo "deb [trusted=yes] http://127.0.0.1:9/debian stable-security main" >>"$PLACE/sources.list"
  run apt_get update
  [ "$status" -ne 0 ]
  [[ $output == *"try 3 of 3 failed"* ]]
}

@test "an update that requires a new package is not kept back" {
  apt_get update
  run apt-get -s upgrade
  [[ $output == *"kept back"* ]]
  run apt_get -s upgrade --with-new-pkgs
  [ "$status" -eq 0 ]
  [[ $output == *"Inst kernel-2"* && $output == *"Inst kernel "* ]]
}

@test "the upgrade fails if a security update remains, and names it" {
  mkdir "$PLACE/security"
  mv "$PLACE/archive/Packages" "$PLACE/security/"
  printf 'Suite: stable-security\nLabel: Debian-Security\nOrigin: Debian\n' >"$PLACE/security/Release"
  echo "deb [trusted=yes] file:$PLACE/security ./" >"$PLACE/sources.list"
  apt_get update
  [ "$(pending_security)" = "kernel kernel-2" ] || [ "$(pending_security)" = "kernel-2 kernel" ]
  # An upgrade that does nothing, as with a held package.
  apt_get() { :; }
  run apt_upgrade
  [ "$status" -ne 0 ]
  [[ $output == *"security updates are not installed: kernel"* ]]
}

@test "waits for the lock of the package lists, and fails after the timeout" {
  apt_get update
  python3 -c '
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open(sys.argv[1] + ".held", "w")
time.sleep(30)' "$PLACE/state/lists/lock" &
  holder=$!
  for _ in {1..200}; do [[ ! -e $PLACE/state/lists/lock.held ]] || break; sleep; done
  run wait_for_lists 3
  [ "$status" -ne 0 ]
  [[ $output == *"still held after 3 s"* ]]
  (command sleep 1; kill "$holder") &
  run apt_get update
  [ "$status" -eq 0 ]
  [[ $output == *"another program holds"* && $output != *"try 1"* ]]
}
