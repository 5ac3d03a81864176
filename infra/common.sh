# Functions shared by setup-jaeger.sh and doctor.sh.
# shellcheck shell=bash

: "${PROBE_IMAGE:=curlimages/curl:8.16.0}"

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

# Runs a shell script in a pod that meets restricted pod security, and prints its output. ENV, MOUNTS
# and VOLUMES are JSON lists for the pod's spec.
probe() { # NAMESPACE SCRIPT [ENV] [MOUNTS] [VOLUMES]
  local name phase
  name=probe-$RANDOM$RANDOM
  kubectl --namespace "$1" create -f - >/dev/null <<JSON
{"apiVersion": "v1", "kind": "Pod",
 "metadata": {"name": "$name", "labels": {"app.kubernetes.io/name": "probe"}},
 "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false, "activeDeadlineSeconds": 120,
  "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
  "volumes": ${5:-[]},
  "containers": [{"name": "probe", "image": "$PROBE_IMAGE", "command": ["sh", "-c", $(json "$2")],
   "env": ${3:-[]}, "volumeMounts": ${4:-[]},
   "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
   "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}}]}}
JSON
  for _ in $(seq 240); do
    phase=$(kubectl --namespace "$1" get pod "$name" --output 'jsonpath={.status.phase}')
    case $phase in Succeeded | Failed) break ;; esac
    sleep 0.5
  done
  kubectl --namespace "$1" logs "$name" 2>/dev/null || true
  kubectl --namespace "$1" delete pod "$name" --wait=false >/dev/null
  case $phase in
    Succeeded | Failed) ;;
    *) stop 1 "the probe's pod in the namespace $1 does not start ($phase)" \
      "is the image $PROBE_IMAGE within reach? PROBE_IMAGE=… names another one with sh and curl" ;;
  esac
}

# Prints an entry of a container's env.
from_secret() { # VARIABLE SECRET KEY
  printf '{"name": "%s", "valueFrom": {"secretKeyRef": {"name": "%s", "key": "%s"}}}' "$@"
}

# Prints a shell function `ask` for a probe: curl, with credentials if PASSWORD is set, and the outcome
# as its last words.
asking() { # USER, quoted for the probe's shell; OPTIONS
  printf '%s' "ask() { { [ -z \"\${PASSWORD:-}\" ] || printf 'user = \"%s:%s\"\n' $1 \"\$PASSWORD\"; } | curl --config - $2 --silent --show-error --max-time 10 --write-out ' status=%{http_code} curl=%{exitcode};\n' \"\$@\" 2>&1; }"
}

# Prints the Elasticsearch or OpenSearch part of Jaeger's configuration or of a rendered chart.
backend() { sed -n '/server_urls:/,/index_prefix:/p; /index_prefix:/q' <<<"$1"; }
# Print a field of that part.
backend_url() { sed -n 's/.*server_urls: \["\(.*\)"\].*/\1/p' <<<"$1"; }
backend_user() { sed -n 's/.*username: //p' <<<"$1"; }
backend_key() { sed -n 's|.*password_file: /etc/jaeger/storage-password/||p' <<<"$1"; }
backend_prefix() { sed -n 's/.*index_prefix: "\(.*\)"/\1/p' <<<"$1"; }

# Sends requests to a storage as Jaeger does, with the password of one secret and the CA of another.
# Prints the outcome of each path.
ask_storage() { # NAMESPACE BACKEND SECRET CA PATH…
  local namespace=$1 backend=$2 secret=$3 ca=$4 env='[]' mounts='[]' volumes='[]' options='' script path
  shift 4
  [[ ! $secret ]] || env="[$(from_secret PASSWORD "$secret" "$(backend_key "$backend")")]"
  if [[ $backend == *insecure_skip_verify* ]]; then options=--insecure; fi
  if [[ $ca ]]; then
    mounts='[{"name": "ca", "mountPath": "/ca"}]' volumes='[{"name": "ca", "secret": {"secretName": "'$ca'"}}]'
    options="--cacert /ca/$(sed -n 's|.*ca_file: /etc/jaeger/storage-ca/||p' <<<"$backend")"
  fi
  script=$(asking "'$(backend_user "$backend")'" "$options")
  for path; do
    script+=$'\n'"ask '$(backend_url "$backend")$path'"
  done
  probe "$namespace" "$script" "$env" "$mounts" "$volumes"
}

# Prints text as a JSON string.
json() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  printf '"%s"' "$text"
}
