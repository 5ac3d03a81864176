#!/usr/bin/env bash
# Diagnoses missing traces: follows one real request from the service to Jaeger's UI and prints the
# first broken hop, the evidence and the remedy.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
infra/doctor.sh [OPTIONS]
    --namespace NAME         of the service [asl]
    --release NAME           of the service [hand-gesture-api]
    --jaeger-namespace NAME  [tracing]
    --jaeger-release NAME    [jaeger]
    --client NAME            secret in Jaeger's namespace with credentials for query, if it requires them
                             (keys: username, password)
    --header NAME=VALUE      header for the service, if a proxy in front of it requires one
    --wait SECONDS           longest wait for pods that are being replaced [60]
Exit codes: 0 the trace arrived; 1 the doctor cannot run (no cluster, no rights); else the broken hop:
    2 the service does not answer          7 the storage rejects the collector (credentials)
    3 tracing is off                       8 the storage is down or unhealthy
    4 the collector's name is unknown      9 query does not answer or reads elsewhere
    5 nothing answers at its port         10 the service's own spans are missing
    6 the collector rejects spans
PROBE_IMAGE names another image for the probes than that of helm test; it needs sh and curl.
TEXT
}

namespace=asl release=hand-gesture-api jaeger_namespace=tracing jaeger_release=jaeger client='' header='X-Doctor: 1' patience=60
while (($#)); do
  case $1 in
    --namespace) namespace=$2 ;;
    --release) release=$2 ;;
    --jaeger-namespace) jaeger_namespace=$2 ;;
    --jaeger-release) jaeger_release=$2 ;;
    --client) client=$2 ;;
    --header) header=${2/=/: } ;;
    --wait)
      [[ $2 =~ ^[0-9]+$ ]] || stop 1 "--wait $2 is no number of seconds" 'write --wait 60'
      patience=$2
      ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && stop 1 "there is no option $1" 'see above' ;;
  esac
  shift 2 || stop 1 "$1 has no value" 'see --help'
done

field() { # NAMESPACE KIND NAME JSONPATH
  kubectl --namespace "$1" get "$2" "$3" --output "jsonpath=$4" 2>/dev/null || true
}
first_named() { # NAMESPACE KIND RELEASE COMPONENT: name of a release's resource
  kubectl --namespace "$1" get "$2" --output name \
    --selector "app.kubernetes.io/instance=$3${4:+,app.kubernetes.io/component=$4}" 2>/dev/null | head -n 1 | cut -d/ -f2
}
ok() { say "ok      $*"; }
# Prints unfinished rollouts, then terminating pods. The order matters: a rollout ends when its last
# old pod starts to terminate.
replaced() {
  {
    kubectl --namespace "$namespace" rollout status "deployment/$service" --watch=false
    kubectl --namespace "$jaeger_namespace" rollout status deployments,daemonsets --watch=false \
      --selector "app.kubernetes.io/instance=$jaeger_release"
  } 2>/dev/null | grep '^Waiting for ' || true
  leaving "$namespace" "$release"
  leaving "$jaeger_namespace" "$jaeger_release"
}
leaving() { # NAMESPACE RELEASE
  kubectl --namespace "$1" get pods --selector "app.kubernetes.io/instance=$2" 2>/dev/null --output \
    'jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name} is on its way out{"\n"}{end}' || true
}
# An old pod could answer instead of a new one, so the checks wait until the old pods are gone.
wait_for_new_pods() {
  local left said=''
  while left=$(replaced) && [[ $left ]]; do
    if ((SECONDS >= patience)); then
      say "wait    pods are still being replaced after $patience s, so what follows may be an old one's: $left"
      return
    fi
    [[ $said ]] || say "wait    for pods that are being replaced, at most $patience s (--wait): $left"
    said=yes
    sleep 1
  done
}

check_cluster
check_right "$namespace" create pods
check_right "$jaeger_namespace" create pods

# Names and settings, from the cluster.
service=$(first_named "$namespace" services "$release" '')
[[ $service ]] || service=$(first_named "$namespace" spinapps.core.spinkube.dev "$release" '')
[[ $service ]] || stop 2 "there is no service of the release $release in the namespace $namespace" \
  "install it: helm install $release infra/helm/hand-gesture-api --namespace $namespace … (or --namespace, --release)"
