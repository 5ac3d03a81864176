# What setup-jaeger.sh and doctor.sh share.
# shellcheck shell=bash

: "${PROBE_IMAGE:=curlimages/curl:8.16.0}"

say() { printf '%s\n' "$*"; }
need() { # PROGRAM WHERE-FROM
  command -v "$1" >/dev/null || stop 1 "$1 is missing" "install it: $2"
}

# Ends with a code, what is broken and what to do.
stop() { # CODE WHAT REPAIR
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
stop_without_rights() { # NAMESPACE WHAT
  stop 1 "$2" "ask its administrator: kubectl create rolebinding you-admin --clusterrole=admin --user=YOU --namespace $1"
}

# Runs a shell script in a pod of a namespace that enforces restricted pod security, prints what it
# wrote. Further arguments become the container's env and the pod's volumes, as JSON lists.
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

# Text as a JSON string.
json() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  printf '"%s"' "$text"
}
