#!/usr/bin/env bash
# Creates the bootable disk WORK/disk.raw from the system in WORK/tree.tar, and copies its kernel and initrd to WORK.
#
#   assemble.sh WORK
#
# The partition numbers are those of Ubuntu's cloud images: 1 root (last on the disk, so that it can grow), 14 BIOS boot, 15 ESP.
set -euo pipefail

cd "$1"
readonly mib=$((1024 * 1024)) disk=$((20 * 1024)) bios=1 esp=5 root=69 # MiB: disk size, then start of each partition

mkdir tree
# Unprivileged users cannot create device nodes; devtmpfs provides them at boot.
tar --extract --file tree.tar --directory tree --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*'
rm -f tree.tar
# The link is created here because mmdebstrap replaces resolv.conf with the host's file while it runs.
ln -sfn ../run/systemd/resolve/stub-resolv.conf tree/etc/resolv.conf
mv tree/packages.list .
cp --dereference tree/vmlinuz vmlinuz
cp --dereference tree/initrd.img initrd.img
mv tree/boot/grub/{boot.img,core.img,bootx64.efi,find-root.cfg} .
chmod 0644 vmlinuz initrd.img packages.list

truncate --size "${disk}M" disk.raw
sfdisk --quiet disk.raw <<TABLE
label: gpt
first-lba: 34
14: start=${bios}MiB, size=$((esp - bios))MiB, type=21686148-6449-6E6F-744E-656564454649
15: start=${esp}MiB, size=$((root - esp))MiB, type=uefi
1: start=${root}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name="root"
TABLE

# A fixed list of features, because the guest's boot loader may not support the defaults of the host's mke2fs. Inode tables are
# initialized now, as holes in the image; lazy initialization in the guest would add hundreds of megabytes to every overlay.
last=$((disk - 1))
mke2fs -q -t ext4 -L agent-ami-root -d tree -m 1 \
  -O none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
  -E "offset=$((root * mib)),lazy_itable_init=0,lazy_journal_init=0,nodiscard" disk.raw "$((last - root))M"

# UEFI: the default boot path of the firmware.
mformat -i "disk.raw@@$((esp * mib))" -T $(((root - esp) * 2048)) -v ESP ::
mmd -i "disk.raw@@$((esp * mib))" ::/EFI ::/EFI/BOOT
mcopy -i "disk.raw@@$((esp * mib))" bootx64.efi ::/EFI/BOOT/BOOTX64.EFI

# BIOS: the boot sector contains the sector number of GRUB's core image, and the first sector of the core image that of its second
# (GRUB manual, "Images"; grub-bios-setup writes them at offsets 0x5c and 0x1f4 of an attached disk).
poke() { # FILE OFFSET VALUE: a 64-bit little-endian number
  local bytes='' i
  for ((i = 0; i < 8; i++)); do bytes+=$(printf '\\x%02x' $((($3 >> (8 * i)) & 255))); done
  printf '%b' "$bytes" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
core=$((bios * mib / 512))
poke boot.img $((0x5c)) "$core"
poke core.img $((0x1f4)) $((core + 1))
dd if=boot.img of=disk.raw bs=440 count=1 conv=notrunc status=none
dd if=core.img of=disk.raw bs=512 seek="$core" conv=notrunc status=none
chmod 0644 disk.raw
rm -rf tree