wait_for_new_pods
read_frame "$jaeger_namespace" "$jaeger_release" jaeger
read_frame "$namespace" "$release" hand-gesture-api --set image.repository=none
port=$(field "$namespace" service "$service" '{.spec.ports[0].port}')
settings=$(field "$namespace" spinapp "$service" '{range .spec.variables[*]}{.name}={.value}{"\n"}{end}')
headers_secret=$(field "$namespace" spinapp "$service" '{.spec.variables[?(@.name=="otel_exporter_otlp_headers")].valueFrom.secretKeyRef.name} {.spec.variables[?(@.name=="otel_exporter_otlp_headers")].valueFrom.secretKeyRef.key}')
if [[ ! $settings ]]; then
  settings=$(field "$namespace" deployment "$service" '{range .spec.template.spec.containers[0].env[*]}{.name}={.value}{"\n"}{end}' |
    sed -n 's/^SPIN_VARIABLE_//p' | awk -F= '{print tolower($1) substr($0, length($1) + 1)}')
  env='.spec.template.spec.containers[0].env[?(@.name=="SPIN_VARIABLE_OTEL_EXPORTER_OTLP_HEADERS")].valueFrom.secretKeyRef'
  headers_secret=$(field "$namespace" deployment "$service" "{${env}.name} {${env}.key}")
fi
setting() { sed -n "s/^$1=//p" <<<"$settings" | head -n 1; }

