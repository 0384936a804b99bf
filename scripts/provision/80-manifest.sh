#!/usr/bin/env bash
# Writes /etc/agent-ami/manifest.json (installed tools and their versions) and /etc/agent-ami/sbom.cdx.json (all packages, CycloneDX 1.6).
# `build` (base, recipe hash, time) is from the engine: Packer passes BUILD_FACTS, the native engine adds it before the last step.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly dir=/etc/agent-ami
install -d -m 0755 "$dir"

# first_version COMMAND...: prints the first version number in the output of the command.
first_version() { as_user "$@" 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)*' | head -n 1; }

# security_versions: prints `PACKAGE VERSION` for each version of an installed package in the archives of security updates.
security_versions() {
  local lists=(/var/lib/apt/lists/*[-_]security_*_Packages*)
  [[ -e ${lists[0]} ]] || die "no package list of an archive of security updates; run apt-get update"
  for list in "${lists[@]}"; do /usr/lib/apt/apt-helper cat-file "$list"; done |
    awk 'NR == FNR {installed[$1]; next} $1 == "Package:" {name = $2} $1 == "Version:" && (name in installed) {print name, $2}' \
      <(dpkg-query -W -f '${Package}\n') - | sort -u
}

tools='{}'
for name in git node npm bun pm2 claude codex gemini grok aider locus python3 python3.11 go rustc cargo gcc make curl wget jq; do
  if command -v "$name" >/dev/null; then
    option=--version
    [[ $name != go ]] || option=version
    version=$(first_version "$name" "$option") || die "$name $option printed no version"
    tools=$(jq --arg n "$name" --arg v "$version" '.[$n] = $v' <<<"$tools")
  fi
done

# The kernel that the image boots; in a container `uname -r` is the kernel of the host.
kernel=$(find /boot -maxdepth 1 -name 'vmlinuz-*' -printf '%f\n' | sort -V | tail -n 1)
kernel=${kernel#vmlinuz-}
# shellcheck disable=SC1091
. /etc/os-release
jq -n --argjson tools "$tools" --arg provider "$PROVIDER" --arg id "$ID" --arg version "$VERSION_ID" --arg name "$PRETTY_NAME" \
  --arg kernel "${kernel:-$(uname -r)}" --arg arch "$(uname -m)" --argjson apt "$(dpkg-query -W -f '.\n' | wc -l)" \
  --argjson build "${BUILD_FACTS:-null}" '{
    schema: 1, os: {id: $id, version_id: $version, name: $name, arch: $arch, kernel: $kernel},
    provider: $provider, tools: $tools, locus_installed: ($tools | has("locus")), apt_packages: $apt, build: $build
  }' >"$dir/manifest.json"

dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\n' | jq -R --arg id "$ID" '
  split("\t") | {type: "library", name: .[0], version: .[1], purl: "pkg:deb/\($id)/\(.[0])@\(.[1])?arch=\(.[2])"}' >/tmp/deb.json
# Only packages that are installed: lock files also list packages for other platforms.
find "$TOOLS_DIR" "$NODE_DIR" -path '*/node_modules/*' -name package.json -print0 2>/dev/null |
  xargs -0 -r jq -c 'select(.name and .version) | {type: "library", name: .name, version: .version,
    purl: "pkg:npm/\(.name | gsub("^@"; "%40"))@\(.version)"}' >/tmp/npm.json 2>/dev/null || true
jq -s --arg at "$(date -u +%FT%TZ)" '{bomFormat: "CycloneDX", specVersion: "1.6", version: 1,
  metadata: {timestamp: $at, component: {type: "operating-system", name: "agent-ami"}}, components: (unique_by(.purl))}' \
  /tmp/deb.json /tmp/npm.json >"$dir/sbom.cdx.json"
rm -f /tmp/deb.json /tmp/npm.json
chmod 0644 "$dir"/*.json
# The smoke test compares the installed versions with this list, to find security updates that were held back.
security_versions >"$dir/security-versions"
info "$(jq '.components | length' "$dir/sbom.cdx.json") components"
