# shellcheck shell=bash
# Repositories: a mirror shared by all runs, and a clone for each run. Sourced by run.sh; calls `supervise`. Background maintenance of git is
# disabled, because the end of the run would kill it and leave its lock files.

# fetch_repository: clones OPT_REPO into RUN_DIR from the shared mirror.
fetch_repository() {
  local name=${OPT_REPO%/} mirror sum lock
  name=${name##*/}
  sum=$(printf %s "$OPT_REPO" | sha256sum)
  mirror=$DISPATCH_HOME/repos/${name%.git}-${sum:0:12}.git
  # The credential helper reads the token from the environment, so that it is in no argument and no file. git must not prompt.
  # shellcheck disable=SC2016
  local helper='!f() { test "$1" = get && test -n "$GITHUB_TOKEN$GH_TOKEN" && echo username=x-access-token && echo "password=${GITHUB_TOKEN:-$GH_TOKEN}"; }; f'
  local git=(git -c "credential.https://github.com.helper=$helper" -c gc.autoDetach=false -c maintenance.autoDetach=false)
  export GIT_TERMINAL_PROMPT=0
  exec {lock}>"$mirror.lock"
  # Only one run at a time updates the mirror.
  supervise flock "$lock" || return
  # shellcheck disable=SC2016
  # Check that the remote is reachable, and read its current default branch.
  supervise bash -c 'exec "${@:2}" >"$1"' git "$RUN/remote" "${git[@]}" ls-remote --symref -- "$OPT_REPO" HEAD ||
    cannot "cannot be fetched" "check that it exists and that GITHUB_TOKEN has read access" || return
  [[ -s $RUN/remote ]] || cannot "has no commit on its default branch" "push one, or use --dir" || return
  if ! { [[ -d $mirror ]] && update_mirror && supervise git clone --quiet -- "$mirror" "$RUN_DIR"; }; then
    [[ -z $SIGNALLED && -z $TIMED_OUT ]] || return
    [[ ! -d $mirror ]] || printf 'dispatch: recreating the broken mirror %s\n' "$mirror"
    rm -rf -- "$mirror" "$mirror.new" "$RUN_DIR"
    # Clone under another name and rename when it is complete.
    supervise "${git[@]}" clone --quiet --mirror -- "$OPT_REPO" "$mirror.new" ||
      cannot "cannot be cloned" "check the free disk space and that GITHUB_TOKEN has read access" || return
    mv -- "$mirror.new" "$mirror"
    set_head || return
    supervise git clone --quiet -- "$mirror" "$RUN_DIR" || cannot "cannot be cloned from its mirror" "check the free disk space" || return
  fi
  touch -c -- "$mirror"
  exec {lock}>&-
  git -C "$RUN_DIR" rev-parse --quiet --verify 'HEAD^{commit}' >/dev/null ||
    cannot "has no commit on its default branch" "push one, or use --dir" || return
  git -C "$RUN_DIR" remote set-url origin "$OPT_REPO"
}

# update_mirror: fetches all refs, deletes those that the remote does not have, and checks that the remote's HEAD commit exists.
update_mirror() {
  supervise "${git[@]}" -C "$mirror" fetch --quiet --prune --force -- "$OPT_REPO" '+refs/*:refs/*' && set_head &&
    git -C "$mirror" cat-file -e "$(sed -n 's/^\([0-9a-f]\{40,\}\)\tHEAD$/\1/p' "$RUN/remote")^{commit}"
}

# set_head: sets the mirror's HEAD to the remote's default branch, or to its commit if the remote's HEAD is detached.
set_head() {
  local branch commit
  branch=$(sed -n 's/^ref: \(refs\/[^\t]*\)\tHEAD$/\1/p' "$RUN/remote")
  commit=$(sed -n 's/^\([0-9a-f]\{40,\}\)\tHEAD$/\1/p' "$RUN/remote")
  if [[ -n $branch ]]; then
    git -C "$mirror" symbolic-ref HEAD "$branch"
  else
    # No ref may contain this commit, so it is fetched separately.
    supervise "${git[@]}" -C "$mirror" fetch --quiet -- "$OPT_REPO" HEAD && git -C "$mirror" update-ref --no-deref HEAD "$commit"
  fi
}

# cannot WHAT HINT: prints an error and fails.
cannot() {
  [[ -n $SIGNALLED || -n $TIMED_OUT ]] || printf 'dispatch: %s %s\n  %s\n' "$OPT_REPO" "$1" "$2"
  return 1
}
