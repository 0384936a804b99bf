#!/bin/bash
# The agent of the check dispatch-isolates. An isolated dispatch runs it instead of claude. It attempts to become root, to reach other users
# and the instance's credentials, and to exceed its limits. It prints a line for each attempt, `refused NAME: OUTPUT` or `escaped NAME: OUTPUT`,
# and for each thing that an agent needs, `works NAME: OUTPUT` or `broken NAME: OUTPUT`. The check replaces @LOGIN_USER@ and @LOGIN_HOME@.
# shellcheck disable=SC2016 # the attempts are scripts in single quotes
set -uo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# result RESULT NAME TEXT: prints the result with the last line of TEXT.
result() { printf '%s %s: %s\n' "$1" "$2" "$(tail -n 1 <<<"$3" | tr -cd '[:print:]' | cut -c 1-120)"; }

# attempt NAME COMMAND...: success is an escape.
attempt() {
  local name=$1 output
  shift
  if output=$(timeout 30 "$@" 2>&1 </dev/null); then result escaped "$name" "$output"; else result refused "$name" "$output"; fi
}

# in_shell NAME SCRIPT
in_shell() { attempt "$1" bash -c "$2"; }

# in_python NAME SCRIPT
in_python() { attempt "$1" python3 -c "$2"; }

# works NAME SCRIPT: a control; it must succeed, else the refusals prove nothing.
works() {
  local output
  if output=$(timeout 30 bash -c "$2" 2>&1 </dev/null); then result works "$1" "$output"; else result broken "$1" "$output"; fi
}

works user 'id -un'
works key 'echo "${ANTHROPIC_API_KEY:?}"'
works write 'echo x >file && cat file && echo y >/tmp/file'
works network ': </dev/tcp/127.0.0.1/22 && echo connected'
works python 'python3 -c "import ssl; print(ssl.OPENSSL_VERSION)"'

# Root.
attempt sudo sudo -n true
attempt su su -c true
in_shell setuid-copy 'cp /bin/bash ./root-shell && chmod 4755 ./root-shell'
in_shell capability-copy 'cp /bin/bash ./able && setcap cap_setuid+ep ./able'
attempt pkexec pkexec true
attempt user-namespace unshare --user --map-root-user true
attempt mount mount -t tmpfs none /mnt
in_shell kernel-setting 'echo x >/proc/sys/kernel/core_pattern'
in_shell control-group 'echo 0 >/sys/fs/cgroup/system.slice/cgroup.procs'
in_shell kernel-module 'insmod "$(find /lib/modules -name "*.ko*" | head -n 1)"'
attempt kernel-log dmesg
in_shell disk 'for d in /dev/[svx]d[a-z] /dev/nvme*n1; do [[ -e $d ]] && head -c 1 "$d" && exit 0; done; exit 1'
in_python raw-socket 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
in_python trace 'import ctypes; c = ctypes.CDLL(None); exit(0 if c.ptrace(16, 1, 0, 0) == 0 else "ptrace of process 1 refused")'

# Files of root and other users.
for dir in /root /var/lib/amazon/ssm /var/lib/cloud/instance; do attempt "list-$dir" ls "$dir/"; done
for file in /etc/shadow /etc/sudoers /var/lib/cloud/instance/user-data.txt; do attempt "read-$file" cat "$file"; done
for dir in /etc /usr/local/bin /usr/local/lib/agent-ami/agent /var/spool/cron /etc/systemd/system /run /boot /opt /srv /var/tmp/..; do
  in_shell "write-$dir" "echo x >$dir/agent-ami-escape"
done
attempt home-of-login-user ls @LOGIN_HOME@
in_shell pm2-of-login-user 'curl -sS --max-time 5 --unix-socket @LOGIN_HOME@/.pm2/rpc.sock http://x/'
in_shell processes-of-others '[[ -n $(ps -e -o user= | grep -vx "$(id -un)") ]]'
attempt signal-to-others kill -0 1
in_shell environment-of-others 'tr "\0" "\n" </proc/1/environ'

# Services of other programs, and jobs that would outlive the run.
attempt ssh-to-login-user ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=5 @LOGIN_USER@@127.0.0.1 true
for socket in /run/docker.sock /var/lib/lxd/unix.socket /var/snap/lxd/common/lxd/unix.socket /run/snapd.socket /run/containerd/containerd.sock; do
  attempt "socket-$socket" curl -sS --max-time 5 --unix-socket "$socket" http://x/
done
attempt systemd-start systemctl --no-ask-password start rescue.target
attempt systemd-run systemd-run --no-ask-password true
attempt systemd-run-user systemd-run --user true
attempt bus busctl --timeout=5 list
attempt linger loginctl --no-ask-password enable-linger
in_shell crontab 'echo "* * * * * id" | crontab -'
in_shell at 'echo id | at now'

# The instance's credentials.
in_shell metadata-service 'timeout 5 bash -c ": </dev/tcp/169.254.169.254/80"'
in_shell container-credentials 'timeout 5 bash -c ": </dev/tcp/169.254.170.2/80"'

# The limits: the check sets 200 processes and 300 MiB.
in_shell processes 'for n in {1..300}; do sleep 20 & done 2>&1; kill -- $(jobs -p); exit "$(($(jobs -p | wc -l) < 300))"'
in_python memory 'bytearray(800 << 20)'
setsid sleep 8642 >/dev/null 2>&1 &
echo "finished"
