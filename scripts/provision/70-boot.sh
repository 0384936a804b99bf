#!/usr/bin/env bash
# Shortens the boot: sshd starts before services that are not urgent, and no daily timer fires during the boot. The order of security
# services does not change: UFW starts before the network, and host keys exist before sshd starts.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly name=50-agent-ami-boot.conf cache=/var/cache/agent-ami/pm2 pm2=pm2-$LOGIN_USER.service
# drop_in UNIT: writes standard input to a drop-in of the unit.
drop_in() { install -D -m 0644 /dev/stdin "/etc/systemd/system/$1.d/$name"; }
show() { systemctl show --property "$1" --value "$2"; }

# Interpreters that start at the same time as sshd delay it: its start took 1.8 s of a boot of 34 s by QEMU's instruction count, and
# 0.7 s alone. After= is only an order: the units also start without sshd. fail2ban reads journal entries from before its start.
late=("$pm2" fail2ban.service unattended-upgrades.service cloud-config.service)
for unit in "${late[@]}"; do
  drop_in "$unit" <<'UNIT'
[Unit]
After=ssh.service
UNIT
done

# V8 caches the compiled code of PM2's hundreds of files (Node.js 22.1 and later; earlier versions ignore the variable).
install -d -m 0755 /var/cache/agent-ami
install -d -m 0755 -o "$LOGIN_USER" -g "$LOGIN_USER" "$cache"
drop_in "$pm2" <<UNIT
[Unit]
After=ssh.service

[Service]
Environment=NODE_COMPILE_CACHE=$cache
UNIT

# An image is usually older than a day at its first boot, so all persistent timers would fire during it. A random delay moves them
# to the following two hours. apt's timers already have longer delays.
mapfile -t timers < <(systemctl list-unit-files --type=timer --state=enabled --no-legend --plain | cut -d ' ' -f 1)
for timer in "${timers[@]}"; do
  if [[ $(show Persistent "$timer") == yes && ! $(show RandomizedDelayUSec "$timer") =~ [0-9](h|d|w) ]]; then
    drop_in "$timer" <<'UNIT'
[Timer]
RandomizedDelaySec=2h
UNIT
  fi
done

# The data sources of local machines and EC2; cloud-init probes no others. The file sorts after the distribution's 90_dpkg.cfg.
cat >/etc/cloud/cloud.cfg.d/95-agent-ami-datasource.cfg <<'CLOUD'
datasource_list: [NoCloud, Ec2, None]
CLOUD

# Ubuntu's server images start these units, but instances have neither such hardware nor LVM snapshots.
for unit in ModemManager.service multipathd.socket multipathd.service e2scrub_reap.service e2scrub_all.timer; do
  if [[ $(systemctl is-enabled "$unit" 2>/dev/null) == enabled ]]; then
    systemctl disable --now "$unit"
    info "$unit is disabled"
  fi
done

systemctl daemon-reload
# Stopping PM2 writes the cache; the second start reads it.
systemctl restart "$pm2"
systemctl restart "$pm2"

for unit in "${late[@]}"; do
  [[ $(show LoadState "$unit") != loaded || " $(show After "$unit") " == *" ssh.service "* ]] ||
    die "systemd does not start $unit after ssh.service"
done
for timer in "${timers[@]}"; do
  [[ $(show Persistent "$timer") != yes || $(show RandomizedDelayUSec "$timer") =~ [0-9](h|d|w) ]] ||
    die "$timer would fire during the boot"
done
cycles=$(systemd-analyze verify --man=no default.target 2>&1 | grep -i 'ordering cycle' || true)
[[ -z $cycles ]] || die "$cycles"
sources=$(python3 -c 'from cloudinit.util import read_conf_with_confd as read; print(*read("/etc/cloud/cloud.cfg")["datasource_list"])')
[[ $sources == "NoCloud Ec2 None" ]] || die "the data sources of cloud-init are $sources"
[[ $(show Before ufw.service) == *network-pre.target* ]] || die "ufw.service is not ordered before network-pre.target"
info "pm2 $(systemctl is-active "$pm2"), its cache has $(find "$cache" -type f | wc -l) files"
