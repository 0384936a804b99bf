# shellcheck shell=bash
# Command line of the dispatch scripts. Sourced.

usage() {
  cat <<TEXT
usage: ${0##*/} [OPTIONS] [--] $1

Runs the agent on TASK; as root it drops privileges to the user of install.sh first. Passes ARGS to the agent unchanged.

  --repo URL         work in a new clone of this repository
  --dir DIR          work in this directory
  --task-file FILE   read TASK from this file, as the user of the agent; - is standard input
  --stdin            pass standard input to the agent, which otherwise reads /dev/null
  --timeout TIME     end the agent after this time (90s, 30m, 2h) [default: DISPATCH_TIMEOUT, or 55m]. AWS-RunShellScript of Run
                     Command ends a command after 3600 s; for longer runs set its executionTimeout as well
  --kind NAME        write NAME to metadata.json as the kind of the run

Each run has a directory in ${DISPATCH_HOME:-~/claude-executor}/runs with task, log, status and metadata.json. Keys are read from the
environment or from ${DISPATCH_HOME:-~/claude-executor}/.env, which is read as the user, never as root.

DISPATCH_ISOLATE=1 in root's environment runs the agent as user "agent" in a transient systemd unit: without sudo, without access to
other users' files and the instance's credentials, with at most DISPATCH_MEMORY (75%) of memory and DISPATCH_TASKS (2048) processes.

Runs and mirrors that were not used for DISPATCH_KEEP (30d) are deleted, and the oldest ones above DISPATCH_KEEP_MIB (20480) of each.
A log has at most DISPATCH_LOG_MIB (256).

exit codes: that of the agent, or 64 usage, 66 no such directory or task file, 67 no such user, 69 agent not installed, 73 run directory
not created, 75 repository not fetched, 77 no key or unsafe as root, 78 env file, 124 timed out, 128 + n ended by signal n
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
        (($# > 1)) || fail 64 "$1 requires a value" "see --help"
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
      -*) fail 64 "unknown option $1" "write -- before a task that begins with a dash" ;;
      *) break ;;
    esac
    shift
  done
  [[ -z $OPT_REPO || -z $OPT_DIR ]] || fail 64 "--repo and --dir are mutually exclusive" "pass one of them; --repo clones into the directory of the run"
  # The URL is written to metadata.json and to the git configuration of mirror and clone.
  [[ ! $OPT_REPO =~ ://[^/@]*:[^/@]*@|https?://[^/@]+@ ]] || fail 64 "--repo has a user or a password in its URL" "set GITHUB_TOKEN, or configure a credential helper of git"
  [[ $OPT_REPO != -* ]] || fail 64 "invalid repository $OPT_REPO" "pass a URL or a path"
  [[ $OPT_KIND =~ ^[a-z0-9-]{0,40}$ ]] || fail 64 "invalid kind $OPT_KIND" "use at most 40 lowercase letters, digits and dashes"
  if [[ -n $OPT_TASK_FILE ]]; then
    [[ -z $OPT_STDIN || $OPT_TASK_FILE != - ]] || fail 64 "--stdin and --task-file - are mutually exclusive" "pass one of them; both read standard input"
    OPT_ARGS=("$@")
    return
  fi
  [[ -n ${1:-} ]] || fail 64 "no task given" "run ${0##*/} [OPTIONS] $synopsis"
  OPT_TASK=$1
  OPT_ARGS=("${@:2}")
}
