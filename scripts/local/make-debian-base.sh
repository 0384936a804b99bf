#!/usr/bin/env bash
# Creates a bootable Debian 13 (amd64) cloud image, the base of local builds where Ubuntu's image cannot be downloaded.
#
#   make-debian-base.sh OUT_DIR
#
# Writes to OUT_DIR: disk.qcow2 (boots with BIOS and UEFI), vmlinuz and initrd.img (for direct kernel boot, which is
# faster), base.json (contents and tools). OUT_DIR is created only when all files are complete.
# Requires no loop device and no mount; unprivileged users require a range in /etc/subuid.
# DEBIAN_MIRROR overrides mmdebstrap's default mirror; TMPDIR (default /var/tmp) requires 4 GB of disk space.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here suite=trixie

info() { printf '==> %s (%ss)\n' "$*" "$SECONDS" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 1 ]] || die "usage: make-debian-base.sh OUT_DIR"
out=$(realpath --canonicalize-missing -- "$1")
[[ ! -e $out ]] || die "$out already exists; remove it to recreate the base"

missing=()
for tool in mmdebstrap mke2fs sfdisk mformat mcopy qemu-img python3 sha256sum; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("$tool")
done
[[ ${#missing[@]} -eq 0 ]] || die "missing: ${missing[*]}; apt-get install mmdebstrap e2fsprogs fdisk mtools qemu-utils python3 debian-archive-keyring"
export PATH=$PATH:/usr/sbin:/sbin

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/debian-base.XXXXXX")
staged=$(mktemp -d "$(dirname "$out")/.$(basename "$out").XXXXXX")
# Without root, subordinate ids own the unpacked tree, and only their namespace can remove it.
as_owner() { if [[ $(id -u) -eq 0 ]]; then "$@"; else mmdebstrap --unshare-helper "$@"; fi; }
trap 'as_owner rm -rf "$work/tree"; rm -rf "$work" "$staged"' EXIT
# The root user of the namespace has another uid than the caller and must be able to write to this directory.
chmod 1777 "$work"

readarray -t packages < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/debian-base/packages.txt")
info "installing Debian $suite and ${#packages[@]} packages"
# Hooks run as root inside the namespace.
mmdebstrap --variant=minbase --architectures=amd64 --format=tar \
  --include="$(IFS=,; printf '%s' "${packages[*]}")" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
  --customize-hook="$here/debian-base/customize.sh" \
  "$suite" "$work/tree.tar" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >&2

info "assembling the disk"
as_owner bash "$here/debian-base/assemble.sh" "$work"
install -m 0644 "$work/vmlinuz" "$work/initrd.img" -t "$staged"

info "converting to qcow2"
qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$staged/disk.qcow2"

info "writing base.json"
python3 "$here/debian-base/describe.py" "$work" "$staged" >"$staged/base.json"
chmod 0755 "$staged"
mv --no-target-directory "$staged" "$out"
info "created $out: $(du -sh "$out" | cut -f1)"
