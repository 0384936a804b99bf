#!/bin/bash -p
# Installs the dispatch scripts on this machine, for ubuntu or the user that is named: root's files in PREFIX, and in the user's
# claude-executor links to them beside runs, repos and .env; and the user agent, as whom isolated runs work. Safe to run again: what is in
# those stays. Scripts of the operator's own that stood where the links come are moved aside; --uninstall puts them back, takes links and
# PREFIX away, and leaves runs, repos, .env and the user agent.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
uninstall=no
if [[ ${1:-} == --uninstall ]]; then
  uninstall=yes
  shift
fi
user=${1:-ubuntu}
prefix=${PREFIX:-/usr/local/lib/agent-ami/agent}
isolated=${ISOLATED_USER:-agent}
readonly isolated_home=/var/lib/agent-ami/$isolated
here=$(readlink -e -- "${BASH_SOURCE[0]}")
here=${here%/*}

if (($# > 1)) || [[ $user == -* ]]; then
  echo "usage: install.sh [--uninstall] [USER]" >&2
  exit 64
fi
((EUID == 0)) || { echo "install.sh: only root can put them where nobody else can change them" >&2; exit 77; }
home=$(getent passwd -- "$user" | cut -d: -f6) || :
[[ -n $home ]] || { echo "install.sh: there is no user $user" >&2; exit 67; }

# as_user SCRIPT ARGS...: root does not follow what the user put into the home.
as_user() {
  setpriv --reuid "$user" --regid "$(id -g -- "$user")" --init-groups -- /bin/bash -pc "set -euo pipefail; $1" install.sh "${@:2}"
}

if [[ $uninstall == yes ]]; then
  # shellcheck disable=SC2016
  as_user '
    cd -- "$1/claude-executor" 2>/dev/null || exit 0
    for link in dispatch*.sh; do [[ ! -L $link || $(readlink -- "$link") != "$2"/* ]] || rm -- "$link"; done
    for file in replaced/dispatch*.sh; do
      name=${file##*/}
      [[ -e $file || -L $file ]] || continue
      if [[ -e $name || -L $name ]]; then echo "install.sh: $PWD/$file stays there: $name is in its place" >&2; continue; fi
      mv -- "$file" "$name" && echo "install.sh: put back $PWD/$name"
    done
    rmdir --ignore-fail-on-non-empty -- replaced 2>/dev/null || :
  ' "$home" "$prefix"
  rm -rf -- "$prefix"
  echo "install.sh: $prefix is gone; $home/claude-executor keeps runs, repos and .env"
  exit 0
fi

# A user whom nothing else knows: no group but its own, no password, no login, a home that is its own.
if ! entry=$(getent passwd -- "$isolated"); then
  useradd --system --user-group --no-create-home --home-dir "$isolated_home" --shell /usr/sbin/nologin -- "$isolated"
elif [[ $(cut -d: -f6 <<<"$entry") != "$isolated_home" ]]; then
  echo "install.sh: there is a user $isolated that is not ours: name another, ISOLATED_USER=NAME, and with it DISPATCH_USER" >&2
  exit 67
fi
install -d -m 0755 -- "${isolated_home%/*}"
install -d -m 0750 -o "$isolated" -g "$isolated" -- "$isolated_home"

# Beside what is there, then in its place: a script that runs meanwhile keeps the one it has open.
install -d -m 0755 -- "$prefix/lib"
for file in "$here"/dispatch*.sh "$here"/ssm-keepalive.sh "$here"/install.sh "$here"/lib/*.sh; do
  name=${file#"$here/"}
  mode=0755
  [[ $name != lib/* ]] || mode=0644
  [[ $file -ef $prefix/$name ]] || { install -m "$mode" -o root -g root -- "$file" "$prefix/$name.new"; mv -f -- "$prefix/$name.new" "$prefix/$name"; }
done

# shellcheck disable=SC2016
as_user '
  umask 022
  mkdir -p -- "$1/claude-executor/runs" "$1/claude-executor/repos"
  cd -- "$1/claude-executor"
  [[ -e .env ]] || (umask 077; : >.env)
  for script in "$2"/dispatch*.sh; do
    name=${script##*/}
    if [[ -e $name || -L $name ]] && [[ $(readlink -- "$name") != "$script" ]]; then
      mkdir -p -- replaced
      mv --backup=numbered -T -- "$name" "replaced/$name"
      echo "install.sh: moved your $PWD/$name to replaced/$name; install.sh --uninstall puts it back"
    fi
    ln -sfn -- "$script" "$name"
  done
' "$home" "$prefix"
echo "install.sh: $prefix, for $user in $home/claude-executor and for isolated runs in $isolated_home/claude-executor"
