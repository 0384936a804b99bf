#!/bin/bash -p
# Installs the dispatch scripts on this machine, for ubuntu or the user that is named: root's files in PREFIX, and in the user's
# claude-executor links to them beside runs, repos and .env. Safe to run again: what is in those stays.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
user=${1:-ubuntu}
prefix=${PREFIX:-/usr/local/lib/agent-ami/agent}
here=$(readlink -e -- "${BASH_SOURCE[0]}")
here=${here%/*}

((EUID == 0)) || { echo "install.sh: only root can put them where nobody else can change them" >&2; exit 77; }
home=$(getent passwd -- "$user" | cut -d: -f6)
[[ -n $home ]] || { echo "install.sh: there is no user $user" >&2; exit 67; }

# Beside what is there, then in its place: a script that runs meanwhile keeps the one it has open.
install -d -m 0755 -- "$prefix/lib"
for file in "$here"/dispatch*.sh "$here"/ssm-keepalive.sh "$here"/lib/*.sh; do
  name=${file#"$here/"}
  mode=0755
  [[ $name != lib/* ]] || mode=0644
  install -m "$mode" -o root -g root -- "$file" "$prefix/$name.new"
  mv -f -- "$prefix/$name.new" "$prefix/$name"
done

# As the user: root does not follow what the user put there.
# shellcheck disable=SC2016
setpriv --reuid "$user" --regid "$(id -g -- "$user")" --init-groups -- /bin/bash -pc '
  set -euo pipefail
  umask 022
  mkdir -p -- "$1/claude-executor/runs" "$1/claude-executor/repos"
  [[ -e $1/claude-executor/.env ]] || (umask 077; : >"$1/claude-executor/.env")
  for script in "$2"/dispatch*.sh; do ln -sfn -- "$script" "$1/claude-executor/${script##*/}"; done
' install.sh "$home" "$prefix"
echo "install.sh: $prefix, for $user in $home/claude-executor"
