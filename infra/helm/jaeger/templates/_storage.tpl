{{/* Storage: address, credentials and Jaeger's configuration of it. */}}

{{/* Name of the Elasticsearch that ECK provisions. ECK appends to it, and takes 36 characters. */}}
{{- define "jaeger.provisionedName" -}}
{{ include "jaeger.name" (dict "root" . "role" "storage" "limit" 36) }}
{{- end -}}

{{/* Text of the user in Jaeger's configuration, which replaces ${…} and $$. */}}
{{- define "jaeger.text" -}}
{{ toString . | replace "$" "$$" | quote }}
{{- end -}}

{{/* Elasticsearch or OpenSearch, as given or as provisioned by ECK, as YAML. */}}
{{- define "jaeger.elasticsearch" -}}
{{- $given := .Values.storage.elasticsearch -}}
{{- $prefix := eq $given.indexPrefix "jaeger" | ternary "" $given.indexPrefix -}}
{{- if .Values.provisionDataStore.elasticsearch -}}
{{- $name := include "jaeger.provisionedName" . -}}
url: https://{{ $name }}-es-http:9200
port: 9200
user: elastic
secret: {{ $name }}-es-elastic-user
key: elastic
apiKey: {secret: "", key: ""}
tls: {secret: {{ $name }}-es-http-certs-public, key: ca.crt, insecure: false}
{{- else -}}
url: {{ printf "%s://%s:%d%s" $given.scheme $given.host (int $given.port) (trimSuffix "/" $given.path) | quote }}
port: {{ $given.port }}
user: {{ $given.user | quote }}
secret: {{ $given.existingSecret | quote }}
key: {{ $given.existingSecretKey | quote }}
apiKey: {secret: {{ $given.apiKey.existingSecret | quote }}, key: {{ $given.apiKey.key | quote }}}
tls: {secret: {{ $given.tls.existingSecret | quote }}, key: {{ $given.tls.key | quote }}, insecure: {{ $given.tls.insecureSkipVerify }}}
{{- end }}
# Jaeger inserts its own "jaeger-" between the prefix and an index's name.
prefix: {{ $prefix | quote }}
{{- end -}}

{{/* True if the storage has indices. */}}
{{- define "jaeger.hasIndices" -}}
{{- if has .Values.storage.type (list "elasticsearch" "opensearch") }}true{{ end -}}
{{- end -}}