trace=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
direct=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
endpoint=$(setting otel_exporter_otlp_traces_endpoint)
if [[ ! $endpoint ]]; then
  endpoint=$(setting otel_exporter_otlp_endpoint)
  endpoint=${endpoint:-http://$(setting jaeger_collector_host):4318}
  endpoint=${endpoint%/}/v1/traces
fi

# Hops 2 to 6, from a pod beside the service: one request that must be traced, and one span sent as
# the service sends it.
span='{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"doctor"}}]},"scopeSpans":[{"spans":[{"traceId":"'$direct'","spanId":"'${direct:0:16}'","name":"doctor","kind":1,"startTimeUnixNano":"'$(date +%s)'000000000","endTimeUnixNano":"'$(date +%s)'001000000"}]}]}]}'
env="[{\"name\": \"HEADER\", \"value\": $(json "$header")}, {\"name\": \"ENDPOINT\", \"value\": $(json "$endpoint")}]"
[[ $headers_secret == ' ' || ! $headers_secret ]] ||
  env="[$(from_secret OTLP_HEADERS "${headers_secret% *}" "${headers_secret#* }"), ${env#[}"
if [[ $endpoint == *\$\(* ]]; then
  # Kubernetes expands $(HOST_IP) and the like by the service's own environment.
  own=$(field "$namespace" deployment "$service" '{.spec.template.spec.containers[0].env}')
  env="${own%]}, ${env#[}"
fi
# Endpoints follow the pods after a second or two, so a refused connection is retried.
again='--retry 4 --retry-delay 1 --retry-max-time 5 --retry-all-errors'
asked=$SECONDS
seen=$(probe "$namespace" "
$(asking '')
curl $again --silent --max-time 10 --header \"\$HEADER\" http://$service:$port/health; echo \" health=\$?\"
curl --silent --max-time 10 --header \"\$HEADER\" --header 'traceparent: 00-$trace-${trace:0:16}-01' --output /dev/null http://$service:$port/; echo \"request=\$?\"
{ IFS=,; for pair in \${OTLP_HEADERS:-}; do printf 'header = \"%s: %s\"\n' \"\${pair%%=*}\" \"\$(quoted \"\${pair#*=}\" | sed 's/%20/ /g')\"; done; } |
curl $again --config - --insecure --silent --show-error --max-time 10 --header 'Content-Type: application/json' --data '$span' --write-out ' status=%{http_code}' \"\$ENDPOINT\" 2>&1; echo \" span=\$?\"
" "$env")
health=$(sed -n 's/ health=.*//p' <<<"$seen")
pods=$(kubectl --namespace "$namespace" get pods --selector "app.kubernetes.io/instance=$release" --no-headers 2>&1)
grep -q ' health=0$' <<<"$seen" || stop 2 "the service $service in $namespace does not answer; its pods: $pods" \
  "kubectl --namespace $namespace describe pods; kubectl --namespace $namespace logs deployment/$service"
ok "2  the service answers: $health"

grep -q '"tracing": *"enabled"' <<<"$health" || stop 3 \
  "tracing is off: enable_tracing='$(setting enable_tracing)', otel_sdk_disabled='$(setting otel_sdk_disabled)', endpoint=$endpoint" \
  "helm upgrade $release infra/helm/hand-gesture-api --namespace $namespace --reuse-values --set settings.enableTracing=true --set settings.otelSdkDisabled= (and settings.jaegerCollectorHost, if it is empty)"
[[ $(setting otel_traces_sampler) != always_off ]] || stop 3 'tracing is on, but otel_traces_sampler=always_off records nothing' \
  "helm upgrade … --reuse-values --set settings.otelTracesSampler=parentbased_always_on"
ok "3  tracing is on"

sent=$(grep ' span=' <<<"$seen" || true)
error=$(grep -m 1 '^curl: ' <<<"$seen" || true)
host=${endpoint#*://} host=${host%%/*}
[[ $host == *']' ]] || host=${host%:*}
collector=$(first_named "$jaeger_namespace" services "$jaeger_release" collector)
collector=${collector:-$jaeger_release-collector}
case $sent in
  *' span=6') stop 4 "the collector's name $host is unknown in the namespace $namespace: $error" \
    "set settings.jaegerCollectorHost to $collector.$jaeger_namespace.svc.cluster.local (kubectl --namespace $jaeger_namespace get services)" ;;
esac
ok "4  the collector's name resolves: $host"

# The role that writes to the storage: the ingester if there is one, else the collector.
store=ingester
[[ $(first_named "$jaeger_namespace" deployments "$jaeger_release" ingester) ]] || store=collector
deployment=$(first_named "$jaeger_namespace" deployments "$jaeger_release" "$store")
config() { field "$jaeger_namespace" configmap "$1" '{.data.config\.yaml}'; }
stored=$(backend "$(config "$deployment")")
url=$(backend_url "$stored")
prefix=$(backend_prefix "$stored")
volume() { field "$jaeger_namespace" deployment "$deployment" "{.spec.template.spec.volumes[?(@.name==\"$1\")].secret.secretName}"; }

# Checks hops 7 and 8: sends requests to the storage as Jaeger does. While spans may still arrive
# (`certain`), only faults that are beyond doubt end the doctor: a late answer or one for a user
# without all rights proves nothing.
check_storage() { # certain|likely
  local user key secret answer log
  # Requests that are signed for AWS cannot be made here.
  [[ $url && $stored != *sigv4auth* ]] || return 0
  user=$(backend_user "$stored") key=$(backend_key "$stored") secret=$(volume storage-password)$(volume storage-api-key)
  answer=$(ask_storage "$jaeger_namespace" "$stored" "$secret" "$(volume storage-ca)" \
    /_cluster/health '/_cat/indices/*jaeger-span*?h=index,health,docs.count')
  log=$(kubectl --namespace "$jaeger_namespace" logs "deployment/$deployment" --tail 200 2>/dev/null |
    grep -E $'\t(error|warn)\t' | tail -n 1 | cut -c1-300 || true)
  case $1$answer in
    *status=401* | likely*status=403*) stop 7 "the storage $url refuses the login${user:+ of user $user} (secret $secret): $(head -n 1 <<<"$answer" | cut -c1-200)" \
      "put the right password into the secret; Jaeger reads it again within a minute: kubectl --namespace $jaeger_namespace create secret generic $secret --from-literal=$key=… --dry-run=client -o yaml | kubectl apply -f -" ;;
    # curl's exit codes 6: unknown host; 7: connection refused.
    *' curl=6;'* | *' curl=7;'* | likely*status=000*) stop 8 "the storage $url does not answer: $(head -n 1 <<<"$answer"). Jaeger's log: $log" \
      'start it, or correct storage.elasticsearch; spans wait in the collector as long as its queue has room' ;;
    certain*) return 0 ;;
    *'"status":"red"'*) stop 8 "the storage $url is not healthy: $(head -n 1 <<<"$answer" | cut -c1-300)" \
      'look at its nodes and disks: GET /_cluster/allocation/explain' ;;
    *status=[45]*) stop 8 "the storage $url answers with an error: $(grep -o '.*status=[45].*' <<<"$answer" | head -n 1 | cut -c1-300)" \
      "look at the storage's own log" ;;
  esac
  indices=$(sed -n '2,$p' <<<"$answer" | grep -o '^[^ ]*jaeger-span[^ ]* .*' || true)
  ok "7  the storage $url takes the login"
  ok "8  the storage is healthy: $(grep -o '"status":"[a-z]*"' <<<"$answer" | head -n 1), indices: $(awk '{printf "%s ", $1}' <<<"$indices")"
}

replicas=$(field "$jaeger_namespace" deployment "$collector" '{.spec.replicas} wanted, ready: {.status.readyReplicas}')
case $sent in
  *' span=0') ;;
  *)
    # A collector does not start if its storage is down or rejects it: that is then the cause.
    [[ $replicas == 0* || ! $deployment ]] || check_storage likely
    stop 5 "nobody answers at $endpoint: $error; the collector's pods: ${replicas:-no such deployment}" \
      "kubectl --namespace $jaeger_namespace scale deployment $collector --replicas 1; a network policy may stand between the namespaces, too"
    ;;
