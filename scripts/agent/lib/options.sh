# shellcheck shell=bash
# What a dispatch script is told: options, the env file. Sourced.

usage() {
  cat <<TEXT
usage: ${0##*/} [--repo URL | --dir DIR] [--timeout TIME] [--] $1

Runs the agent on TASK, as ubuntu also when root calls; ARGS are handed to the agent as they are.

  --repo URL      work in a fresh clone of this repository
  --dir DIR       work in this directory
  --timeout TIME  end it after this long (90s, 30m, 2h; 2h when left out, or DISPATCH_TIMEOUT)

Each run has a folder in ${DISPATCH_HOME:-~/claude-executor}/runs with task, log, status and metadata.json. Keys come from the
environment or from ${DISPATCH_HOME:-~/claude-executor}/.env, which is read as the user, never as root.

exit codes: the agent's own, or 64 usage, 66 no such directory, 67 no such user, 69 agent not installed, 73 no place for the run,
75 repository not fetched, 77 no key or not safe as root, 78 env file, 124 timed out, 128 + n ended by signal n
TEXT
}

# shellcheck disable=SC2034 # OPT_* are read by the caller
# options ARGS...: sets OPT_REPO, OPT_DIR, OPT_TIMEOUT, OPT_TASK and OPT_ARGS.
options() {
  OPT_REPO="" OPT_DIR="" OPT_TIMEOUT="" OPT_ARGS=()
  local synopsis=${SYNOPSIS:-TASK [ARGS...]}
  while (($#)); do
    case $1 in
      -h | --help)
        usage "$synopsis"
        exit 0
        ;;
      --repo | --dir | --timeout)
        (($# > 1)) || fail 64 "$1 wants a value" "--help tells which"
        case $1 in --repo) OPT_REPO=$2 ;; --dir) OPT_DIR=$2 ;; *) OPT_TIMEOUT=$2 ;; esac
        shift 2
        ;;
      --)
        shift
        break
        ;;
      -*) fail 64 "there is no option $1" "a task that begins with a dash comes after --" ;;
      *) break ;;
    esac
  done
  [[ -n ${1:-} ]] || fail 64 "no task" "${0##*/} [OPTIONS] $synopsis"
  [[ -z $OPT_REPO || -z $OPT_DIR ]] || fail 64 "--repo and --dir at once" "a repository is cloned into a folder of its own"
  [[ $OPT_REPO != -* ]] || fail 64 "$OPT_REPO is no repository" "--repo takes an URL or a path"
  OPT_TASK=$1
  OPT_ARGS=("${@:2}")
}

# seconds TIME: 90s, 30m, 2h, or a number of seconds.
seconds() {
  [[ $1 =~ ^([0-9]{1,7})([smhd]?)$ ]] || fail 64 "$1 is no time" "write it as 90s, 30m or 2h"
  local unit=1
  case ${BASH_REMATCH[2]} in m) unit=60 ;; h) unit=3600 ;; d) unit=86400 ;; esac
  printf '%s\n' "$((10#${BASH_REMATCH[1]} * unit))"
}

# load_env: variables of the env file, which is a shell script of the user's. What root passed on wins.
load_env() {
  local file=$DISPATCH_HOME/.env name given
  [[ -e $file ]] || return 0
  ((EUID != 0)) || fail 77 "the env file is not read as root" "this is a mistake in the scripts"
  given=$(for name in "${PASSES[@]}"; do [[ -z ${!name:-} ]] || printf 'export %s=%q\n' "$name" "${!name}"; done)
  bash -n -- "$file" 2>/dev/null || fail 78 "$file is no shell script that can be read" "write NAME=value lines; bash -n tells more"
  set -a
  # shellcheck disable=SC1090
  . "$file" || fail 78 "$file ended with $?" "write NAME=value lines"
  set +a
  eval "$given"
}
