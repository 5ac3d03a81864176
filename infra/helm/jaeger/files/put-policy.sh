# Puts the lifecycle policy POLICY into the store at POLICY_URL: the hook before rollover-init.
# ES_USERNAME and ES_PASSWORD if the store asks for a login; ES_TLS_CA or ES_TLS_SKIP_HOST_VERIFY for
# https.
set -eu

answer=$(if [ -n "${ES_USERNAME:-}" ]; then
  printf 'user = "%s:%s"\n' "$ES_USERNAME" "$ES_PASSWORD"
fi | curl --config - --silent --show-error --write-out ' status=%{http_code}' \
  ${ES_TLS_CA:+--cacert "$ES_TLS_CA"} ${ES_TLS_SKIP_HOST_VERIFY:+--insecure} \
  --request PUT --header 'Content-Type: application/json' --data "$POLICY" "$POLICY_URL")
echo "$answer"
# OpenSearch answers 409 when the policy is there already.
case $answer in
  *' status=2'?? | *' status=409') ;;
  *) exit 1 ;;
esac