esac
ok "5  the collector's port answers"
[[ $sent == *' status=200 '* ]] || stop 6 "the collector at $endpoint refuses spans: ${sent% span=*}" \
  'status 401: the login in otlpHeadersSecret; 404: the path; 400: is it http where https is asked for?; 503: its memory is full'
ok "6  the collector takes spans (200)"

# Hop 9: both traces, through query.
query=$(first_named "$jaeger_namespace" services "$jaeger_release" query)
query_deployment=$(first_named "$jaeger_namespace" deployments "$jaeger_release" query)
read_config=$(config "${query_deployment:-$deployment}")
read_from=$(backend "$read_config")
read_url=$(backend_url "$read_from")
read_prefix=$(backend_prefix "$read_from")
path=$(sed -n 's/.*base_path: "\(.*\)"/\1/p' <<<"$read_config" | head -n 1)
login='[]'
[[ ! $client ]] || login="[$(from_secret NAME "$client" username), $(from_secret PASSWORD "$client" password)]"
look_for_traces() { # SECONDS: exits if the service's trace arrives or query requires credentials
  found=$(probe "$jaeger_namespace" "
$(asking '')
end=\$((\$(date +%s) + $1))
while :; do
  service=\$(ask http://$query:16686$path/api/v3/traces/$trace)
  direct=\$(ask http://$query:16686$path/api/v3/traces/$direct)
  case \$service in *spanId*) break ;; esac
  case \$service in *status=401*) break ;; esac
  [ \$(date +%s) -lt \$end ] || break
  sleep 1
done
echo \"service: \$service\"; echo \"direct: \$direct\"
" "$login")
  if grep -q '^service: .*spanId' <<<"$found"; then
    ok "7–9 stored and found: the trace $trace of a request to $service"
    say "Every hop works."
    exit 0
  fi
  [[ $found != *status=401* ]] ||
    stop 9 "query asks for a login: $(tail -n 1 <<<"$found" | cut -c1-200)" "--client SECRET (keys username, password) lets the doctor in"
}
only_others_arrive() { # LOG of the service
  stop 10 "spans of others arrive, those of $service don't. Its log: ${1:-no warning about traces}. Sampler: '$(setting otel_traces_sampler)' $(setting otel_traces_sampler_arg); allowed: $(setting collector_allowed_host)" \
    'settings.collectorAllowedHost must be scheme://host:port of the endpoint; settings.otelTracesSampler decides what is recorded'
}
last_warning() { # [OPTIONS] of kubectl logs: the service's last line about traces
  kubectl --namespace "$namespace" logs --selector "app.kubernetes.io/instance=$release" --tail 200 "$@" 2>/dev/null |
    grep 'warning: traces' | tail -n 1 || true
}
query_is_silent() {
  stop 9 "query does not answer at $query:16686" "kubectl --namespace $jaeger_namespace get pods; kubectl --namespace $jaeger_namespace logs deployment/${query_deployment:-$deployment}"
}
reads_elsewhere() {
  stop 9 "query reads elsewhere: $store writes to $url with the prefix '$prefix', query reads $read_url with '$read_prefix'. Indices there: ${indices:-none}" \
    "helm upgrade $jaeger_release infra/helm/jaeger --namespace $jaeger_namespace --reuse-values --force-conflicts writes both configurations anew (Helm 3 knows no --force-conflicts and needs none); then kubectl --namespace $jaeger_namespace rollout restart deployment/$query_deployment"
}

# Elasticsearch shows a span about a second after it was written. A trace that is missing after four
# may still be on its way; only faults that are beyond doubt end the doctor here.
look_for_traces 4
[[ $found != *' curl=7;'* ]] || query_is_silent
if grep -q '^direct: .*spanId' <<<"$found"; then
  log=$(last_warning --since "$((SECONDS - asked + 1))s")
  [[ $log != *'the host does not allow requests'* ]] || only_others_arrive "$log"
else
  check_storage certain
fi
if [[ $read_prefix != "$prefix" ]]; then
  check_storage likely
  reads_elsewhere
fi

# No fault is beyond doubt: the storage may be slow.
look_for_traces 20
[[ $found != *status=000* ]] || query_is_silent
! grep -q '^direct: .*spanId' <<<"$found" || only_others_arrive "$(last_warning)"
check_storage likely
[[ $read_url == "$url" ]] || reads_elsewhere
stop 7 "the collector takes spans, but they don't reach query. Its log: $(kubectl --namespace "$jaeger_namespace" logs "deployment/$deployment" --tail 50 2>/dev/null | grep -iE 'error|warn' | tail -n 1 | cut -c1-300)" \
  "kubectl --namespace $jaeger_namespace logs deployment/$deployment"
