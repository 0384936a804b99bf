#!/usr/bin/env bash
# mmdebstrap hook: turns the bare system in $1 into a cloud image. Runs as root of the (possibly unprivileged) namespace.
set -euo pipefail

root=$1
write() { install -D -m "${2:-0644}" /dev/stdin "$root$1"; }

# mmdebstrap's own apt options are for making the tree, not for the machine.
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

# Any Ethernet card gets its address by DHCP, whatever its name; cloud-init keeps its hands off.
write /etc/systemd/network/80-ethernet.network <<'NETWORK'
[Match]
Type=ether
# Real cards only: the pairs that containers and tests make are not ours.
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
# The generator need not look for a data source with a shell script at every boot: the list above is short.
write /etc/cloud/ds-identify.cfg <<<'policy: enabled'
# Scrubs LVM snapshots, of which there are none, with an interpreter start at every boot.
systemctl --root="$root" --quiet mask e2scrub_reap.service e2scrub_all.timer

# The initramfs must find the disk behind any virtual controller, not carry every driver there is.
write /etc/initramfs-tools/conf.d/agent-ami <<<MODULES=list
printf '%s\n' ext4 virtio_pci virtio_blk virtio_scsi virtio_net sd_mod ahci nvme vfat >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u -k all

# The boot loader's parts are taken from their packages without installing them: the boot menu below follows the
# /vmlinuz and /initrd.img links that every kernel package keeps up to date, so nothing has to be generated later.
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
# Every machine makes its own.
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/var/lib/systemd/random-seed"
: >"$root/etc/machine-id"
# Tells systemd that nothing changed below /usr since /etc and /var were set up, so the first boot rebuilds no cache.
touch "$root/etc/.updated" "$root/var/.updated"
