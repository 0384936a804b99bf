#!/usr/bin/env bash
# mmdebstrap hook: configures the minimal system in $1 as a cloud image. Runs as root of a namespace, which may be unprivileged.
set -euo pipefail

root=$1
write() { install -D -m "${2:-0644}" /dev/stdin "$root$1"; }

# These apt options of mmdebstrap apply to the bootstrap only.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"

write /etc/fstab <<'FSTAB'
LABEL=agent-ami-root / ext4 defaults,errors=remount-ro 0 1
LABEL=ESP /boot/efi vfat umask=0077,nofail,x-systemd.automount 0 2
FSTAB
mkdir -p "$root/boot/efi"
write /etc/hostname <<<agent-ami
write /etc/hosts <<'HOSTS'
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
HOSTS
write /etc/default/locale <<<LANG=C.UTF-8

# Every Ethernet interface uses DHCP, whatever its name; network configuration of cloud-init is disabled below.
write /etc/systemd/network/80-ethernet.network <<'NETWORK'
[Match]
Type=ether
# Physical interfaces only, not the veth pairs of containers and tests.
Kind=!*

[Network]
DHCP=yes
NETWORK
write /etc/cloud/cloud.cfg.d/90-agent-ami-base.cfg <<'CLOUD'
datasource_list: [NoCloud, Ec2, None]
network: {config: disabled}
ssh_genkeytypes: [ed25519, ecdsa]
system_info:
  default_user:
    name: ubuntu
    gecos: Ubuntu
    groups: [adm, sudo]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
    lock_passwd: true
CLOUD
systemctl --root="$root" --quiet enable systemd-networkd.service systemd-resolved.service ssh.service
# The list above is short, so the generator need not search for a data source at every boot.
write /etc/cloud/ds-identify.cfg <<<'policy: enabled'
# These units scrub LVM snapshots, which the image does not have, and start an interpreter at every boot.
systemctl --root="$root" --quiet mask e2scrub_reap.service e2scrub_all.timer

# The initramfs contains only the drivers of virtual disk controllers.
write /etc/initramfs-tools/conf.d/agent-ami <<<MODULES=list
printf '%s\n' ext4 virtio_pci virtio_blk virtio_scsi virtio_net sd_mod ahci nvme vfat >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u -k all

# The boot loader's files are extracted from their packages without installing them. The boot menu below uses the links
# /vmlinuz and /initrd.img, which kernel packages update, so that update-grub is not required.
write /boot/grub/grub.cfg <<'GRUB'
set timeout=0
menuentry "Debian" {
  linux /vmlinuz root=LABEL=agent-ami-root ro console=tty0 console=ttyS0,115200 quiet
  initrd /initrd.img
}
GRUB
write /boot/grub/find-root.cfg <<'GRUB'
search.fs_label agent-ami-root root
set prefix=($root)/boot/grub
configfile /boot/grub/grub.cfg
GRUB
# shellcheck disable=SC2016 # expanded by the inner shell
chroot "$root" bash -euo pipefail -c '
  cd "$(mktemp -d)"
  apt-get -qq download grub-common grub-pc-bin grub-efi-amd64-bin libdevmapper1.02.1
  for deb in *.deb; do dpkg-deb -x "$deb" .; done
  export LD_LIBRARY_PATH=$PWD/usr/lib/x86_64-linux-gnu
  image() { usr/bin/grub-mkimage --directory "usr/lib/grub/$1" --format "$1" --prefix /boot/grub --config /boot/grub/find-root.cfg \
    --output "$2" part_gpt ext2 search_label configfile normal linux test echo sleep gzio "${@:3}"; }
  image i386-pc /boot/grub/core.img biosdisk
  image x86_64-efi /boot/grub/bootx64.efi
  cp usr/lib/grub/i386-pc/boot.img /boot/grub/
  rm -rf "$PWD"'

# shellcheck disable=SC2016 # expanded by dpkg-query
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' >"$root/packages.list"
# Each machine generates its own.
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/var/lib/systemd/random-seed"
: >"$root/etc/machine-id"
# Marks /etc and /var as up to date with /usr (systemd-update-done.service(8)), so that the first boot rebuilds no caches.
touch "$root/etc/.updated" "$root/var/.updated"