{{/* Backend of the extension jaeger_storage. */}}
{{- define "jaeger.backend" -}}
{{- $storage := .Values.storage -}}
{{- if eq $storage.type "memory" -}}
memory:
  max_traces: {{ $storage.memory.maxTraces | int64 }}
{{- else if eq $storage.type "badger" -}}
badger:
  directories: {keys: /var/lib/jaeger/keys, values: /var/lib/jaeger/values}
  ephemeral: false
  ttl: {spans: {{ $storage.badger.ttl }}}
{{- else if eq $storage.type "cassandra" -}}
{{- $cassandra := $storage.cassandra -}}
cassandra:
  schema:
    create: {{ $cassandra.createSchema }}
    keyspace: {{ include "jaeger.text" $cassandra.keyspace }}
    datacenter: {{ include "jaeger.text" $cassandra.datacenter }}
    replication_factor: {{ $cassandra.replicationFactor }}
    trace_ttl: {{ $cassandra.ttl }}
    dependencies_ttl: {{ $cassandra.ttl }}
    compaction_window: 4h
  connection:
    # Jaeger rejects a host name without a dot.
    servers: [{{ regexMatch "[.:]" $cassandra.host | ternary $cassandra.host (printf "%s.%s.svc" $cassandra.host .Release.Namespace) | quote }}]
    port: {{ $cassandra.port }}
    local_dc: {{ include "jaeger.text" $cassandra.datacenter }}
    # A loaded Cassandra needs long to create the tables.
    timeout: 30s
    {{- if $cassandra.existingSecret }}
    auth:
      basic:
        username: {{ include "jaeger.text" $cassandra.user }}
        password: ${env:CASSANDRA_PASSWORD}
    {{- end }}
    tls:
      {{- if and $cassandra.tls.enabled $cassandra.tls.existingSecret }}
      ca_file: {{ printf "/etc/jaeger/storage-ca/%s" $cassandra.tls.key | quote }}
      {{- else }}
      insecure: {{ not $cassandra.tls.enabled }}
      {{- end }}
  query:
    consistency: LOCAL_ONE
{{- else -}}
{{- $elasticsearch := include "jaeger.elasticsearch" . | fromYaml -}}
{{ $storage.type }}:
  server_urls: [{{ $elasticsearch.url | quote }}]
  {{- if $elasticsearch.secret }}
  auth:
    basic:
      username: {{ include "jaeger.text" $elasticsearch.user }}
      password_file: {{ printf "/etc/jaeger/storage-password/%s" $elasticsearch.key | quote }}
      reload_interval: {{ $storage.elasticsearch.passwordReloadInterval }}
  {{- else if $elasticsearch.apiKey.secret }}
  auth:
    api_key:
      file_path: {{ printf "/etc/jaeger/storage-api-key/%s" $elasticsearch.apiKey.key | quote }}
      reload_interval: {{ $storage.elasticsearch.passwordReloadInterval }}
  {{- else if $storage.elasticsearch.aws.region }}
  auth: {authenticator: sigv4auth}
  {{- end }}
  {{- if or $elasticsearch.tls.secret $elasticsearch.tls.insecure }}
  tls:
    {{- if $elasticsearch.tls.insecure }}
    insecure_skip_verify: true
    {{- else }}
    ca_file: {{ printf "/etc/jaeger/storage-ca/%s" $elasticsearch.tls.key | quote }}
    {{- end }}
  {{- end }}
  {{- if .Values.rollover.enabled }}
  # es-rollover creates the templates and the aliases.
  create_mappings: false
  {{- if eq (include "jaeger.form" .) "2.13" }}
  use_aliases: true
  {{- end }}
  {{- end }}
  {{- if include "jaeger.syncWrites" . }}
  # Each batch is one request, whose errors the exporter retries. A span that the storage refuses for good
  # is dropped, since it would be retried for ever.
  write_mode: sync
  poison_pill_handling: drop
  bulk_processing: {max_bytes: 5000000}
  {{- end }}
  indices:
    index_prefix: {{ $elasticsearch.prefix | quote }}
    {{- range $index := list "spans" "services" "dependencies" "sampling" }}
    {{ $index }}:
      shards: {{ $storage.elasticsearch.shards }}
      replicas: {{ $storage.elasticsearch.replicas }}
      {{- if and $.Values.rollover.enabled (ne (include "jaeger.form" $) "2.13") }}
      rotation: {manual_rollover: {}}
      {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* Secrets mounted by a role's pod: a list of {name, secret, only: one key} as YAML. Takes root and role. */}}
{{- define "jaeger.mountedSecrets" -}}
{{- $values := .root.Values -}}
{{- $store := has .role (list "collector" "query" "ingester") -}}
{{- if and (eq .role "collector") $values.ingester.enabled }}{{ $store = false }}{{ end -}}
{{- if and $store (include "jaeger.hasIndices" .root) }}
{{- $elasticsearch := include "jaeger.elasticsearch" .root | fromYaml }}
{{- with $elasticsearch.secret }}
- {name: storage-password, secret: {{ . | quote }}}
{{- end }}
{{- with $elasticsearch.apiKey.secret }}
- {name: storage-api-key, secret: {{ . | quote }}}
{{- end }}
{{- with $elasticsearch.tls.secret }}
- {name: storage-ca, secret: {{ . | quote }}}
{{- end }}
{{- end }}
{{- with $values.storage.cassandra.tls }}
{{- if and $store (eq $values.storage.type "cassandra") .enabled .existingSecret }}
- {name: storage-ca, secret: {{ .existingSecret | quote }}}
{{- end }}
{{- end }}
{{- with $values.storage.kafka.tls }}
{{- if and $values.ingester.enabled (has $.role (list "collector" "ingester")) .enabled .existingSecret }}
- {name: kafka-ca, secret: {{ .existingSecret | quote }}}
{{- end }}
{{- end }}
{{- if eq .role "collector" }}
{{- with $values.collector.otlp.tls.existingSecret }}
- {name: otlp-tls, secret: {{ . | quote }}}
{{- end }}
{{- with $values.collector.otlp.auth.htpasswdSecret }}
- {name: otlp-logins, secret: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if eq .role "agent" }}
{{- with $values.collector.otlp.tls.existingSecret }}
- {name: otlp-tls, secret: {{ . | quote }}, only: ca.crt}
{{- end }}
{{- end }}
{{- if eq .role (include "jaeger.queryRole" .root) }}
{{- with $values.query.auth.htpasswdSecret }}
- {name: query-logins, secret: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Environment variables from secrets, for credentials that Jaeger cannot read from a file. Takes root
     and role. */}}
{{- define "jaeger.secretVariables" -}}
{{- $values := .root.Values -}}
{{- $cassandra := $values.storage.cassandra -}}
{{- $kafka := $values.storage.kafka -}}
{{- $store := has .role (list "collector" "query" "ingester") -}}
{{- if and (eq .role "collector") $values.ingester.enabled }}{{ $store = false }}{{ end -}}
{{- if and $store (eq $values.storage.type "cassandra") $cassandra.existingSecret }}
{{ include "jaeger.secretVariable" (dict "name" "CASSANDRA_PASSWORD" "secret" $cassandra.existingSecret "key" $cassandra.existingSecretKey) }}
{{- end }}
{{- if and $values.ingester.enabled $kafka.existingSecret (has .role (list "collector" "ingester")) }}
{{ include "jaeger.secretVariable" (dict "name" "KAFKA_PASSWORD" "secret" $kafka.existingSecret "key" $kafka.existingSecretKey) }}
{{- end }}
{{- if and (eq .role "agent") $values.collector.otlp.auth.clientSecret }}
{{ include "jaeger.secretVariable" (dict "name" "COLLECTOR_USER" "secret" $values.collector.otlp.auth.clientSecret "key" "username") }}
{{ include "jaeger.secretVariable" (dict "name" "COLLECTOR_PASSWORD" "secret" $values.collector.otlp.auth.clientSecret "key" "password") }}
{{- end }}
{{- if eq .role "collector" }}
{{- range $destination := $values.destinations }}
{{- range $header := $destination.headers }}
{{ include "jaeger.secretVariable" (dict "name" (include "jaeger.headerVariable" (dict "name" $destination.name "header" $header)) "secret" $destination.headersSecret "key" $header) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Name of the environment variable with a destination's header. Takes name and header. */}}
{{- define "jaeger.headerVariable" -}}
DESTINATION_{{ printf "%s_%s" .name .header | upper | replace "-" "_" }}
{{- end -}}

{{/* Port of a URL. */}}
{{- define "jaeger.urlPort" -}}
{{- $port := regexFind ":[0-9]+(/|$)" . | trimPrefix ":" | trimSuffix "/" -}}
{{ $port | default (hasPrefix "https" . | ternary "443" "80") }}
{{- end -}}

{{/* Egress rules for the ports that a role's pods must reach. Takes root and role. */}}
{{- define "jaeger.storageEgress" -}}
{{- $values := .root.Values -}}
{{- $ports := list -}}
{{- $kafka := and $values.ingester.enabled (has .role (list "collector" "ingester")) -}}
{{- if $kafka }}
{{- $brokers := kindIs "string" $values.storage.kafka.brokers | ternary (toString $values.storage.kafka.brokers | splitList ",") $values.storage.kafka.brokers -}}
{{- range $brokers }}{{ $ports = append $ports (splitList ":" . | last | int) }}{{ end -}}
{{- end -}}
{{- if not (and $kafka (eq .role "collector")) -}}
{{- if include "jaeger.hasIndices" .root -}}
{{- $elasticsearch := include "jaeger.elasticsearch" .root | fromYaml -}}
{{- $ports = append $ports (int $elasticsearch.port) -}}
{{- else if eq $values.storage.type "cassandra" -}}
{{- $ports = append $ports (int $values.storage.cassandra.port) -}}
{{- end -}}
{{- end -}}
{{- if and $values.spanMetrics.enabled (eq .role (include "jaeger.queryRole" .root)) -}}
{{- $ports = append $ports (include "jaeger.urlPort" $values.spanMetrics.prometheusUrl | int) -}}
{{- end -}}
{{- if eq .role "collector" -}}
{{- range $values.destinations -}}
{{- $ports = append $ports (include "jaeger.urlPort" .endpoint | int) -}}
{{- end -}}
{{- end -}}
{{- range uniq $ports }}
- ports: [{port: {{ . }}}]
{{- end }}
{{- end -}}
