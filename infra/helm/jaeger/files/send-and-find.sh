# Sends one span to the collector and reads it back through query. `helm test` runs it.
# Environment: COLLECTOR_URL and QUERY_URL; COLLECTOR_USER, COLLECTOR_PASSWORD, QUERY_USER and
# QUERY_PASSWORD if they require authentication; CA_FILE if a private CA signed the certificate.
set -eu

# Prints text as curl's configuration takes it between double quotes.
quoted() { printf %s "$1" | sed 's/[\\"]/\\&/g'; }

# Runs curl with credentials from standard input, so that no process list shows them.
curl_as() {
  if [ -n "$1" ]; then
    printf 'user = "%s:%s"\n' "$(quoted "$1")" "$(quoted "$2")"
  fi | (shift 2 && exec curl --silent --show-error --max-time 5 --config - "$@")
}

trace=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
now=$(date +%s)
span='{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"helm-test"}}]},
  "scopeSpans":[{"spans":[{"traceId":"'$trace'","spanId":"'$(printf %.16s "$trace")'","name":"helm test","kind":1,
  "startTimeUnixNano":"'$now'000000000","endTimeUnixNano":"'$now'001000000"}]}]}]}'

send() {
  curl_as "${COLLECTOR_USER:-}" "${COLLECTOR_PASSWORD:-}" --fail --output /dev/null \
    ${CA_FILE:+--cacert "$CA_FILE"} --header 'Content-Type: application/json' --data "$span" \
    "$COLLECTOR_URL/v1/traces"
}
is_found() {
  answer=$(curl_as "${QUERY_USER:-}" "${QUERY_PASSWORD:-}" "$QUERY_URL/api/v3/traces/$trace" 2>&1)
  case $answer in *'"helm test"'*) ;; *) return 1 ;; esac
}

tries=0
until send; do
  tries=$((tries + 1))
  if [ $tries -ge 10 ]; then
    echo "The collector does not take spans at $COLLECTOR_URL/v1/traces"
    exit 1
  fi
  sleep 2
done
echo "Sent trace $trace to $COLLECTOR_URL"

tries=0
until is_found; do
  tries=$((tries + 1))
  if [ $tries -ge 30 ]; then
    echo "Query does not find it at $QUERY_URL/api/v3/traces/$trace; its last answer: $answer"
    exit 1
  fi
  sleep 1
  # Right after an upgrade an old pod may have received the span and kept it in its memory.
  [ $((tries % 10)) -ne 0 ] || send || true
done
echo "Found it through $QUERY_URL"
