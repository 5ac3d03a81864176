{{/* Storage: address, credentials and Jaeger's configuration of it. */}}

{{/* Elasticsearch or OpenSearch, as given or as provisioned by ECK, as YAML. */}}
{{- define "jaeger.elasticsearch" -}}
{{- $given := .Values.storage.elasticsearch -}}
{{- $prefix := eq $given.indexPrefix "jaeger" | ternary "" $given.indexPrefix -}}
{{- if .Values.provisionDataStore.elasticsearch -}}
{{- $name := printf "%s-storage" (include "jaeger.fullname" .) -}}
url: https://{{ $name }}-es-http:9200
user: elastic
secret: {{ $name }}-es-elastic-user
key: elastic
tls: {secret: {{ $name }}-es-http-certs-public, key: ca.crt, insecure: false}
{{- else -}}
url: {{ $given.scheme }}://{{ $given.host }}:{{ $given.port }}
user: {{ $given.user | quote }}
secret: {{ $given.existingSecret | quote }}
key: {{ $given.existingSecretKey }}
tls: {secret: {{ $given.tls.existingSecret | quote }}, key: {{ $given.tls.key }}, insecure: {{ $given.tls.insecureSkipVerify }}}
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
    keyspace: {{ $cassandra.keyspace }}
    datacenter: {{ $cassandra.datacenter }}
    replication_factor: {{ $cassandra.replicationFactor }}
    trace_ttl: {{ $cassandra.ttl }}
    dependencies_ttl: {{ $cassandra.ttl }}
    compaction_window: 4h
  connection:
    # Jaeger rejects a host name without a dot.
    servers: [{{ contains "." $cassandra.host | ternary $cassandra.host (printf "%s.%s.svc" $cassandra.host .Release.Namespace) }}]
    port: {{ $cassandra.port }}
    local_dc: {{ $cassandra.datacenter }}
    # A loaded Cassandra needs long to create the tables.
    timeout: 30s
    {{- if $cassandra.existingSecret }}
    auth:
      basic:
        username: {{ $cassandra.user }}
        password: ${env:CASSANDRA_PASSWORD}
    {{- end }}
    tls:
      {{- if $cassandra.tls.enabled }}
      ca_file: /etc/jaeger/storage-ca/{{ $cassandra.tls.key }}
      {{- else }}
      insecure: true
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
      username: {{ $elasticsearch.user }}
      password_file: /etc/jaeger/storage-password/{{ $elasticsearch.key }}
      reload_interval: {{ $storage.elasticsearch.passwordReloadInterval }}
  {{- end }}
  {{- if or $elasticsearch.tls.secret $elasticsearch.tls.insecure }}
  tls:
    {{- if $elasticsearch.tls.insecure }}
    insecure_skip_verify: true
    {{- else }}
    ca_file: /etc/jaeger/storage-ca/{{ $elasticsearch.tls.key }}
    {{- end }}
  {{- end }}
  {{- if .Values.rollover.enabled }}
  # es-rollover creates the templates and the aliases.
  create_mappings: false
  {{- if eq (include "jaeger.form" .) "2.13" }}
  use_aliases: true
  {{- end }}
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
- {name: storage-password, secret: {{ . }}}
{{- end }}
{{- with $elasticsearch.tls.secret }}
- {name: storage-ca, secret: {{ . }}}
{{- end }}
{{- end }}
{{- if and $store (eq $values.storage.type "cassandra") $values.storage.cassandra.tls.enabled }}
- {name: storage-ca, secret: {{ $values.storage.cassandra.tls.existingSecret }}}
{{- end }}
{{- if and $values.ingester.enabled (has .role (list "collector" "ingester")) $values.storage.kafka.tls.enabled }}
- {name: kafka-ca, secret: {{ $values.storage.kafka.tls.existingSecret }}}
{{- end }}
{{- if eq .role "collector" }}
{{- with $values.collector.otlp.tls.existingSecret }}
- {name: otlp-tls, secret: {{ . }}}
{{- end }}
{{- with $values.collector.otlp.auth.htpasswdSecret }}
- {name: otlp-logins, secret: {{ . }}}
{{- end }}
{{- end }}
{{- if eq .role "agent" }}
{{- with $values.collector.otlp.tls.existingSecret }}
- {name: otlp-tls, secret: {{ . }}, only: ca.crt}
{{- end }}
{{- end }}
{{- if eq .role (include "jaeger.queryRole" .root) }}
{{- with $values.query.auth.htpasswdSecret }}
- {name: query-logins, secret: {{ . }}}
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
{{- $ports = append $ports (splitList ":" $elasticsearch.url | last | int) -}}
{{- else if eq $values.storage.type "cassandra" -}}
{{- $ports = append $ports (int $values.storage.cassandra.port) -}}
{{- end -}}
{{- end -}}
{{- if eq .role "collector" -}}
{{- range $values.destinations -}}
{{- $port := regexFind ":[0-9]+(/|$)" .endpoint | trimPrefix ":" | trimSuffix "/" -}}
{{- $ports = append $ports ($port | default (hasPrefix "https" .endpoint | ternary "443" "80") | int) -}}
{{- end -}}
{{- end -}}
{{- range uniq $ports }}
- ports: [{port: {{ . }}}]
{{- end }}
{{- end -}}
