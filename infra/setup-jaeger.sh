#!/usr/bin/env bash
# Installs or upgrades Jaeger on a Kubernetes cluster and verifies it: sends a span to the collector
# and reads it back through query. Idempotent.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
infra/setup-jaeger.sh [OPTIONS] [-- OPTIONS OF HELM]
    --namespace NAME      [tracing]
    --release NAME        [jaeger]; the collector is NAME-collector, or NAME-jaeger-collector where
                          NAME does not have "jaeger" in it
    --elasticsearch URL   store spans in this Elasticsearch, such as https://elasticsearch.elastic.svc:9200
    --opensearch URL      … or in this OpenSearch [default: in memory]
    --user NAME           user of the storage
    --secret NAME         secret with the user's password (key: password)
    --ca NAME             secret with the CA certificate (key: ca.crt), for https
    --address IP          address of the ingress controller: the UI is at http://jaeger.IP.nip.io
    --login NAME          secret with the users of the UI (key: htpasswd)
    --client NAME         secret with one of these users (keys: username, password), for the verification
    --anonymous           expose the UI without authentication
    --values FILE         further values; repeatable
    --timeout DURATION    time to wait for readiness [5m]
Arguments after -- go to helm, for instance: -- --set collector.replicas=2
Repeat all options in each run: an omitted one returns to its default.
TEXT
}

namespace=tracing release=jaeger timeout=5m storage_url='' options=()
address='^(https?)://([^]:/?#@[]+|\[[0-9a-fA-F:.]+\])(:([0-9]+))?(/[^?#]*)?$'
set_value() { options+=(--set-literal "$1"); }
while (($#)); do
  case $1 in
    --namespace) namespace=$2 ;;
    --release) release=$2 ;;
    --elasticsearch | --opensearch)
      [[ $2 =~ $address ]] ||
        stop 1 "$1 $2 is not an address" "write http://HOST:9200 or https://HOST:9200, with a path if there is one"
      storage_url=${2%/}
      set_value "storage.type=${1#--}"
      set_value "storage.elasticsearch.scheme=${BASH_REMATCH[1]}"
      set_value "storage.elasticsearch.host=${BASH_REMATCH[2]}"
      set_value "storage.elasticsearch.path=${BASH_REMATCH[5]}"
      options+=(--set "storage.elasticsearch.port=${BASH_REMATCH[4]:-9200}")
      ;;
    --user) set_value "storage.elasticsearch.user=$2" ;;
    --secret) set_value "storage.elasticsearch.existingSecret=$2" ;;
    --ca) set_value "storage.elasticsearch.tls.existingSecret=$2" ;;
    --address) options+=(--set ingress.enabled=true) && set_value "ingress.host=jaeger.$2.nip.io" ;;
    --login) set_value "query.auth.htpasswdSecret=$2" ;;
    --client) set_value "query.auth.clientSecret=$2" ;;
    --anonymous) options+=(--set query.auth.anonymous=true) && shift && continue ;;
    --values) options+=(--values "$2") ;;
    --timeout) timeout=$2 ;;
    --) shift && options+=("$@") && break ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && stop 1 "there is no option $1" 'see above' ;;
  esac
  shift 2 || stop 1 "$1 has no value" 'see --help'
done

say "The cluster"
check_cluster
if ! error=$(kubectl get namespace "$namespace" 2>&1 >/dev/null); then
  [[ $error == *NotFound* ]] ||
    stop_without_rights "$namespace" "you may not see the namespace $namespace: $error"
  kubectl create namespace "$namespace" >/dev/null ||
    stop 1 "the namespace $namespace is missing and you may not make it" "ask for it, or --namespace"
  kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
fi
for resource in deployments.apps services configmaps secrets serviceaccounts; do
  check_right "$namespace" create "$resource"
done

say "The values"
rendered=$(helm template "$release" "$here/helm/jaeger" --namespace "$namespace" "${options[@]}" 2>&1) ||
  stop 1 "the values can't work: $rendered" 'change them as it says'
frame_of "$namespace" "$rendered"
secrets=$(printf '%s' "$rendered" | { grep -oE '(secret: \{secretName|secretKeyRef: \{name): "[^"]+"' || true; } | sed 's/.*: "//; s/"//' | sort -u)
for secret in $secrets; do
  [[ $secret == *-es-elastic-user || $secret == *-es-http-certs-public ]] && continue # ECK creates them
  kubectl --namespace "$namespace" get secret "$secret" >/dev/null 2>&1 ||
    stop 1 "the secret $secret is missing in the namespace $namespace" \
      "make it: kubectl --namespace $namespace create secret generic $secret --from-file=KEY=FILE (which keys: infra/helm/jaeger/values.yaml)"
done

if [[ $storage_url ]]; then
  say "The storage $storage_url"
  mounted() { sed -n "/^ *- name: $1\$/{n;s/.*secretName: \"\([^\"]*\)\".*/\1/p;q}" <<<"$rendered"; }
  backend=$(backend "$rendered") secret=$(mounted storage-password)$(mounted storage-api-key)
  user=$(backend_user "$backend")
  answer=$(ask_storage "$namespace" "$backend" "$secret" "$(mounted storage-ca)" / \
    '/_index_template?filter_path=index_templates.name,index_templates.index_template.index_patterns')
  case ${secret:+login}$answer in
    login*' status=401 '*) stop 1 "the storage $storage_url refuses the login${user:+ of user $user} (secret $secret)" \
      "put the right password into the secret: kubectl --namespace $namespace create secret generic $secret --from-literal=$(backend_key "$backend")=… --dry-run=client -o yaml | kubectl apply -f -" ;;
    *' status=401 '*) stop 1 "the storage $storage_url asks for a login" 'give --user and --secret' ;;
    *' status=000 '*) stop 1 "the storage $storage_url is not within reach from the namespace $namespace: $answer" \
      'check its address, that it runs, its certificate, and network policies' ;;
  esac
  prefix=$(backend_prefix "$backend")
  # The last answer is one line. What is no JSON has no templates.
  templates=$(tail -n 1 <<<"$answer")
  foreign=$(foreign_templates "$prefix" "${templates% status=*}" 2>/dev/null || true)
  [[ ! $foreign ]] ||
    stop 1 "index templates of others own Jaeger's indices ${prefix:+$prefix-}jaeger-…: ${foreign//$'\n'/, }" \
      'narrow their patterns, or choose a prefix that they do not match: -- --set storage.elasticsearch.indexPrefix=…'
fi

say "Jaeger"
# Helm keeps the previous run's values if a run sets none, unless --reset-values is given.
if ! error=$(helm upgrade --install "$release" "$here/helm/jaeger" --namespace "$namespace" --reset-values \
  --wait --timeout "$timeout" "${options[@]}" 2>&1); then
  say "$error"
  kubectl --namespace "$namespace" get pods --selector "app.kubernetes.io/instance=$release"
  # A pod that has not started has no log.
  kubectl --namespace "$namespace" logs --selector "app.kubernetes.io/instance=$release" --tail 5 --prefix |
    cut -c1-300 || true
  stop 1 'Jaeger does not become ready' 'the pods and their last lines are above; infra/README.md has the usual causes'
fi

say "The verification: a span is sent and found"
helm test "$release" --namespace "$namespace" --logs | grep -E '^(Sent|Found|The collector|Query)' ||
  stop 1 'no span came through' "infra/doctor.sh tells where it stops; helm test $release --namespace $namespace --logs"

helm get notes "$release" --namespace "$namespace" | sed '/^NOTES:$/d; /^Send a span/,$d'
