#!/bin/bash -p
# The Systems Manager agent comes back whatever ends it: a drop-in for the unit that is really there, the snap's or the package's.
# Prints what systemd then says of it. Safe to run again, and by the agent itself: it is not restarted, systemd takes the new policy
# from the reload. With --prepare a machine without the agent is told so and keeps the drop-ins for the day it comes.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
units=(snap.amazon-ssm-agent.amazon-ssm-agent.service amazon-ssm-agent.service)

((EUID == 0)) || { echo "ssm-keepalive: only root can change units" >&2; exit 77; }
show() { systemctl show --property "$2" --value -- "$1"; }

# write_policy UNIT: true if it was not there like this. Nothing is said of RestartPreventExitStatus=, so the package's 194 stays.
write_policy() {
  local file=/etc/systemd/system/$1.d/restart.conf wanted
  wanted='# The agent is the only way in: no number of failures may make systemd give it up.
[Unit]
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=10s'
  [[ ! -f $file || $(cat "$file") != "$wanted" ]] || return 1
  install -d -m 0755 "${file%/*}"
  printf '%s\n' "$wanted" >"$file.new"
  chmod 0644 "$file.new"
  mv -f "$file.new" "$file"
}

found=()
for unit in "${units[@]}"; do
  [[ $(show "$unit" LoadState) != loaded ]] || found+=("$unit")
done
if ((${#found[@]} == 0)); then
  [[ ${1:-} == --prepare ]] || { echo "ssm-keepalive: there is neither ${units[0]} nor ${units[1]}" >&2; exit 3; }
  found=("${units[@]}")
fi

changed=no
for unit in "${found[@]}"; do
  if write_policy "$unit"; then changed=yes; fi
done
[[ $changed == no ]] || systemctl daemon-reload
echo "changed=$changed"

# What systemd makes of it, which is not what one file says: another may come after it.
wrong=0
for unit in "${found[@]}"; do
  if [[ $(show "$unit" LoadState) != loaded ]]; then
    echo "unit=$unit load=not-found"
    continue
  fi
  [[ $(show "$unit" UnitFileState) != disabled ]] || systemctl --quiet enable -- "$unit"
  systemctl start -- "$unit"
  policy="$(show "$unit" Restart) $(show "$unit" RestartUSec) $(show "$unit" StartLimitIntervalUSec)"
  echo "unit=$unit load=loaded active=$(show "$unit" ActiveState) restart=$(show "$unit" Restart) after=$(show "$unit" RestartUSec)" \
    "start-limit=$(show "$unit" StartLimitIntervalUSec) not-after=$(show "$unit" RestartPreventExitStatus)"
  if [[ $policy != "always 10s 0" || $(show "$unit" ActiveState) != active ]]; then
    echo "ssm-keepalive: $unit is not kept alive: $policy, $(show "$unit" ActiveState); another drop-in may come after ours:" >&2
    systemctl cat -- "$unit" | grep -E '^# /' >&2
    wrong=1
  fi
done
exit "$wrong"
