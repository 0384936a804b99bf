#!/bin/bash -p
# Configures systemd to restart the Systems Manager agent whenever it exits, by a drop-in for the snap's or the package's unit.
# Prints the resulting properties of the unit. Idempotent. The agent itself may run it, because daemon-reload applies the policy without
# a restart. With --prepare it writes the drop-ins for both units if the agent is not installed yet.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
units=(snap.amazon-ssm-agent.amazon-ssm-agent.service amazon-ssm-agent.service)

((EUID == 0)) || { echo "ssm-keepalive: must run as root" >&2; exit 77; }
show() { systemctl show --property "$2" --value -- "$1"; }

# write_policy UNIT: true if the drop-in changed. It does not set RestartPreventExitStatus=, so the package's value 194 stays in effect.
write_policy() {
  local file=/etc/systemd/system/$1.d/restart.conf content
  content='# The agent may be the only access to the machine, so systemd must never stop restarting it.
[Unit]
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=10s'
  [[ ! -f $file || $(cat "$file") != "$content" ]] || return 1
  install -d -m 0755 "${file%/*}"
  printf '%s\n' "$content" >"$file.new"
  chmod 0644 "$file.new"
  mv -f "$file.new" "$file"
}

found=()
for unit in "${units[@]}"; do
  [[ $(show "$unit" LoadState) != loaded ]] || found+=("$unit")
done
if ((${#found[@]} == 0)); then
  [[ ${1:-} == --prepare ]] || { echo "ssm-keepalive: no unit ${units[0]} or ${units[1]}" >&2; exit 3; }
  found=("${units[@]}")
fi

changed=no
for unit in "${found[@]}"; do
  if write_policy "$unit"; then changed=yes; fi
done
[[ $changed == no ]] || systemctl daemon-reload
echo "changed=$changed"

# The effective policy; a later drop-in may override this one.
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
    echo "ssm-keepalive: the restart policy of $unit is not in effect: $policy, $(show "$unit" ActiveState); another drop-in may override it:" >&2
    systemctl cat -- "$unit" | grep -E '^# /' >&2
    wrong=1
  fi
done
exit "$wrong"
