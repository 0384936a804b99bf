# shellcheck shell=bash
# What a dispatch script is told: options, the env file. Sourced.

usage() {
  cat <<TEXT
usage: ${0##*/} [OPTIONS] [--] $1

Runs the agent on TASK, as ubuntu also when root calls; ARGS are handed to the agent as they are.

  --repo URL         work in a fresh clone of this repository
  --dir DIR          work in this directory
  --task-file FILE   read TASK from this file, as the user that the agent runs as; - is standard input
  --stdin            hand standard input to the agent, which otherwise reads /dev/null
  --timeout TIME     end it after this long (90s, 30m, 2h; 55m when left out, or DISPATCH_TIMEOUT). Run Command's AWS-RunShellScript
                     ends a command after 3600 s: for more, set its executionTimeout as well
  --kind NAME        write down that this is a run of this kind

Each run has a folder in ${DISPATCH_HOME:-~/claude-executor}/runs with task, log, status and metadata.json. Keys come from the
environment or from ${DISPATCH_HOME:-~/claude-executor}/.env, which is read as the user, never as root.

DISPATCH_ISOLATE=1, in root's environment, runs the agent as the user agent in a systemd unit of its own, without sudo, without
ubuntu's files and the instance's credentials, with at most DISPATCH_MEMORY (75%) of memory and DISPATCH_TASKS (2048) processes.

Runs and mirrors that were not used for DISPATCH_KEEP (30d) are deleted, and the oldest beyond DISPATCH_KEEP_MIB (20480) of each. A
log has at most DISPATCH_LOG_MIB (256).

exit codes: the agent's own, or 64 usage, 66 no such directory or task file, 67 no such user, 69 agent not installed, 73 no place for
the run, 75 repository not fetched, 77 no key or not safe as root, 78 env file, 124 timed out, 128 + n ended by signal n
TEXT
}

# shellcheck disable=SC2034 # OPT_* are read by the caller
# options ARGS...: sets OPT_REPO, OPT_DIR, OPT_TIMEOUT, OPT_KIND, OPT_STDIN, OPT_TASK_FILE, OPT_TASK and OPT_ARGS.
options() {
  OPT_REPO="" OPT_DIR="" OPT_TIMEOUT="" OPT_KIND="" OPT_STDIN="" OPT_TASK_FILE="" OPT_TASK="" OPT_ARGS=()
  local synopsis=${SYNOPSIS:-TASK [ARGS...]}
  while (($#)); do
    case $1 in
      -h | --help)
        usage "$synopsis"
        exit 0
        ;;
      --stdin) OPT_STDIN=1 ;;
      --repo | --dir | --timeout | --task-file | --kind)
        (($# > 1)) || fail 64 "$1 wants a value" "--help tells which"
        case $1 in
          --repo) OPT_REPO=$2 ;;
          --dir) OPT_DIR=$2 ;;
          --timeout) OPT_TIMEOUT=$2 ;;
          --task-file) OPT_TASK_FILE=$2 ;;
          --kind) OPT_KIND=$2 ;;
        esac
        shift
        ;;
      --)
        shift
        break
        ;;
      -*) fail 64 "there is no option $1" "a task that begins with a dash comes after --" ;;
      *) break ;;
    esac
    shift
  done
  [[ -z $OPT_REPO || -z $OPT_DIR ]] || fail 64 "--repo and --dir at once" "a repository is cloned into a folder of its own"
  # It would stand in metadata.json, in the mirror's configuration and in the agent's own clone.
  [[ ! $OPT_REPO =~ ://[^/@]*:[^/@]*@|https?://[^/@]+@ ]] || fail 64 "--repo has a user or a password in its URL" "set GITHUB_TOKEN, or a credential helper of git's"
  [[ $OPT_REPO != -* ]] || fail 64 "$OPT_REPO is no repository" "--repo takes an URL or a path"
  [[ $OPT_KIND =~ ^[a-z0-9-]{0,40}$ ]] || fail 64 "$OPT_KIND is no kind" "write it in small letters, digits and dashes"
  if [[ -n $OPT_TASK_FILE ]]; then
    [[ -z $OPT_STDIN || $OPT_TASK_FILE != - ]] || fail 64 "--stdin and --task-file - at once" "only one can read standard input"
    OPT_ARGS=("$@")
    return
  fi
  [[ -n ${1:-} ]] || fail 64 "no task" "${0##*/} [OPTIONS] $synopsis"
  OPT_TASK=$1
  OPT_ARGS=("${@:2}")
}
