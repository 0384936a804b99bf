#!/usr/bin/env bash
# Installs Go GO_VERSION from the Go team's toolchain module, with the hash GO_SHA256. The Go module proxy serves it as a zip file.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh
# shellcheck source=../lib/download.sh
. /var/tmp/agent-ami/lib/download.sh

readonly place=/usr/local/lib/go module=golang.org/toolchain version=v0.0.1-go$GO_VERSION.linux-amd64
readonly file=/var/tmp/agent-ami/go.zip unpacked=/var/tmp/agent-ami/go

download "https://proxy.golang.org/$module/@v/$version.zip" "$GO_SHA256" "$file"
rm -rf "$unpacked" "$place"
unzip -q "$file" -d "$unpacked"
mv "$unpacked/$module@$version" "$place"
rm -rf "$file" "$unpacked"
# A module zip has no file modes (go.dev/ref/mod, "Module zip files"); these are the files that the go command makes executable.
chmod -R u=rwX,go=rX "$place"
find "$place/bin" "$place/pkg/tool" -type f -exec chmod 0755 {} +
# Tests of the standard library: no program needs them, and their keys and passwords are like secrets that a build left.
find "$place" -depth \( -type d -name testdata -o -name '*_test.go' -o -name platform_root_key.pem \) -exec rm -rf {} +
rm -rf "${place:?}/test"
for name in go gofmt; do ln -sf "$place/bin/$name" "/usr/local/bin/$name"; done

scratch=$(mktemp -d)
printf 'package main\n\nfunc main() { println(6 * 7) }\n' >"$scratch/answer.go"
found=$(env HOME="$scratch" GOCACHE="$scratch/cache" GOTOOLCHAIN=local go run "$scratch/answer.go" 2>&1)
rm -rf "$scratch"
[[ $found == 42 ]] || die "a Go program printed $found, expected 42"
[[ $(go env GOVERSION) == "go$GO_VERSION" ]] || die "go is $(go env GOVERSION), expected go$GO_VERSION"
info "$(go version)"
