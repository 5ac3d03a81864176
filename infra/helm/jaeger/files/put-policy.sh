# Puts the lifecycle policy POLICY at POLICY_URL, in a hook before rollover-init.
# Environment: ES_USERNAME and ES_PASSWORD if the storage requires authentication; ES_TLS_CA or
# ES_TLS_SKIP_HOST_VERIFY for https.
set -eu

# Prints text as curl's configuration takes it between double quotes.
quoted() { printf %s "$1" | sed 's/[\\"]/\\&/g'; }

answer=$(if [ -n "${ES_USERNAME:-}" ]; then
  printf 'user = "%s:%s"\n' "$(quoted "$ES_USERNAME")" "$(quoted "$ES_PASSWORD")"
fi | curl --config - --silent --show-error --write-out ' status=%{http_code}' \
  ${ES_TLS_CA:+--cacert "$ES_TLS_CA"} ${ES_TLS_SKIP_HOST_VERIFY:+--insecure} \
  --request PUT --header 'Content-Type: application/json' --data "$POLICY" "$POLICY_URL")
echo "$answer"
# OpenSearch answers 409 if the policy exists.
case $answer in
  *' status=2'?? | *' status=409') ;;
  *) exit 1 ;;
esac
