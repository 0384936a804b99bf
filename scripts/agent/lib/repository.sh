# shellcheck shell=bash
# Repositories: a mirror that all runs share, a clone for each. Sourced after run.sh's other parts, whose `supervise` it calls. Nothing of
# git's goes on in the background: it would be ended with the run, and leave its locks.

# fetch_repository: a clone of OPT_REPO in RUN_DIR, by way of a mirror that all runs share.
fetch_repository() {
  local name=${OPT_REPO%/} mirror sum lock
  name=${name##*/}
  sum=$(printf %s "$OPT_REPO" | sha256sum)
  mirror=$DISPATCH_HOME/repos/${name%.git}-${sum:0:12}.git
  # Git asks this for a password; the token stands in no argument and in no file. No terminal is asked.
  # shellcheck disable=SC2016
  local helper='!f() { test "$1" = get && test -n "$GITHUB_TOKEN$GH_TOKEN" && echo username=x-access-token && echo "password=${GITHUB_TOKEN:-$GH_TOKEN}"; }; f'
  local git=(git -c "credential.https://github.com.helper=$helper" -c gc.autoDetach=false -c maintenance.autoDetach=false)
  export GIT_TERMINAL_PROMPT=0
  exec {lock}>"$mirror.lock"
  # One run at a time updates it.
  supervise flock "$lock" || return
  # shellcheck disable=SC2016
  # What the remote itself says: whether it can be reached, and what its default branch is today.
  supervise bash -c 'exec "${@:2}" >"$1"' git "$RUN/remote" "${git[@]}" ls-remote --symref -- "$OPT_REPO" HEAD ||
    cannot "cannot be fetched" "is it there, and may GITHUB_TOKEN read it?" || return
  [[ -s $RUN/remote ]] || cannot "has no commit on its default branch" "push one, or work in a folder: --dir" || return
  if ! { [[ -d $mirror ]] && update_mirror && supervise git clone --quiet -- "$mirror" "$RUN_DIR"; }; then
    [[ -z $SIGNALLED && -z $TIMED_OUT ]] || return
    [[ ! -d $mirror ]] || printf 'dispatch: the mirror %s is broken and is cloned anew\n' "$mirror"
    rm -rf -- "$mirror" "$mirror.new" "$RUN_DIR"
    # In a folder that only becomes the mirror when it is whole.
    supervise "${git[@]}" clone --quiet --mirror -- "$OPT_REPO" "$mirror.new" ||
      cannot "cannot be cloned" "is the disk full, and may GITHUB_TOKEN read it?" || return
    mv -- "$mirror.new" "$mirror"
    set_head || return
    supervise git clone --quiet -- "$mirror" "$RUN_DIR" || cannot "cannot be cloned from its mirror" "is the disk full?" || return
  fi
  touch -c -- "$mirror"
  exec {lock}>&-
  git -C "$RUN_DIR" rev-parse --quiet --verify 'HEAD^{commit}' >/dev/null ||
    cannot "has no commit on its default branch" "push one, or work in a folder: --dir" || return
  git -C "$RUN_DIR" remote set-url origin "$OPT_REPO"
}

# update_mirror: all branches and tags as the remote has them, those that are gone taken away; and what the remote has is there then.
update_mirror() {
  supervise "${git[@]}" -C "$mirror" fetch --quiet --prune --force -- "$OPT_REPO" '+refs/*:refs/*' && set_head &&
    git -C "$mirror" cat-file -e "$(sed -n 's/^\([0-9a-f]\{40,\}\)\tHEAD$/\1/p' "$RUN/remote")^{commit}"
}

# set_head: the mirror's default branch is the remote's; without one, the commit that is checked out there.
set_head() {
  local branch commit
  branch=$(sed -n 's/^ref: \(refs\/[^\t]*\)\tHEAD$/\1/p' "$RUN/remote")
  commit=$(sed -n 's/^\([0-9a-f]\{40,\}\)\tHEAD$/\1/p' "$RUN/remote")
  if [[ -n $branch ]]; then
    git -C "$mirror" symbolic-ref HEAD "$branch"
  else
    # No branch need lead to it, so that it was not fetched with them.
    supervise "${git[@]}" -C "$mirror" fetch --quiet -- "$OPT_REPO" HEAD && git -C "$mirror" update-ref --no-deref HEAD "$commit"
  fi
}

# cannot WHAT HINT: says so and fails.
cannot() {
  [[ -n $SIGNALLED || -n $TIMED_OUT ]] || printf 'dispatch: %s %s\n  %s\n' "$OPT_REPO" "$1" "$2"
  return 1
}
