# shellcheck shell=bash
# From root to an unprivileged user in the same process: groups, capabilities, environment. Sourced as root by `enter`, whose variables
# user, uid, gid, home, shell and path it reads.

# become SCRIPT ARGS...: does not return.
# shellcheck disable=SC2154
become() {
  # A command line, which everybody can read, has names only. They are read from the kernel, because bash does not list those that are no
  # names of variables, such as exported functions.
  local name drop=()
  while IFS='=' read -r -d '' name _; do
    [[ " ${PASSES[*]} " == *" $name "* ]] || drop+=(-u "$name")
  done <"/proc/$$/environ"
  local set=(HOME="$home" USER="$user" LOGNAME="$user" SHELL="$shell" PATH="$path")
  local drop_to=(--reuid "$uid" --regid "$gid" --init-groups --inh-caps=-all --ambient-caps=-all)
  # Ubuntu's cloud images let ubuntu become root without a password; an agent that root sent must not by sudo itself.
  [[ ${DISPATCH_ALLOW_SUDO:-} == 1 ]] || drop_to+=(--no-new-privs --bounding-set=-all)
  umask 022
  # By its whole name: env would look for it in the user's PATH, where the user can have put another.
  local setpriv
  setpriv=$(command -v setpriv) || fail 69 "setpriv is not installed" "apt-get install util-linux"
  exec env "${drop[@]}" "${set[@]}" "$setpriv" "${drop_to[@]}" -- /bin/bash -p -- "$@"
}
