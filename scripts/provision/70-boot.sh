#!/usr/bin/env bash
# A short boot: whoever waits for SSH gets it before anything that only needs to run some time, and no daily job falls into the boot.
# What a machine needs to be safe keeps its place: UFW is up before the network, host keys are made before sshd starts.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly name=50-agent-ami-boot.conf cache=/var/cache/agent-ami/pm2
# drop_in UNIT: a file beside the unit, from standard input.
drop_in() { install -D -m 0644 /dev/stdin "/etc/systemd/system/$1.d/$name"; }
show() { systemctl show --property "$1" --value "$2"; }

# Interpreters that start together with sshd take the processors from it: by QEMU's instruction count its start took 1.8 s of a
# boot of 34 s, alone it takes 0.7 s. An order is no dependency: they start without sshd, too. fail2ban reads what the journal has of the time before its start.
late=(pm2-ubuntu.service fail2ban.service unattended-upgrades.service cloud-config.service)
for unit in "${late[@]}"; do
  drop_in "$unit" <<'UNIT'
[Unit]
After=ssh.service
UNIT
done

# V8 keeps what it compiled of PM2's hundreds of files (Node.js 22.1 and later; others know nothing of the variable).
install -d -m 0755 /var/cache/agent-ami
install -d -m 0755 -o ubuntu -g ubuntu "$cache"
drop_in pm2-ubuntu.service <<UNIT
[Unit]
After=ssh.service

[Service]
Environment=NODE_COMPILE_CACHE=$cache
UNIT

# An image is older than a day at its first boot, so timers that catch up would all fire in it. They still catch up, at some
# time in the hours after it. Those of apt have longer delays of their own.
mapfile -t timers < <(systemctl list-unit-files --type=timer --state=enabled --no-legend --plain | cut -d ' ' -f 1)
for timer in "${timers[@]}"; do
  if [[ $(show Persistent "$timer") == yes && ! $(show RandomizedDelayUSec "$timer") =~ [0-9](h|d|w) ]]; then
    drop_in "$timer" <<'UNIT'
[Timer]
RandomizedDelaySec=2h
UNIT
  fi
done

# What instances are started by: cloud-init looks for nothing else. The file sorts behind the distribution's 90_dpkg.cfg.
cat >/etc/cloud/cloud.cfg.d/95-agent-ami-datasource.cfg <<'CLOUD'
datasource_list: [NoCloud, Ec2, None]
CLOUD

# For hardware that no instance has, and LVM snapshots, of which there are none: Ubuntu's server images start them all.
for unit in ModemManager.service multipathd.socket multipathd.service e2scrub_reap.service e2scrub_all.timer; do
  if [[ $(systemctl is-enabled "$unit" 2>/dev/null) == enabled ]]; then
    systemctl disable --now "$unit"
    say "$unit is disabled"
  fi
done

systemctl daemon-reload
# The first stop writes the cache, the second start reads it.
systemctl restart pm2-ubuntu.service
systemctl restart pm2-ubuntu.service

for unit in "${late[@]}"; do
  [[ $(show LoadState "$unit") != loaded || " $(show After "$unit") " == *" ssh.service "* ]] ||
    die "systemd does not start $unit after ssh.service"
done
for timer in "${timers[@]}"; do
  [[ $(show Persistent "$timer") != yes || $(show RandomizedDelayUSec "$timer") =~ [0-9](h|d|w) ]] ||
    die "$timer would fire in the boot"
done
cycles=$(systemd-analyze verify --man=no default.target 2>&1 | grep -i 'ordering cycle' || true)
[[ -z $cycles ]] || die "$cycles"
sources=$(python3 -c 'from cloudinit.util import read_conf_with_confd as read; print(*read("/etc/cloud/cloud.cfg")["datasource_list"])')
[[ $sources == "NoCloud Ec2 None" ]] || die "cloud-init would look for $sources"
[[ $(show Before ufw.service) == *network-pre.target* ]] || die "the network does not wait for ufw.service"
say "pm2 $(systemctl is-active pm2-ubuntu.service), its cache has $(find "$cache" -type f | wc -l) files"
