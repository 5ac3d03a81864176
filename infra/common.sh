# Functions shared by setup-jaeger.sh and doctor.sh.
# shellcheck shell=bash
charts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/helm

say() { printf '%s\n' "$*"; }
need() { # PROGRAM WHERE-FROM
  command -v "$1" >/dev/null || stop 1 "$1 is missing" "install it: $2"
}

# Exits with a code after printing the fault and its remedy.
stop() { # CODE FAULT REMEDY
  printf '\nBROKEN: %s\n' "$2" >&2
  printf 'REPAIR: %s\n' "$3" >&2
  exit "$1"
}

check_cluster() {
  need kubectl https://kubernetes.io/docs/tasks/tools
  need helm https://helm.sh/docs/intro/install
  need jq https://jqlang.org/download
  local error
  error=$(kubectl version --request-timeout=10s 2>&1 >/dev/null) ||
    stop 1 "no cluster answers: $error" 'choose one: kubectl config use-context NAME, or KUBECONFIG=FILE'
}

check_right() { # NAMESPACE VERB RESOURCE
  kubectl auth can-i "$2" "$3" --namespace "$1" >/dev/null 2>&1 ||
    stop_without_rights "$1" "you may not $2 $3 in the namespace $1"
}
stop_without_rights() { # NAMESPACE FAULT
  stop 1 "$2" "ask its administrator: kubectl create rolebinding you-admin --clusterrole=admin --user=YOU --namespace $1"
}

# Pods of `helm test`, as JSON by namespace. Probes are made of them, so that they meet the cluster's policies
# as the charts' own pods do: image, labels, tolerations, resources, security.
declare -A frames

# Reads the pod for a namespace from a release, or from the chart where the release is missing.
read_frame() { # NAMESPACE RELEASE CHART [OPTIONS of helm template]
  local hooks
  hooks=$(helm get hooks "$2" --namespace "$1" 2>/dev/null) || hooks=''
  [[ $hooks == *'kind: Pod'* ]] ||
    hooks=$(helm template "$2" "$charts/$3" --namespace "$1" "${@:4}" 2>&1) ||
    stop 1 "the chart $3 does not render: $hooks" "restore $charts"
  frame_of "$1" "$hooks"
}
frame_of() { # NAMESPACE MANIFESTS
  frames[$1]=$(test_pod <<<"$2")
}
# Prints the pod of `helm test` among manifests.
test_pod() {
  awk '/^---/ { if (pod && hook) exit; document = ""; pod = hook = 0; next }
    /^kind: Pod$/ { pod = 1 } /helm.sh\/hook/ { hook = 1 } { document = document $0 "\n" }
    END { if (pod && hook) printf "%s", document }'
}

# Runs a shell script in a pod and prints its output. ENV, MOUNTS and VOLUMES are JSON lists for the pod's
# spec.
probe() { # NAMESPACE SCRIPT [ENV] [MOUNTS] [VOLUMES]
  local name phase image
  name=probe-$RANDOM$RANDOM
  probe_pod "$name" "$@" | kubectl --namespace "$1" create -f - >/dev/null
  for _ in $(seq 240); do
    phase=$(kubectl --namespace "$1" get pod "$name" --output 'jsonpath={.status.phase}')
    case $phase in Succeeded | Failed) break ;; esac
    sleep 0.5
  done
  kubectl --namespace "$1" logs "$name" --container test 2>/dev/null || true
  image=$(kubectl --namespace "$1" get pod "$name" --output 'jsonpath={.spec.containers[0].image}')
  kubectl --namespace "$1" delete pod "$name" --wait=false >/dev/null
  case $phase in
    Succeeded | Failed) ;;
    *) stop 1 "the probe's pod in the namespace $1 does not start ($phase)" \
      "is the image $image within reach? PROBE_IMAGE=… names another one with sh and curl" ;;
  esac
}
# Prints the pod that runs a script. kubectl turns its YAML into JSON.
probe_pod() { # NAME NAMESPACE SCRIPT [ENV] [MOUNTS] [VOLUMES]
  kubectl patch --local --filename - --output json --patch '{}' <<<"${frames[$2]}" |
    jq --arg name "$1" --arg script "$3" --arg image "${PROBE_IMAGE:-}" \
      --argjson env "${4:-[]}" --argjson mounts "${5:-[]}" --argjson volumes "${6:-[]}" '
      .metadata.name = $name
      | .spec += {activeDeadlineSeconds: 120, volumes: $volumes}
      | .spec.containers[0] += {command: ["sh", "-c", $script], env: $env, volumeMounts: $mounts}
      | if $image != "" then .spec.containers[0].image = $image else . end'
}

