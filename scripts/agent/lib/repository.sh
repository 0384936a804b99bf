# shellcheck shell=bash
# Repositories: a mirror that all runs share, a clone for each. Sourced after run.sh's other parts, whose `supervise` it calls.

# fetch_repository: a clone of OPT_REPO in RUN_DIR, by way of a mirror that all runs share.
fetch_repository() {
  local name=${OPT_REPO%/} mirror sum
  name=${name##*/}
  sum=$(printf %s "$OPT_REPO" | sha256sum)
  mirror=$DISPATCH_HOME/repos/${name%.git}-${sum:0:12}.git
  # Git asks this for a password; the token stands in no argument and in no file. No terminal is asked.
  # shellcheck disable=SC2016
  local helper='!f() { test "$1" = get && test -n "$GITHUB_TOKEN$GH_TOKEN" && echo username=x-access-token && echo "password=${GITHUB_TOKEN:-$GH_TOKEN}"; }; f'
  local git=(git -c "credential.https://github.com.helper=$helper")
  export GIT_TERMINAL_PROMPT=0
  local lock
  exec {lock}>"$mirror.lock"
  # One at a time brings it up to date, in a folder that only becomes the mirror when it is whole.
  supervise flock "$lock" || return
  if [[ -d $mirror ]]; then
    supervise "${git[@]}" -C "$mirror" fetch --quiet --prune || return
  else
    rm -rf -- "$mirror.new"
    supervise "${git[@]}" clone --quiet --mirror -- "$OPT_REPO" "$mirror.new" || return
    mv -- "$mirror.new" "$mirror"
  fi
  supervise git clone --quiet -- "$mirror" "$RUN_DIR" || return
  exec {lock}>&-
  git -C "$RUN_DIR" remote set-url origin "$OPT_REPO"
}
