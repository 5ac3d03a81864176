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

# --- What the cluster has ---

get() { # NAMESPACE KIND NAME: a resource as JSON
  kubectl --namespace "$1" get "$2" "$3" --output json 2>/dev/null || echo '{}'
}
# A Service that leads elsewhere, to KEDA's interceptor, does not count.
first_named() { # NAMESPACE KIND RELEASE COMPONENT: name of a release's resource
  kubectl --namespace "$1" get "$2" --output json \
    --selector "app.kubernetes.io/instance=$3${4:+,app.kubernetes.io/component=$4}" 2>/dev/null |
    jq --raw-output '[.items[] | select(.spec.type != "ExternalName")][0].metadata.name // empty' || true
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
  kubectl --namespace "$1" get pods --selector "app.kubernetes.io/instance=$2" --output json 2>/dev/null |
    jq --raw-output '.items[].metadata | select(.deletionTimestamp) | "\(.name) is on its way out"' || true
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

# Finds the service, and reads its settings: service, address, scaled, deployment, settings, endpoint.
read_service() {
  service=$(first_named "$namespace" services "$release" '')
  [[ $service ]] || service=$(first_named "$namespace" spinapps.core.spinkube.dev "$release" '')
  [[ $service ]] || stop 2 "there is no service of the release $release in the namespace $namespace" \
    "install it: helm install $release infra/helm/hand-gesture-api --namespace $namespace … (or --namespace, --release)"
  wait_for_new_pods
  address=http://$service:$(port_of "$service")
  # Without a pod nobody answers there. KEDA's interceptor starts one, and knows requests by their host.
  scaled=$(get "$namespace" httpscaledobject "$service" | jq --raw-output '.spec.hosts[0] // empty')
  [[ ! $scaled ]] || address=http://$service-interceptor:$(port_of "$service-interceptor")
  deployment=$(get "$namespace" deployment "$service")
  # An object of settings by name, each with a value or where it comes from.
  settings=$(get "$namespace" spinapp "$service" |
    jq '[.spec.variables[]? | {key: .name, value: .}] | from_entries')
  [[ $settings != '{}' ]] || settings=$(jq '
    [.spec.template.spec.containers[0].env[]? | select(.name | startswith("SPIN_VARIABLE_"))
      | {key: (.name | ltrimstr("SPIN_VARIABLE_") | ascii_downcase), value: .}] | from_entries' <<<"$deployment")
  endpoint=$(setting otel_exporter_otlp_traces_endpoint)
  if [[ ! $endpoint ]]; then
    endpoint=$(setting otel_exporter_otlp_endpoint)
    endpoint=${endpoint:-http://$(setting jaeger_collector_host):4318}
    endpoint=${endpoint%/}/v1/traces
  fi
}
port_of() { get "$namespace" service "$1" | jq --raw-output '.spec.ports[0].port // empty'; }
setting() { jq --raw-output --arg name "$1" '.[$name].value // ""' <<<"$settings"; }

# Finds Jaeger's parts, and reads who writes where: collector, writer, stored, url, prefix.
read_jaeger() {
  collector=$(first_named "$jaeger_namespace" services "$jaeger_release" collector)
  collector=${collector:-$jaeger_release-collector}
  # The role that writes to the storage: the ingester if there is one, else the collector.
  role=ingester
  [[ $(first_named "$jaeger_namespace" deployments "$jaeger_release" ingester) ]] || role=collector
  writer=$(first_named "$jaeger_namespace" deployments "$jaeger_release" "$role")
  stored=$(backend "$(config "$writer")")
  url=$(backend_url "$stored")
  prefix=$(backend_prefix "$stored")
}
config() { # CONFIGMAP: Jaeger's configuration in it
  get "$jaeger_namespace" configmap "$1" | jq --raw-output '.data["config.yaml"] // empty'
}
# Likewise who reads where: query, reader, path, read_url, read_prefix.
read_query() {
  local configuration read_from
  query=$(first_named "$jaeger_namespace" services "$jaeger_release" query)
  reader=$(first_named "$jaeger_namespace" deployments "$jaeger_release" query)
  configuration=$(config "${reader:-$writer}")
  read_from=$(backend "$configuration")
  read_url=$(backend_url "$read_from")
  read_prefix=$(backend_prefix "$read_from")
  path=$(sed -n 's/.*base_path: "\(.*\)"/\1/p' <<<"$configuration" | head -n 1)
}

# --- Hops 2 to 6: one request that must be traced, and one span sent as the service sends it ---

# Sends both from a pod beside the service. Its output has three parts, each ended by curl's exit code:
# health=, request= and span=.
ask_beside_the_service() {
  local env='[]' now again host='' longest=10
  # Kubernetes expands $(HOST_IP) and the like by the service's own environment.
  [[ $endpoint != *\$\(* ]] || env=$(jq '.spec.template.spec.containers[0].env' <<<"$deployment")
  now=$(date +%s)
  env=$(jq --compact-output --argjson own "$env" --arg header "$header" --arg endpoint "$endpoint" \
    --arg trace "$direct" --arg now "$now" '
    {resourceSpans: [{
      resource: {attributes: [{key: "service.name", value: {stringValue: "doctor"}}]},
      scopeSpans: [{spans: [{
        traceId: $trace, spanId: $trace[:16], name: "doctor", kind: 1,
        startTimeUnixNano: ($now + "000000000"), endTimeUnixNano: ($now + "001000000")}]}]}]} as $span
    | $own
      + [.otel_exporter_otlp_headers // empty | select(.valueFrom) | .name = "OTLP_HEADERS"]
      + [{name: "HEADER", value: $header}, {name: "ENDPOINT", value: $endpoint},
         {name: "SPAN", value: ($span | tojson)}]' <<<"$settings")
  # Endpoints follow the pods after a second or two, so a refused connection is retried.
  again='--retry 4 --retry-delay 1 --retry-max-time 5 --retry-all-errors'
  [[ ! $scaled ]] || host="--header 'Host: $scaled'" longest=60
  asked=$SECONDS
  seen=$(probe "$namespace" "
$(asking '')
curl $again --silent --max-time $longest $host --header \"\$HEADER\" $address/health; echo \" health=\$?\"
curl --silent --max-time 10 $host --header \"\$HEADER\" --header 'traceparent: 00-$trace-${trace:0:16}-01' --output /dev/null $address/; echo \"request=\$?\"
{ IFS=,; for pair in \${OTLP_HEADERS:-}; do printf 'header = \"%s: %s\"\n' \"\${pair%%=*}\" \"\$(quoted \"\${pair#*=}\" | sed 's/%20/ /g')\"; done; } |
curl $again --config - --insecure --silent --show-error --max-time 10 --header 'Content-Type: application/json' --data \"\$SPAN\" --write-out ' status=%{http_code}' \"\$ENDPOINT\" 2>&1; echo \" span=\$?\"
" "$env")
  sent=$(grep ' span=' <<<"$seen" || true)
  error=$(grep -m 1 '^curl: ' <<<"$seen" || true)
}

hop_2_the_service_answers() {
  local pods
  health=$(sed -n 's/ health=.*//p' <<<"$seen")
  pods=$(kubectl --namespace "$namespace" get pods --selector "app.kubernetes.io/instance=$release" --no-headers 2>&1)
  grep -q ' health=0$' <<<"$seen" || stop 2 "the service $service in $namespace does not answer; its pods: $pods" \
    "kubectl --namespace $namespace describe pods; kubectl --namespace $namespace logs deployment/$service"
  [[ ! $scaled || $health == '{'* ]] || stop 2 "KEDA's interceptor answers requests for $scaled by itself: ${seen%%[[:space:]]health=*}" \
    "kubectl --namespace $namespace describe httpscaledobject,pods; its log: kubectl --all-namespaces logs --selector app.kubernetes.io/instance=interceptor"
  ok "2  the service answers: $health"
}

hop_3_tracing_is_on() {
  [[ $(jq --raw-output .tracing <<<"$health" 2>/dev/null) == enabled ]] || stop 3 \
    "tracing is off: enable_tracing='$(setting enable_tracing)', otel_sdk_disabled='$(setting otel_sdk_disabled)', endpoint=$endpoint" \
    "helm upgrade $release infra/helm/hand-gesture-api --namespace $namespace --reuse-values --set settings.enableTracing=true --set settings.otelSdkDisabled= (and settings.jaegerCollectorHost, if it is empty)"
  [[ $(setting otel_traces_sampler) != always_off ]] || stop 3 'tracing is on, but otel_traces_sampler=always_off records nothing' \
    "helm upgrade … --reuse-values --set settings.otelTracesSampler=parentbased_always_on"
  ok "3  tracing is on"
}

hop_4_the_name_resolves() {
  local host
  host=${endpoint#*://} host=${host%%/*}
  [[ $host == *']' ]] || host=${host%:*}
  # curl's exit code 6: unknown host.
  [[ $sent != *' span=6' ]] || stop 4 "the collector's name $host is unknown in the namespace $namespace: $error" \
    "set settings.jaegerCollectorHost to $collector.$jaeger_namespace.svc.cluster.local (kubectl --namespace $jaeger_namespace get services)"
  ok "4  the collector's name resolves: $host"
}

hop_5_the_port_answers() {
  local replicas policy
  if [[ $sent != *' span=0' ]]; then
    replicas=$(get "$jaeger_namespace" deployment "$collector" | jq --raw-output \
      'select(.spec) | "\(.spec.replicas) wanted, ready: \(.status.readyReplicas // "")"')
    # A collector does not start if its storage is down or rejects it: that is then the cause.
    [[ $replicas == 0* || ! $writer ]] || hops_7_and_8_the_storage_works likely
    policy=$(first_named "$jaeger_namespace" networkpolicies "$jaeger_release" collector)
    [[ ! $policy || $replicas != *': '[1-9]* ]] ||
      stop 5 "the collector is ready, but does not answer at $endpoint: $error; the network policy $policy restricts its peers" \
        "networkPolicy.collectorFrom of the chart jaeger has to admit the namespace $namespace as a whole, or this probe's label as well: app.kubernetes.io/name=probe"
    stop 5 "nobody answers at $endpoint: $error; the collector's pods: ${replicas:-no such deployment}" \
      "kubectl --namespace $jaeger_namespace scale deployment $collector --replicas 1; a network policy may stand between the namespaces, too"
  fi
  ok "5  the collector's port answers"
}

hop_6_the_collector_takes_spans() {
  [[ $sent == *' status=200 '* ]] || stop 6 "the collector at $endpoint refuses spans: ${sent% span=*}" \
    'status 401: the login in otlpHeadersSecret; 404: the path; 400: is it http where https is asked for?; 503: its memory is full'
  ok "6  the collector takes spans (200)"
}

# --- Hops 7 and 8: requests to the storage as Jaeger sends them ---

# Reads the login and the answers: secret, answer, state, indices. While spans may still arrive (`certain`),
# only faults that are beyond doubt end the doctor: a late answer or one for a user without all rights proves
# nothing.
hops_7_and_8_the_storage_works() { # certain|likely
  # Requests that are signed for AWS cannot be made here.
  [[ $url && $stored != *sigv4auth* ]] || return 0
  secret=$(secret_in storage-password)$(secret_in storage-api-key)
  answer=$(ask_storage "$jaeger_namespace" "$stored" "$secret" "$(secret_in storage-ca)" \
    /_cluster/health '/_cat/indices/*jaeger-span*?h=index,health,docs.count&format=json')
  hop_7_the_storage_takes_the_login "$1"
  hop_8_the_storage_is_healthy "$1"
  [[ $1 == likely ]] || return 0
  indices=$(body 2 | jq --raw-output '.[] | "\(.index) \(.health) \(.["docs.count"])"' 2>/dev/null || true)
  ok "7  the storage $url takes the login"
  ok "8  the storage is healthy: \"status\":\"$state\", indices: $(awk '{printf "%s ", $1}' <<<"$indices")"
}
secret_in() { # VOLUME of the writer's pod
  get "$jaeger_namespace" deployment "$writer" | jq --raw-output --arg name "$1" \
    '.spec.template.spec.volumes[]? | select(.name == $name) | .secret.secretName // empty'
}
body() { sed -n "$1s/ status=.*//p" <<<"$answer"; } # NUMBER of the answer

hop_7_the_storage_takes_the_login() { # certain|likely
  local user key
  user=$(backend_user "$stored") key=$(backend_key "$stored")
  case $1$answer in
    *status=401* | likely*status=403*) stop 7 "the storage $url refuses the login${user:+ of user $user} (secret $secret): $(head -n 1 <<<"$answer" | cut -c1-200)" \
      "put the right password into the secret; Jaeger reads it again within a minute: kubectl --namespace $jaeger_namespace create secret generic $secret --from-literal=$key=… --dry-run=client -o yaml | kubectl apply -f -" ;;
  esac
}

hop_8_the_storage_is_healthy() { # certain|likely
  case $1$answer in
    # curl's exit codes 6: unknown host; 7: connection refused.
    *' curl=6;'* | *' curl=7;'* | likely*status=000*) stop 8 "the storage $url does not answer: $(head -n 1 <<<"$answer"). Jaeger's log: $(last_complaint)" \
      'start it, or correct storage.elasticsearch; spans wait in the collector as long as its queue has room' ;;
    certain*) return 0 ;;
  esac
  state=$(body 1 | jq --raw-output '.status // empty' 2>/dev/null || true)
  [[ $state != red ]] || stop 8 "the storage $url is not healthy: $(head -n 1 <<<"$answer" | cut -c1-300)" \
    'look at its nodes and disks: GET /_cluster/allocation/explain'
  [[ $answer != *status=[45]* ]] || stop 8 "the storage $url answers with an error: $(grep -m 1 'status=[45]' <<<"$answer" | cut -c1-300)" \
    "look at the storage's own log"
}
last_complaint() { # the writer's last error or warning
  kubectl --namespace "$jaeger_namespace" logs "deployment/$writer" --tail 200 2>/dev/null |
    grep -E $'\t(error|warn)\t' | tail -n 1 | cut -c1-300 || true
}

# --- Hops 9 and 10: both traces, through query ---

look_for_traces() { # SECONDS: exits if the service's trace arrives or query requires credentials
  local login='[]'
  [[ ! $client ]] || login="[$(from_secret NAME "$client" username), $(from_secret PASSWORD "$client" password)]"
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
direct_arrived() { grep -q '^direct: .*spanId' <<<"$found"; }

hop_9_query_answers() { # PATTERN of an answer that is none
  # shellcheck disable=SC2053 # A pattern is meant.
  [[ $found != $1 ]] || stop 9 "query does not answer at $query:16686" \
    "kubectl --namespace $jaeger_namespace get pods; kubectl --namespace $jaeger_namespace logs deployment/${reader:-$writer}"
}

hop_9_query_reads_where_jaeger_writes() { # OF-QUERY OF-JAEGER
  [[ $1 == "$2" ]] ||
    stop 9 "query reads elsewhere: $role writes to $url with the prefix '$prefix', query reads $read_url with '$read_prefix'. Indices there: ${indices:-none}" \
      "helm upgrade $jaeger_release infra/helm/jaeger --namespace $jaeger_namespace --reuse-values --force-conflicts writes both configurations anew (Helm 3 knows no --force-conflicts and needs none); then kubectl --namespace $jaeger_namespace rollout restart deployment/$reader"
}

hop_10_only_others_arrive() { # LOG of the service
  stop 10 "spans of others arrive, those of $service don't. Its log: ${1:-no warning about traces}. Sampler: '$(setting otel_traces_sampler)' $(setting otel_traces_sampler_arg); allowed: $(setting collector_allowed_host)" \
    'settings.collectorAllowedHost must be scheme://host:port of the endpoint; settings.otelTracesSampler decides what is recorded'
}
last_warning() { # [OPTIONS] of kubectl logs: the service's last line about traces
  kubectl --namespace "$namespace" logs --selector "app.kubernetes.io/instance=$release" --tail 200 "$@" 2>/dev/null |
    grep 'warning: traces' | tail -n 1 || true
}

# Elasticsearch shows a span about a second after it was written. A trace that is missing after four seconds
# may still be on its way; only faults that are beyond doubt end the doctor here.
search_briefly() {
  local log
  look_for_traces 4
  hop_9_query_answers '* curl=7;*'
  if direct_arrived; then
    log=$(last_warning --since "$((SECONDS - asked + 1))s")
    [[ $log != *'the host does not allow requests'* ]] || hop_10_only_others_arrive "$log"
  else
    hops_7_and_8_the_storage_works certain
  fi
  if [[ $read_prefix != "$prefix" ]]; then
    hops_7_and_8_the_storage_works likely
    hop_9_query_reads_where_jaeger_writes "$read_prefix" "$prefix"
  fi
}

# No fault is beyond doubt: the storage may be slow.
search_at_length() {
  look_for_traces 20
  hop_9_query_answers '*status=000*'
  ! direct_arrived || hop_10_only_others_arrive "$(last_warning)"
  hops_7_and_8_the_storage_works likely
  hop_9_query_reads_where_jaeger_writes "$read_url" "$url"
  stop 7 "the collector takes spans, but they don't reach query. Its log: $(kubectl --namespace "$jaeger_namespace" logs "deployment/$writer" --tail 50 2>/dev/null | grep -iE 'error|warn' | tail -n 1 | cut -c1-300)" \
    "kubectl --namespace $jaeger_namespace logs deployment/$writer"
}

# --- The examination ---

check_cluster
check_right "$namespace" create pods
check_right "$jaeger_namespace" create pods
read_service
read_jaeger
read_query
read_frame "$jaeger_namespace" "$jaeger_release" jaeger
read_frame "$namespace" "$release" hand-gesture-api --set image.repository=none
new_id() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
trace=$(new_id) # of a request to the service
direct=$(new_id) # of a span that the doctor sends itself

ask_beside_the_service
hop_2_the_service_answers
hop_3_tracing_is_on
hop_4_the_name_resolves
hop_5_the_port_answers
hop_6_the_collector_takes_spans
search_briefly
search_at_length
