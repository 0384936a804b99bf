#!/usr/bin/env bats
# Sources and hashes of Python, Go and Rust. Runs the provisioning scripts with their paths moved to a temporary directory, and with
# programs that replace those that need a network.

setup() {
  PLACE=$(mktemp -d)
  SCRIPTS=$BATS_TEST_DIRNAME/../../provision
  mkdir -p "$PLACE"/{bin,lib,local/bin,local/lib,apt/sources.list.d,apt/preferences.d,apt/apt.conf.d,served}
  cp "$BATS_TEST_DIRNAME"/../../lib/*.sh "$PLACE/lib/"
  # retry must not wait.
  printf '#!/bin/sh\n' >"$PLACE/bin/sleep"
  # The file in `served` with the last part of the URL's name; without one, the server is unreachable.
  cat >"$PLACE/bin/curl" <<SH
#!/bin/bash
for word in "\$@"; do [[ \$word != https://* ]] || url=\$word; done
echo "\$url" >>"$PLACE/urls"
file="$PLACE/served/\${url##*/}"
[[ -e \$file ]] || exit 7
while ((\$#)); do [[ \$1 != -o ]] || { [[ \$2 == /dev/null ]] || cp "\$file" "\$2"; }; shift; done
SH
  printf '#!/bin/sh\necho "apt-get $*" >>"%s/apt-calls"\n' "$PLACE" >"$PLACE/bin/apt-get"
  chmod +x "$PLACE"/bin/*
  export PATH=$PLACE/bin:$PATH
  export PYTHON_VERSION=3.11.17+20261021 PYTHON_SHA256=0 GO_VERSION=1.22.12 GO_SHA256=0
  export RUST_VERSION=1.99.1+2026-10-15 RUST_SHA256=0 RUSTUP_VERSION=1.28.2 RUSTUP_SHA256=0
}

teardown() { rm -rf "$PLACE"; }

# moved SCRIPT: copies the script with its paths moved, and prints the path of the copy.
moved() {
  sed -e "s#/var/tmp/agent-ami#$PLACE#g" -e "s#/usr/local#$PLACE/local#g" -e "s#/etc/apt#$PLACE/apt#g" "$SCRIPTS/$1" >"$PLACE/$1"
  printf '%s\n' "$PLACE/$1"
}

# candidate VERSION: the version of python3.11 that apt would install.
candidate() {
  printf '#!/bin/sh\nprintf "python3.11:\\n  Installed: (none)\\n  Candidate: %s\\n"\n' "$1" >"$PLACE/bin/apt-cache"
  chmod +x "$PLACE/bin/apt-cache"
}

# served NAME [FILE]: the server has a file of this name; prints its hash.
served() {
  if [[ -n ${2:-} ]]; then cp "$2" "$PLACE/served/$1"; else echo "content of $1" >"$PLACE/served/$1"; fi
  sha256sum "$PLACE/served/$1" | cut -d ' ' -f 1
}

@test "a download with a wrong hash is an error, and the file is deleted" {
  # shellcheck source=/dev/null
  { . "$PLACE/lib/common.sh"; . "$PLACE/lib/download.sh"; }
  hash=$(served archive)
  download https://host/archive "$hash" "$PLACE/good"
  [ "$(cat "$PLACE/good")" = "content of archive" ]
  run download https://host/archive "${hash/[0-9a-f]/x}" "$PLACE/bad"
  [ "$status" -eq 1 ]
  [[ $output == *"https://host/archive does not have the pinned hash"* ]]
  [ ! -e "$PLACE/bad" ]
  run download https://host/none "$hash" "$PLACE/none"
  [ "$status" -eq 1 ]
  [[ $output == *"https://host/none cannot be downloaded"* ]]
}

@test "go and rust are not installed if a hash is wrong" {
  served v0.0.1-go1.22.12.linux-amd64.zip >/dev/null
  run bash "$(moved 34-go.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"does not have the pinned hash"* ]]
  served rust-1.99.1-x86_64-unknown-linux-gnu.tar.xz >/dev/null
  run bash "$(moved 36-rust.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"dist/2026-10-15/rust-1.99.1-x86_64-unknown-linux-gnu.tar.xz does not have the pinned hash"* ]]
  [ -z "$(find "$PLACE/local" -mindepth 2)" ]
}

@test "python comes from the distribution if that has a release, not a release candidate" {
  candidate "3.11.0~rc1-1~22.04"
  eval "$(sed -n '/^has_release()/,/^}/p' "$SCRIPTS/32-python.sh")"
  export minimum=3.11.2
  run has_release
  [ "$status" -ne 0 ]
  candidate "(none)"
  run has_release
  [ "$status" -ne 0 ]
  candidate "3.11.2-6+deb12u6"
  has_release
  run bash "$(moved 32-python.sh)"
  grep "apt-get .* install .* python3.11 python3.11-venv" "$PLACE/apt-calls"
  [ ! -e "$PLACE/urls" ]
}

@test "python comes from the pinned archive if the distribution has none, and a wrong hash is not a reason for another source" {
  candidate "(none)"
  name=cpython-3.11.17%2B20261021-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz
  served "$name" >/dev/null
  run bash "$(moved 32-python.sh)"
  [ "$status" -eq 1 ]
  [[ $output == *"does not have the pinned hash"* ]]
  [ ! -e "$PLACE/apt-calls" ]
  # An archive whose python3.11 creates a virtual environment with a fixed version.
  mkdir -p "$PLACE/python/bin"
  cat >"$PLACE/python/bin/python3.11" <<'SH'
#!/bin/bash
if [[ $1 == -m ]]; then
  mkdir -p "$4/bin"
  cp "$0" "$4/bin/python"
else
  echo 3.11.17
fi
SH
  chmod +x "$PLACE/python/bin/python3.11"
  tar -czf "$PLACE/archive" -C "$PLACE" python
  PYTHON_SHA256=$(served "$name" "$PLACE/archive")
  PATH=$PLACE/local/bin:$PATH run bash "$(moved 32-python.sh)"
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [[ $output == *"python3.11 3.11.17"* ]]
  [ "$(readlink "$PLACE/local/bin/python3.11")" = "$PLACE/local/lib/python-3.11/bin/python3.11" ]
  # Again, over the existing installation.
  PATH=$PLACE/local/bin:$PATH run bash "$(moved 32-python.sh)"
  [ "$status" -eq 0 ]
}

@test "on Debian without the archive, the suites of Debian 12 are added for Python only" {
  candidate "(none)"
  eval "$(sed -n '/^from_debian_12()/,/^}/p' "$(moved 32-python.sh)")"
  # shellcheck disable=SC2317
  {
    info() { :; }
    die() { echo "$1"; return 1; }
    apt_get() { :; }
    apt_install() { echo "installed $*"; }
    has_release() { true; }
  }
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  printf '#!/bin/sh\nprintf "http://a/debian %s\\nhttp://s/debian-security %s-security\\nhttp://x other\\n"\n' "$codename" "$codename" >"$PLACE/bin/apt-get"
  debian_12=$PLACE/apt/sources.list.d/agent-ami-debian-12.list
  run from_debian_12
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [[ $output == *"installed python3.11" ]]
  [ "$(cut -d ' ' -f 3- "$debian_12")" = $'http://a/debian bookworm main\nhttp://s/debian-security bookworm-security main' ]
  grep -A 2 'Package: \*' "$PLACE/apt/preferences.d/agent-ami-debian-12" | grep 'Pin-Priority: -1'
}
