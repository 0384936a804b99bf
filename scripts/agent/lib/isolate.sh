# shellcheck shell=bash
# A run in a transient unit of systemd's, as a user who is nobody else's, from which no way leads to another user. Sourced as root.

# What the unit may not: systemd.exec(5) and systemd.resource-control(5). V8 and Bun make code at run time, so MemoryDenyWriteExecute=
# is not among them. The addresses are the instance metadata service's, and those where containers get credentials.
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

# isolate USER HOME PATH SCRIPT ARGS...: does not return. Our exit code is the script's.
isolate() {
  local user=$1 home=$2 path=$3 code=0 name lock folder properties=()
  shift 3
  [[ ${DISPATCH_ALLOW_SUDO:-0} == 0 ]] || fail 64 "DISPATCH_ISOLATE=1 and DISPATCH_ALLOW_SUDO=1 at once" "choose one"
  [[ -d /run/systemd/system ]] || fail 69 "systemd does not run this machine" "an isolated run needs it; DISPATCH_ISOLATE=0 does without"
  [[ $(id -G -- "$user") == "$(id -g -- "$user")" ]] ||
    fail 67 "$user is in the groups $(id -nG -- "$user")" "an isolated run's user is in none but its own; install.sh makes the user agent"
  # An escape would be into the whole machine, so what the kernel cannot hold is refused.
  [[ -f /sys/fs/cgroup/cgroup.controllers ]] || fail 69 "this machine has no unified cgroup hierarchy" "boot with systemd.unified_cgroup_hierarchy=1"
  install -d -m 0711 /run/agent-ami
  folder=$(mktemp -d /run/agent-ami/run-XXXXXX) || fail 73 "no folder can be made in /run/agent-ami" "is /run full?"
  chmod 0711 "$folder"
  UNIT=agent-ami-${folder##*-}.service
  # Whoever can talk to systemd can read a unit's environment. A credential is a file that only the unit's user can read.
  (umask 077; : >"$folder/environment")
  printf 'DISPATCH_STARTER=%s\0' "$folder/lock" >>"$folder/environment"
  for name in "${PASSES[@]}"; do
    [[ ! -v $name ]] || printf '%s=%s\0' "$name" "${!name}" >>"$folder/environment"
  done
  # While we live we hold it, and systemd-run does not.
  exec {lock}>"$folder/lock"
  chmod 0644 "$folder/lock"
  flock "$lock"
  for name in "${SANDBOX[@]}" User="$user" WorkingDirectory="-$PWD" ReadWritePaths="$home" \
    LoadCredential="dispatch:$folder/environment" MemoryMax="${DISPATCH_MEMORY:-75%}" TasksMax="${DISPATCH_TASKS:-2048}" \
    TimeoutStopSec="$((${DISPATCH_GRACE:-10} + 5))s"; do
    properties+=(--property "$name")
  done
  for name in HUP INT TERM; do
    # shellcheck disable=SC2064
    trap "pass_to_unit $name" "$name"
  done
  systemd-run --quiet --wait --pipe --collect --unit="$UNIT" --description="an agent's run" --service-type=exec --setenv="PATH=$path" "${properties[@]}" \
    -- /bin/bash -p -- "$@" <&0 {lock}>&- &
  local client=$!
  # Interrupted by each signal that is passed on.
  while kill -0 "$client" 2>/dev/null; do wait "$client" || :; done
  wait "$client" || code=$?
  # Not in use any more, whatever became of the client.
  systemctl stop -- "$UNIT" 2>/dev/null || :
  rm -rf -- "$folder"
  exit "$code"
}

# pass_to_unit SIGNAL: to the run's dispatch script, which ends its agent, writes down how and ends; to the whole unit before it runs.
pass_to_unit() {
  local main
  main=$(systemctl show --property MainPID --value -- "$UNIT" 2>/dev/null) || main=0
  if ((main > 0)); then kill -s "$1" "$main" 2>/dev/null || :; else systemctl stop -- "$UNIT" 2>/dev/null || :; fi
}
