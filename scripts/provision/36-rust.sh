#!/usr/bin/env bash
# Installs the Rust toolchain RUST_VERSION (RELEASE+DATE) for all users, and rustup RUSTUP_VERSION for other toolchains, with the hashes
# RUST_SHA256 and RUSTUP_SHA256. The commands are those of the toolchain and not rustup's proxies, which require a ~/.rustup of each user.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh
# shellcheck source=../lib/download.sh
. /var/tmp/agent-ami/lib/download.sh

readonly place=/usr/local/lib/rust source=https://static.rust-lang.org platform=x86_64-unknown-linux-gnu
readonly release=${RUST_VERSION%+*} date=${RUST_VERSION#*+} unpacked=/var/tmp/agent-ami/rust file=/var/tmp/agent-ami/rust.tar.xz
readonly components=(rustc cargo "rust-std-$platform" rustfmt-preview clippy-preview)

download "$source/dist/$date/rust-$release-$platform.tar.xz" "$RUST_SHA256" "$file"
rm -rf "$unpacked" "$place"
install -d -m 0755 "$unpacked"
# Without the documentation, which is most of the files.
members=(install.sh components rust-installer-version "${components[@]}")
tar -xJf "$file" -C "$unpacked" --strip-components=1 --no-same-owner "${members[@]/#/rust-$release-$platform/}"
"$unpacked/install.sh" --prefix="$place" --components="$(IFS=,; echo "${components[*]}")" --disable-ldconfig >/dev/null
rm -rf "$file" "$unpacked"
chmod -R u=rwX,go=rX "$place"
for name in rustc rustdoc cargo cargo-fmt rustfmt cargo-clippy clippy-driver; do ln -sf "$place/bin/$name" "/usr/local/bin/$name"; done

download "$source/rustup/archive/$RUSTUP_VERSION/$platform/rustup-init" "$RUSTUP_SHA256" /usr/local/bin/rustup.new
chmod 0755 /usr/local/bin/rustup.new
mv -f /usr/local/bin/rustup.new /usr/local/bin/rustup

scratch=$(mktemp -d)
export HOME=$scratch CARGO_HOME=$scratch
cargo init --quiet --vcs none --name answer "$scratch/answer"
echo 'fn main() { println!("{}", 6 * 7); }' >"$scratch/answer/src/main.rs"
found=$(cd "$scratch/answer" && cargo run --quiet --offline)
[[ $(rustup --version 2>/dev/null) == "rustup $RUSTUP_VERSION "* ]] || die "rustup is not $RUSTUP_VERSION"
rm -rf "$scratch"
[[ $found == 42 ]] || die "a Rust program printed $found, expected 42"
[[ $(rustc --version) == "rustc $release "* ]] || die "rustc is $(rustc --version), expected $release"
info "$(rustc --version), $(cargo --version), rustup $RUSTUP_VERSION"
