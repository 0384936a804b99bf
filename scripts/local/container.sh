#!/usr/bin/env bash
# Runs a system disk as a container. This script is the first process of private mount, PID, IPC and UTS namespaces, started by
#
#   unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc bash container.sh DIR DISK QMP LOCK GIB NAME
#
# DIR contains seed/ and run/ (files for the guest's /run); this script writes `ready` and `fsck` into it. DISK is a qcow2 chain, QMP the
# socket of the storage daemon, LOCK the lock file of the run, GIB the new size of the root file system (0: unchanged), NAME the control
# group. When this process ends, the kernel kills all processes of the namespace, which releases mounts, loop device and FUSE export.
set -euo pipefail

readonly dir=$1 disk=$2 qmp=$3 lock=$4 gib=$5 name=$6 work=$1/work
readonly file=${disk//,/,,} # a comma separates options (qemu(1)), two are a literal one
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
# until_true TENTHS COMMAND...: retries the command for at most TENTHS tenths of a second.
until_true() {
  local left=$1
  until "${@:2}" 2>/dev/null; do ((left-- > 0)) || return 1; sleep 0.1; done
}
has_bytes() { [[ $(stat -c %s "$1") -gt 0 ]]; }

# The mounts below are in the private namespace, so that the host does not see the guest's files.
mkdir -p "$work"
mount -t tmpfs tmpfs "$work"
mkdir "$work/root"
touch "$work/raw"

# nspawn writes state to /run. slirp4netns reads resolv.conf, which may be a link to a file in /run.
resolver=$(readlink -f /etc/resolv.conf || true)
servers=$(cat "${resolver:-/dev/null}" 2>/dev/null || true)
mount -t tmpfs -o mode=0755 tmpfs /run
if [[ $resolver == /run/* ]]; then mkdir -p "${resolver%/*}"; printf '%s\n' "$servers" >"$resolver"; fi

# Ends when the command that holds the lock ends, unless that command kept the machine (`kept`).
trap 'exit 143' TERM
(flock --shared "$lock" true || true; [[ -e ${lock%/*}/kept ]] || kill -TERM 1) &

qemu-storage-daemon --blockdev "driver=qcow2,node-name=root,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename=$file" \
  --chardev "socket,id=qmp,path=${qmp//,/,,},server=on,wait=off" --monitor chardev=qmp \
  --export "type=fuse,id=root,node-name=root,mountpoint=${work//,/,,}/raw,writable=on" &
storage=$!
until_true 100 has_bytes "$work/raw" || die "qemu-storage-daemon did not export $disk"

# The root file system is the last partition, as in all cloud images, so that it can grow.
root_partition() { sfdisk --dump "$work/raw" | sed -nE 's/^.*raw([0-9]+) : start= *([0-9]+), size= *([0-9]+),.*/\2 \3 \1/p' | sort -n | tail -n 1; }
read -r start size number < <(root_partition) || die "no partition table on $disk"
if ((gib > 0)); then
  sfdisk --quiet --no-reread --no-tell-kernel --relocate gpt-bak-std "$work/raw"
  echo ', +' | sfdisk --quiet --no-reread --no-tell-kernel --partno "$number" "$work/raw"
  read -r start size number < <(root_partition)
  # Before mounting, because growing a mounted file system requires CAP_SYS_RESOURCE. The detach takes effect when the device is closed.
  loop=$(losetup --find --show --offset $((start * 512)) --sizelimit $((size * 512)) "$work/raw")
  exec 9<"$loop"
  losetup --detach "$loop"
  e2fsck -f -p "$loop" || (($? < 4)) || die "the file system of $disk has errors"
  resize2fs "$loop"
  exec 9<&-
fi
mount -t ext4 -o "loop,nodev,offset=$((start * 512)),sizelimit=$((size * 512))" "$work/raw" "$work/root" ||
  die "partition $number of $disk has no ext4 file system"

# A separate control group, by which all processes can be found; nspawn creates the container's group in it.
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$name"
echo 0 >"/sys/fs/cgroup/$name/cgroup.procs"

# The guest writes to /run/systemd, so its root must own that directory before anything is mounted below it.
options=()
for directory in system network; do options+=("--tmpfs=/run/systemd/$directory:mode=0755"); done
while IFS= read -r path; do options+=("--bind-ro=$dir/run/$path:/run/$path"); done < <(cd "$dir/run" && find . -type f -printf '%P\n')
systemd-nspawn --quiet --settings=no --register=no --keep-unit --boot --directory="$work/root" --machine=agent-ami \
  --private-users=pick --private-users-ownership=map --private-network --resolv-conf=off --timezone=off --link-journal=no \
  --console=pipe --drop-capability=CAP_MKNOD --tmpfs=/run/systemd:mode=0755 "${options[@]}" \
  --bind-ro="$dir/seed:/run/agent-ami-seed" -- 'ds=nocloud;s=/run/agent-ami-seed/' </dev/null &
nspawn=$!

# The guest's first process: the only child of nspawn that is process 1 of a nested PID namespace.
find_guest() {
  local children child
  read -ra children <"/proc/$nspawn/task/$nspawn/children" || [[ -d /proc/$nspawn ]] || return 0
  for child in "${children[@]}"; do
    if grep -qE '^NSpid:.*\s1$' "/proc/$child/status"; then guest=$child; return 0; fi
  done
  return 1
}
if ! until_true 100 find_guest || [[ -z ${guest:-} ]]; then die "systemd-nspawn did not start the guest"; fi
slirp4netns --configure --mtu=65520 --disable-host-loopback --netns-type=path --api-socket "${qmp%.qmp}.slirp" "/proc/$guest/ns/net" host0 &
echo "$guest" >"$dir/ready"

wait "$nspawn" && code=0 || code=$?
((code == 0)) || die "the guest exited with $code"
# Discards free blocks, so that they take no space in the image. The guest cannot: FITRIM requires CAP_SYS_ADMIN outside its user namespace.
fstrim "$work/root" || true
sync -f "$work/root"
umount "$work/root"
e2fsck -n -f "$work/raw?offset=$((start * 512))" >"$dir/fsck" 2>&1 || die "the file system has errors after the shutdown: $(tail -n 3 "$dir/fsck")"
kill "$storage"
wait "$storage" || die "qemu-storage-daemon exited with $?"