# Print an entry of a container's env.
variable() { # NAME VALUE
  jq --null-input --arg name "$1" --arg value "$2" '{$name, $value}'
}
from_secret() { # NAME SECRET KEY
  jq --null-input --arg name "$1" --arg secret "$2" --arg key "$3" \
    '{$name, valueFrom: {secretKeyRef: {name: $secret, $key}}}'
}

# Prints shell functions for a probe. `quoted` prints text as curl's configuration takes it between double
# quotes. `ask` is curl with the credentials in NAME and PASSWORD, or in API_KEY, if they are set, and with
# the outcome as its last words.
asking() { # OPTIONS of curl
  printf "options='%s'\n" "$1"
  cat <<'SCRIPT'
quoted() { printf %s "$1" | sed 's/[\\"]/\\&/g'; }
credentials() {
  [ -z "${PASSWORD:-}" ] || printf 'user = "%s:%s"\n' "$(quoted "${NAME:-}")" "$(quoted "$PASSWORD")"
  [ -z "${API_KEY:-}" ] || printf 'header = "Authorization: ApiKey %s"\n' "$(quoted "$API_KEY")"
}
ask() {
  credentials | curl --config - $options --silent --show-error --max-time 10 \
    --write-out ' status=%{http_code} curl=%{exitcode};\n' "$@" 2>&1
}
SCRIPT
}

# Prints the Elasticsearch or OpenSearch part of Jaeger's configuration or of a rendered chart.
backend() { sed -n '/server_urls:/,/index_prefix:/p; /index_prefix:/q' <<<"$1"; }
# Print a field of that part. Jaeger's configuration writes $ twice.
backend_url() { sed -n 's/.*server_urls: \["\(.*\)"\].*/\1/p' <<<"$1"; }
backend_user() { sed -n 's/.*username: "\(.*\)"/\1/p' <<<"$1" | sed 's/\$\$/$/g; s/\\\(.\)/\1/g'; }
backend_key() {
  sed -n -e 's|.*password_file: "/etc/jaeger/storage-password/\(.*\)"|\1|p' \
    -e 's|.*file_path: "/etc/jaeger/storage-api-key/\(.*\)"|\1|p' <<<"$1"
}
backend_prefix() { sed -n 's/.*index_prefix: "\(.*\)"/\1/p' <<<"$1"; }

# Sends requests to a storage as Jaeger does, with the password or API key of one secret and the CA of
# another. Prints the outcome of each path.
ask_storage() { # NAMESPACE BACKEND SECRET CA PATH…
  local namespace=$1 backend=$2 secret=$3 ca=$4 env='[]' mounts='[]' volumes='[]' options='' script path
  shift 4
  if [[ $secret && $backend == *api_key:* ]]; then
    env="[$(from_secret API_KEY "$secret" "$(backend_key "$backend")")]"
  elif [[ $secret ]]; then
    env="[$(variable NAME "$(backend_user "$backend")"), $(from_secret PASSWORD "$secret" "$(backend_key "$backend")")]"
  fi
  if [[ $backend == *insecure_skip_verify* ]]; then options=--insecure; fi
  if [[ $ca ]]; then
    mounts='[{"name": "ca", "mountPath": "/ca"}]' volumes='[{"name": "ca", "secret": {"secretName": "'$ca'"}}]'
    options="--cacert /ca/$(sed -n 's|.*ca_file: "/etc/jaeger/storage-ca/\(.*\)"|\1|p' <<<"$backend")"
  fi
  script=$(asking "$options")
  for path; do
    script+=$'\n'"ask '$(backend_url "$backend")$path'"
  done
  probe "$namespace" "$script" "$env" "$mounts" "$volumes"
}

# Prints the index templates of others that own an index of Jaeger's, each with the pattern. A composable
# template replaces all others, Jaeger's too, and a data stream's refuses the index.
foreign_templates() { # PREFIX ANSWER to GET /_index_template
  jq --raw-output --arg start "${1:+$1-}jaeger-" '
    # A pattern of indices, in which only * is special, as a regular expression.
    def expression: "^" + (split("*") | map(gsub("(?<special>[^A-Za-z0-9_-])"; "\\\(.special)")) | join(".*")) + "$";
    ["span", "service", "dependencies", "sampling"] as $indices
    | [.index_templates[]?
      | select(.name | startswith($start) | not)
      | .name as $name
      | .index_template.index_patterns[]
      | . as $pattern
      | select(any($indices[]; ($start + . + "-2026-11-27") | test($pattern | expression)))
      | "\($name) (\($pattern))"]
    | unique[]' <<<"$2"
}
