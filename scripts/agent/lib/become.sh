# shellcheck shell=bash
# Drops privileges from root to a user in the same process: groups, capabilities, environment. Sourced as root by `enter`, whose variables
# user, uid, gid, home, shell and path it reads.

# become SCRIPT ARGS...: does not return.
# shellcheck disable=SC2154
become() {
  # The command line is world-readable, so it contains names and no values. The names are read from /proc, because bash does not list
  # names that are not valid identifiers, such as those of exported functions.
  local name drop=()
  while IFS='=' read -r -d '' name _; do
    [[ " ${PASSES[*]} " == *" $name "* ]] || drop+=(-u "$name")
  done <"/proc/$$/environ"
  local set=(HOME="$home" USER="$user" LOGNAME="$user" SHELL="$shell" PATH="$path")
  local drop_to=(--reuid "$uid" --regid "$gid" --init-groups --inh-caps=-all --ambient-caps=-all)
  # In Ubuntu's cloud images ubuntu has sudo without a password; an agent that root started must not be able to use it.
  [[ ${DISPATCH_ALLOW_SUDO:-} == 1 ]] || drop_to+=(--no-new-privs --bounding-set=-all)
  umask 022
  # The absolute path, because env searches the PATH of the user, which may contain another setpriv.
  local setpriv
  setpriv=$(command -v setpriv) || fail 69 "setpriv is not installed" "apt-get install util-linux"
  exec env "${drop[@]}" "${set[@]}" "$setpriv" "${drop_to[@]}" -- /bin/bash -p -- "$@"
}
