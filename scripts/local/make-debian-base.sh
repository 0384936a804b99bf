#!/usr/bin/env bash
# Makes a bootable Debian 13 (amd64) cloud image, the base for local builds where Ubuntu's cannot be fetched.
#
#   make-debian-base.sh OUT_DIR
#
# Leaves in OUT_DIR: disk.qcow2 (boots by BIOS and by UEFI), vmlinuz and initrd.img (for a direct kernel boot, which
# is faster), base.json (what is inside, how it was made). OUT_DIR appears only when all of it is complete.
# Needs no loop device and no mount; unprivileged users need a range in /etc/subuid.
# DEBIAN_MIRROR names another mirror than mmdebstrap's default; TMPDIR (default /var/tmp) needs 4 GB.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here suite=trixie

say() { printf '==> %s (%ss)\n' "$*" "$SECONDS" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 1 ]] || die "usage: make-debian-base.sh OUT_DIR"
out=$(realpath --canonicalize-missing -- "$1")
[[ ! -e $out ]] || die "$out exists already; remove it to make the base anew"

missing=()
for tool in mmdebstrap mke2fs sfdisk mformat mcopy qemu-img python3 sha256sum; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("$tool")
done
[[ ${#missing[@]} -eq 0 ]] || die "missing: ${missing[*]}; apt-get install mmdebstrap e2fsprogs fdisk mtools qemu-utils python3 debian-archive-keyring"
export PATH=$PATH:/usr/sbin:/sbin

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/debian-base.XXXXXX")
staged=$(mktemp -d "$(dirname "$out")/.$(basename "$out").XXXXXX")
# Unprivileged, the unpacked tree belongs to subordinate ids, which only their namespace can remove.
as_owner() { if [[ $(id -u) -eq 0 ]]; then "$@"; else mmdebstrap --unshare-helper "$@"; fi; }
trap 'as_owner rm -rf "$work/tree"; rm -rf "$work" "$staged"' EXIT
# The namespace's root is another user than ours: let it write here, and in here only.
chmod 1777 "$work"

readarray -t packages < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/debian-base/packages.txt")
say "installing Debian $suite and ${#packages[@]} packages"
# Hooks see the tree as root, inside the namespace. The eatmydata hook is mmdebstrap's own: it leaves nothing behind.
mmdebstrap --variant=minbase --architectures=amd64 --format=tar \
  --include="$(IFS=,; printf '%s' "${packages[*]}")" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
  --customize-hook="$here/debian-base/customize.sh" \
  "$suite" "$work/tree.tar" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >&2

say "assembling the disk"
as_owner bash "$here/debian-base/assemble.sh" "$work"
install -m 0644 "$work/vmlinuz" "$work/initrd.img" -t "$staged"

say "converting to qcow2"
qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$staged/disk.qcow2"

say "describing it"
python3 "$here/debian-base/describe.py" "$work" "$staged" >"$staged/base.json"
chmod 0755 "$staged"
mv --no-target-directory "$staged" "$out"
say "made $out: $(du -sh "$out" | cut -f1)"
