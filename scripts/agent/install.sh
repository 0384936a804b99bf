#!/bin/bash -p
# Installs the dispatch scripts on this machine for USER (default: the one of the last install, else ubuntu): files owned by root in PREFIX, links to them in the user's
# claude-executor, next to runs, repos and .env; and creates the user agent, which isolated runs use. Running it again keeps existing data.
# Existing dispatch*.sh of the operator are moved to claude-executor/replaced; --uninstall restores them, deletes the links and PREFIX,
# and keeps runs, repos, .env and the user agent.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
uninstall=no
if [[ ${1:-} == --uninstall ]]; then
  uninstall=yes
  shift
fi
prefix=${PREFIX:-/usr/local/lib/agent-ami/agent}
installed=$(cat -- "$prefix/login-user" 2>/dev/null) || :
user=${1:-${installed:-ubuntu}}
isolated=${ISOLATED_USER:-agent}
readonly isolated_home=/var/lib/agent-ami/$isolated
here=$(readlink -e -- "${BASH_SOURCE[0]}")
here=${here%/*}

if (($# > 1)) || [[ $user == -* ]]; then
  echo "usage: install.sh [--uninstall] [USER]" >&2
  exit 64
fi
((EUID == 0)) || { echo "install.sh: must run as root, because root must own the scripts" >&2; exit 77; }
home=$(getent passwd -- "$user" | cut -d: -f6) || :
[[ -n $home ]] || { echo "install.sh: no such user: $user" >&2; exit 67; }

# as_user SCRIPT ARGS...: runs a script as the user, so that root follows no links that the user created.
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
      if [[ -e $name || -L $name ]]; then echo "install.sh: not restored: $PWD/$file, because $name exists" >&2; continue; fi
      mv -- "$file" "$name" && echo "install.sh: restored $PWD/$name"
    done
    rmdir --ignore-fail-on-non-empty -- replaced 2>/dev/null || :
  ' "$home" "$prefix"
  rm -rf -- "$prefix"
  echo "install.sh: deleted $prefix; kept runs, repos and .env in $home/claude-executor"
  exit 0
fi

# The user of isolated runs: no other groups, no password, no login, a separate home.
if ! entry=$(getent passwd -- "$isolated"); then
  useradd --system --user-group --no-create-home --home-dir "$isolated_home" --shell /usr/sbin/nologin -- "$isolated"
elif [[ $(cut -d: -f6 <<<"$entry") != "$isolated_home" ]]; then
  echo "install.sh: user $isolated exists with another home directory; set ISOLATED_USER=NAME here and DISPATCH_USER=NAME for runs" >&2
  exit 67
fi
install -d -m 0755 -- "${isolated_home%/*}"
install -d -m 0750 -o "$isolated" -g "$isolated" -- "$isolated_home"

# Each file is written under a new name and renamed, so that running scripts keep the version that they opened.
install -d -m 0755 -- "$prefix/lib"
for file in "$here"/dispatch*.sh "$here"/ssm-keepalive.sh "$here"/install.sh "$here"/lib/*.sh; do
  name=${file#"$here/"}
  mode=0755
  [[ $name != lib/* ]] || mode=0644
  [[ $file -ef $prefix/$name ]] || { install -m "$mode" -o root -g root -- "$file" "$prefix/$name.new"; mv -f -- "$prefix/$name.new" "$prefix/$name"; }
done
# The user that root runs agents as by default.
printf '%s\n' "$user" >"$prefix/login-user.new"
chmod 0644 "$prefix/login-user.new"
mv -f -- "$prefix/login-user.new" "$prefix/login-user"

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
      echo "install.sh: moved your $PWD/$name to replaced/$name; install.sh --uninstall restores it"
    fi
    ln -sfn -- "$script" "$name"
  done
' "$home" "$prefix"
echo "install.sh: $prefix, for $user in $home/claude-executor and for isolated runs in $isolated_home/claude-executor"
