# shellcheck shell=bash
# Runs an agent in a sandboxed transient unit of systemd, as a dedicated user. Sourced as root.

# Restrictions of the unit: systemd.exec(5) and systemd.resource-control(5). MemoryDenyWriteExecute= is missing because V8 and Bun compile
# at run time. The addresses are those of the instance metadata service and of the container credential endpoints.
readonly SANDBOX=(
  NoNewPrivileges=yes CapabilityBoundingSet= AmbientCapabilities=
  ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes PrivateMounts=yes
  ProtectProc=invisible ProtectKernelTunables=yes ProtectKernelModules=yes ProtectKernelLogs=yes
  ProtectControlGroups=yes ProtectClock=yes ProtectHostname=yes RemoveIPC=yes KeyringMode=private
  RestrictNamespaces=yes RestrictSUIDSGID=yes RestrictRealtime=yes LockPersonality=yes
  "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK" SystemCallArchitectures=native
  SystemCallFilter=@system-service SystemCallFilter=~@keyring SystemCallErrorNumber=EPERM
  "IPAddressDeny=169.254.169.254 169.254.170.2 169.254.170.23 fd00:ec2::254 fd00:ec2::23"
  "InaccessiblePaths=-/run/dbus -/run/systemd/private -/run/snapd.socket -/run/docker.sock -/run/containerd -/run/podman -/var/lib/lxd -/var/snap/lxd -/var/lib/amazon -/var/lib/cloud -/var/spool/cron -/run/screen"
  KillMode=control-group OOMPolicy=continue UMask=0077 LimitCORE=0
)

# isolate USER HOME PATH SCRIPT ARGS...: does not return; exits with the exit code of the script.
isolate() {
  local user=$1 home=$2 path=$3 code=0 name lock directory properties=()
  shift 3
  [[ ${DISPATCH_ALLOW_SUDO:-0} == 0 ]] || fail 64 "DISPATCH_ISOLATE=1 and DISPATCH_ALLOW_SUDO=1 are mutually exclusive" "unset one of them"
  [[ -d /run/systemd/system ]] || fail 69 "systemd is not running, and isolated runs require it" "set DISPATCH_ISOLATE=0 to run without isolation"
  [[ $(id -G -- "$user") == "$(id -g -- "$user")" ]] ||
    fail 67 "$user is in the groups $(id -nG -- "$user"), but the user of isolated runs must have no other groups" "use the user agent, which install.sh creates"
  # IPAddressDeny= requires the unified hierarchy (systemd.resource-control(5)).
  [[ -f /sys/fs/cgroup/cgroup.controllers ]] || fail 69 "no unified cgroup hierarchy" "boot with systemd.unified_cgroup_hierarchy=1"
  install -d -m 0711 /run/agent-ami
  directory=$(mktemp -d /run/agent-ami/run-XXXXXX) || fail 73 "cannot create a directory in /run/agent-ami" "check the free space of /run"
  chmod 0711 "$directory"
  UNIT=agent-ami-${directory##*-}.service
  # Every user can read a unit's environment over D-Bus. A credential is a file that only the unit's user can read.
  (umask 077; : >"$directory/environment")
  printf 'DISPATCH_STARTER=%s\0' "$directory/lock" >>"$directory/environment"
  for name in "${PASSES[@]}"; do
    [[ ! -v $name ]] || printf '%s=%s\0' "$name" "${!name}" >>"$directory/environment"
  done
  # This process holds the lock until it ends; systemd-run does not inherit it.
  exec {lock}>"$directory/lock"
  chmod 0644 "$directory/lock"
  flock "$lock"
  for name in "${SANDBOX[@]}" User="$user" WorkingDirectory="-$PWD" ReadWritePaths="$home" \
    LoadCredential="dispatch:$directory/environment" MemoryMax="${DISPATCH_MEMORY:-75%}" TasksMax="${DISPATCH_TASKS:-2048}" \
    TimeoutStopSec="$((${DISPATCH_GRACE:-10} + 5))s"; do
    properties+=(--property "$name")
  done
  for name in HUP INT TERM; do
    # shellcheck disable=SC2064
    trap "pass_to_unit $name" "$name"
  done
  systemd-run --quiet --wait --pipe --collect --unit="$UNIT" --description="agent run" --service-type=exec --setenv="PATH=$path" "${properties[@]}" \
    -- /bin/bash -p -- "$@" <&0 {lock}>&- &
  local client=$!
  # Each signal that is passed on interrupts `wait`.
  while kill -0 "$client" 2>/dev/null; do wait "$client" || :; done
  wait "$client" || code=$?
  # Stop the unit, also if systemd-run failed.
  systemctl stop -- "$UNIT" 2>/dev/null || :
  rm -rf -- "$directory"
  exit "$code"
}

# pass_to_unit SIGNAL: signals the dispatch script in the unit, which ends its agent and writes the status; stops the unit if it has no main process yet.
pass_to_unit() {
  local main
  main=$(systemctl show --property MainPID --value -- "$UNIT" 2>/dev/null) || main=0
  if ((main > 0)); then kill -s "$1" "$main" 2>/dev/null || :; else systemctl stop -- "$UNIT" 2>/dev/null || :; fi
}
