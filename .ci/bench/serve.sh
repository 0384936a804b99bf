#!/usr/bin/env bash
# Prints the latency of the images API for 200 clients that poll a build and the lists for 30 seconds. Requires wrk, and a running server whose
# `requests_per_minute` permits it.
# usage: serve.sh URL TOKEN BUILD
set -euo pipefail
url="$1" token="$2" build="$3"
for path in "/api/v1/images/builds/$build" /api/v1/images /api/v1/images/builds; do
  printf '%s\n' "$path"
  wrk --threads 2 --connections 200 --duration 30s --timeout 10s --latency --header "Authorization: Bearer $token" "$url$path" |
    grep -E '50%|99%|requests in|Non-2xx|Socket errors|Requests/sec'
done
