#!/usr/bin/env bats
# Mirrors of repositories, which runs share and check before use, and the deletion of old runs and mirrors. Requires root.
# shellcheck disable=SC2016 # agents are scripts in quotes

load support.bash

# commit MESSAGE: commits to the repository that the tests fetch.
commit() { as_user git -C "$HOME_OF/seen.repo" -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m "$1"; }

# repository: creates the repository that the tests fetch, with one commit on main, and an agent that prints commit and branch.
repository() {
  as_user git init --quiet -b main "$HOME_OF/seen.repo"
  commit first
  agent claude 'git log -1 --format=%s; git symbolic-ref --short HEAD'
}

# found: prints the agent's output for a clone of the repository.
found() { dispatch --repo "$HOME_OF/seen.repo" task 2>/dev/null; }

mirror() { echo "$EXECUTOR"/repos/*.git; }

@test "the default branch is the current one of the remote, not that at the creation of the mirror" {
  repository
  [ "$(found)" = $'first\nmain' ]
  as_user git -C "$HOME_OF/seen.repo" switch --quiet -c trunk
  commit second
  [ "$(found)" = $'second\ntrunk' ]
  # The branch that the mirror's HEAD names no longer exists.
  as_user git -C "$HOME_OF/seen.repo" branch --quiet -D main
  as_user git -C "$HOME_OF/seen.repo" branch --quiet -m next
  commit third
  [ "$(found)" = $'third\nnext' ]
}

@test "a detached HEAD of the remote is cloned" {
  repository
  as_user git -C "$HOME_OF/seen.repo" switch --quiet --detach
  commit alone
  agent claude 'git log -1 --format=%s'
  run dispatch --repo "$HOME_OF/seen.repo" task
  [[ $output == *$'\n'alone$'\n'* ]]
  commit more
  run dispatch --repo "$HOME_OF/seen.repo" task
  [[ $output == *$'\n'more$'\n'* ]] || { echo "$output"; false; }
}

@test "a broken mirror is recreated once, with a message" {
  repository
  for break in ': >"$1/packed-refs.lock"' ': >"$1/HEAD"' 'find "$1/objects" -type f -exec rm -f {} \; -exec touch {} \;' 'rm -r "$1/objects"'; do
    as_user git -C "$HOME_OF/seen.repo" branch gone
    found
    as_user bash -c "$break" break "$(mirror)"
    # A new commit, so that the mirror has something to fetch, and a branch to delete.
    commit again
    as_user git -C "$HOME_OF/seen.repo" branch --quiet -D gone
    rm -rf "$EXECUTOR"/runs/*
    run dispatch --repo "$HOME_OF/seen.repo" task
    [ "$status" -eq 0 ] || { echo "$break: $output"; false; }
    [[ $output == *$'\n'again$'\n'main$'\n'* ]]
    [[ $output == *"recreating the broken mirror"* ]] || { echo "$break: $output"; false; }
  done
}

@test "a mirror with an empty configuration is still updated" {
  repository
  found
  as_user truncate -s 0 "$(mirror)/config"
  commit second
  [ "$(found)" = $'second\nmain' ]
}

@test "a repository without a commit is an error, not an empty directory" {
  as_user git init --quiet -b main "$HOME_OF/seen.repo"
  agent claude 'touch ~/seen.ran'
  run dispatch --repo "$HOME_OF/seen.repo" task
  [ "$status" -eq 75 ]
  [[ $output == *"has no commit on its default branch"* ]]
  [ ! -e "$HOME_OF/seen.ran" ]
  [ "$(cat "$(run_directory)/status")" = 75 ]
}

@test "unused runs and mirrors are deleted, and no others" {
  repository
  found
  found
  local old=("$EXECUTOR"/runs/*)
  as_user touch -d '40 days ago' "${old[0]}" "$(mirror)"
  rm -f "$EXECUTOR"/.pruned*
  agent claude 'sleep 351'
  "$PLACE/agent/dispatch.sh" task &
  soon processes "sleep 351"
  [ ! -e "${old[0]}" ]
  [ -d "${old[1]}" ]
  [ ! -e "$(mirror)" ]
  # A run in progress is kept, however old it is.
  local now=("$EXECUTOR"/runs/*)
  as_user touch -d '40 days ago' "${now[@]}"
  rm -f "$EXECUTOR"/.pruned*
  agent codex 'echo'
  OPENAI_API_KEY=k "$PLACE/agent/dispatch-codex.sh" task
  [ "$(cat "$EXECUTOR"/runs/*-claude-*/status 2>/dev/null)" = "" ]
  [ "$(jq -r .state "$EXECUTOR"/runs/*-claude-*/metadata.json)" = running ]
  pkill -fx "sleep 351"
  wait
}

@test "the oldest runs above the size limit are deleted, at most once an hour" {
  agent claude 'head -c 3000000 /dev/urandom >data'
  for _ in 1 2 3; do
    dispatch task
    sleep 1
  done
  export DISPATCH_KEEP_MIB=7
  dispatch task
  [ "$(find "$EXECUTOR/runs" -mindepth 1 -maxdepth 1 | wc -l)" -eq 4 ]
  rm -f "$EXECUTOR"/.pruned*
  run dispatch task
  [[ $output == *"deleted 2 of 4"* ]]
  [ "$(find "$EXECUTOR/runs" -mindepth 1 -maxdepth 1 | wc -l)" -eq 3 ]
}

@test "invalid limits are refused" {
  agent claude
  for setting in DISPATCH_KEEP=soon DISPATCH_KEEP_MIB=-1 DISPATCH_LOG_MIB=0; do
    run env "$setting" "$PLACE/agent/dispatch.sh" task
    [ "$status" -eq 64 ] || { echo "$setting: $status"; false; }
  done
  [ -z "$(ls "$EXECUTOR/runs")" ]
}
