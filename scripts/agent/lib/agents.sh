# shellcheck shell=bash
# The agents: the program, where its keys can come from, and how it is handed a task without asking anybody. Sourced.

# shellcheck disable=SC2034 # AGENT_* are read by the caller
# agent_look_up NAME: sets AGENT_PROGRAM, AGENT_KEYS (variables, one is enough) and AGENT_LOGIN (files that are as good).
agent_look_up() {
  AGENT_LOGIN=()
  case $1 in
    claude)
      AGENT_PROGRAM=claude
      AGENT_KEYS=(ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN CLAUDE_CODE_OAUTH_TOKEN)
      AGENT_LOGIN=("$HOME/.claude/.credentials.json")
      ;;
    codex)
      AGENT_PROGRAM=codex
      AGENT_KEYS=(OPENAI_API_KEY CODEX_API_KEY)
      AGENT_LOGIN=("$HOME/.codex/auth.json")
      ;;
    gemini)
      AGENT_PROGRAM=gemini
      AGENT_KEYS=(GEMINI_API_KEY GOOGLE_API_KEY)
      AGENT_LOGIN=("$HOME/.gemini/oauth_creds.json")
      ;;
    grok)
      AGENT_PROGRAM=grok
      AGENT_KEYS=(XAI_API_KEY GROK_CODE_XAI_API_KEY)
      AGENT_LOGIN=("$HOME/.grok/auth.json")
      ;;
    aider)
      AGENT_PROGRAM=aider
      AGENT_KEYS=(ANTHROPIC_API_KEY OPENAI_API_KEY GEMINI_API_KEY XAI_API_KEY OPENROUTER_API_KEY)
      ;;
    *) fail 64 "there is no agent \"$1\"" "known are claude, codex, gemini, grok and aider" ;;
  esac
}

# agent_ready NAME: fails with a code of its own if the program or every key is missing.
agent_ready() {
  agent_look_up "$1"
  local name
  command -v "$AGENT_PROGRAM" >/dev/null ||
    fail 69 "$1 is not installed: no $AGENT_PROGRAM on $PATH" "build an image with --provider all, or install it"
  for name in "${AGENT_KEYS[@]}"; do [[ -z ${!name:-} ]] || return 0; done
  for name in "${AGENT_LOGIN[@]}"; do [[ ! -s $name ]] || return 0; done
  fail 77 "$1 has no key: none of ${AGENT_KEYS[*]} is set" "set one, in the environment or in $DISPATCH_HOME/.env"
}

# shellcheck disable=SC2034
# agent_line NAME TASK ARGS...: sets AGENT_LINE, the command that works on the task; the agent's own ARGS come before it. No task is taken
# for an option, whatever it begins with.
agent_line() {
  local name=$1 task=$2
  shift 2
  case $name in
    claude) AGENT_LINE=(claude --print --dangerously-skip-permissions "$@" -- "$task") ;;
    codex) AGENT_LINE=(codex exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check "$@" -- "$task") ;;
    gemini) AGENT_LINE=(gemini --yolo --skip-trust "$@" "--prompt=$task") ;;
    grok) AGENT_LINE=(grok --always-approve "$@" "--single=$task") ;;
    aider) AGENT_LINE=(aider --yes-always --no-check-update --analytics-disable "$@" "--message=$task") ;;
  esac
}
