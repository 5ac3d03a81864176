{{/* Configuration of Jaeger, by role. */}}

{{- define "jaeger.telemetry" -}}
telemetry:
  resource:
    service.name: {{ . }}
  metrics:
    level: normal
    readers:
      - pull:
          exporter:
            prometheus: {host: 0.0.0.0, port: 8888}
{{- end -}}

{{- define "jaeger.health" -}}
healthcheckv2:
  use_v2: true
  http: {endpoint: "0.0.0.0:13133"}
{{- end -}}

{{- define "jaeger.storageExtension" -}}
jaeger_storage:
  backends:
    traces:
      {{- include "jaeger.backend" . | nindent 6 }}
{{- end -}}

{{/* Exporter to the storage, with its queue and retries. Takes the queue's size. */}}
{{- define "jaeger.storageExporter" -}}
jaeger_storage_exporter:
  trace_storage: traces
  # num_consumers: the default of OpenTelemetry's exporters.
  queue: {enabled: true, num_consumers: 10, queue_size: {{ . | int64 }}, sizer: requests}
  retry_on_failure: {enabled: true, max_elapsed_time: 300s}
{{- end -}}

{{- define "jaeger.processors" -}}
memory_limiter: {check_interval: 1s, limit_percentage: 80, spike_limit_percentage: 20}
batch: {timeout: 1s, send_batch_size: 512, send_batch_max_size: 1024}
{{- end -}}

{{- define "jaeger.queryExtension" -}}
{{- $values := .Values -}}
{{- if $values.query.auth.htpasswdSecret -}}
basicauth/query:
  htpasswd: {file: /etc/jaeger/query-logins/htpasswd}
{{ end -}}
jaeger_query:
  storage: {traces: traces}
  {{- with $values.query.basePath }}
  base_path: {{ . }}
  {{- end }}
  # Query would send its own traces to a collector on its own address.
  enable_tracing: false
  http:
    endpoint: "0.0.0.0:16686"
    {{- if $values.query.auth.htpasswdSecret }}
    auth: {authenticator: basicauth/query}
    {{- end }}
  grpc:
    endpoint: "0.0.0.0:16685"
    {{- if $values.query.auth.htpasswdSecret }}
    auth: {authenticator: basicauth/query}
    {{- end }}
{{- end -}}

{{/* Placeholder storage: remote_sampling requires the extension jaeger_storage even if it reads a file. */}}
{{- define "jaeger.noStorageExtension" -}}
jaeger_storage:
  backends:
    unused: {memory: {max_traces: 1}}
{{- end -}}

{{- define "jaeger.samplingExtension" -}}
remote_sampling:
  file:
    path: /etc/jaeger/sampling/strategies.json
    reload_interval: 30s
    default_sampling_probability: {{ .Values.sampling.defaultProbability }}
  http: {endpoint: "0.0.0.0:5778"}
  grpc: {endpoint: "0.0.0.0:5779"}
{{- end -}}

{{/* TLS and authentication of one OTLP protocol, beside its endpoint. */}}
{{- define "jaeger.otlpProtection" -}}
{{- if .Values.collector.otlp.tls.existingSecret }}
tls:
  cert_file: /etc/jaeger/otlp-tls/tls.crt
  key_file: /etc/jaeger/otlp-tls/tls.key
  min_version: "1.2"
  reload_interval: 1m
{{- end }}
{{- if .Values.collector.otlp.auth.htpasswdSecret }}
auth: {authenticator: basicauth/otlp}
{{- end }}
{{- end -}}

{{/* True if the receivers of older clients are open. */}}
{{- define "jaeger.legacyReceivers" -}}
{{- $collector := .Values.collector -}}
{{- if and $collector.legacyReceivers (not $collector.otlp.tls.existingSecret) (not $collector.otlp.auth.htpasswdSecret) }}true{{ end -}}
{{- end -}}

{{/* Connection to Kafka, shared by receiver and exporter. */}}
{{- define "jaeger.kafkaConnection" -}}
{{- $kafka := .Values.storage.kafka -}}
{{- $brokers := kindIs "string" $kafka.brokers | ternary (toString $kafka.brokers | splitList ",") $kafka.brokers -}}
brokers: {{ toJson $brokers }}
{{- if $kafka.existingSecret }}
auth:
  sasl:
    mechanism: {{ $kafka.mechanism }}
    username: {{ $kafka.user }}
    password: ${env:KAFKA_PASSWORD}
{{- end }}
{{- if $kafka.tls.enabled }}
tls:
  ca_file: /etc/jaeger/kafka-ca/{{ $kafka.tls.key }}
{{- end }}
{{- end -}}

{{- define "jaeger.config.collector" -}}
{{- $values := .Values -}}
{{- $oneProcess := eq (include "jaeger.queryRole" .) "collector" -}}
{{- $legacy := include "jaeger.legacyReceivers" . -}}
{{- $extensions := list "healthcheckv2" "remote_sampling" "jaeger_storage" -}}
{{- $exporters := list -}}
{{- if $values.ingester.enabled -}}
{{- $exporters = append $exporters "kafka" -}}
{{- else -}}
{{- $exporters = append $exporters "jaeger_storage_exporter" -}}
{{- end -}}
{{- if $oneProcess -}}
{{- $extensions = append $extensions "jaeger_query" -}}
{{- if $values.query.auth.htpasswdSecret }}{{ $extensions = append $extensions "basicauth/query" }}{{ end -}}
{{- end -}}
{{- if $values.collector.otlp.auth.htpasswdSecret }}{{ $extensions = append $extensions "basicauth/otlp" }}{{ end -}}
{{- range $values.destinations }}{{ $exporters = append $exporters (printf "otlphttp/%s" .name) }}{{ end -}}
service:
  extensions: {{ toJson $extensions }}
  pipelines:
    traces:
      receivers: {{ toJson (empty $legacy | ternary (list "otlp") (list "otlp" "jaeger" "zipkin")) }}
      processors: [memory_limiter, batch]
      exporters: {{ toJson $exporters }}
  {{- include "jaeger.telemetry" "jaeger-collector" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.samplingExtension" . | nindent 2 }}
  {{- include (printf "jaeger.%s" (ternary "noStorageExtension" "storageExtension" $values.ingester.enabled)) . | nindent 2 }}
  {{- if $oneProcess }}
  {{- include "jaeger.queryExtension" . | nindent 2 }}
  {{- end }}
  {{- if $values.collector.otlp.auth.htpasswdSecret }}
  basicauth/otlp:
    htpasswd: {file: /etc/jaeger/otlp-logins/htpasswd}
  {{- end }}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: "0.0.0.0:4317"
        {{- with include "jaeger.otlpProtection" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      http:
        endpoint: "0.0.0.0:4318"
        {{- with include "jaeger.otlpProtection" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
  {{- if $legacy }}
  jaeger:
    protocols:
      grpc: {endpoint: "0.0.0.0:14250"}
      thrift_http: {endpoint: "0.0.0.0:14268"}
  zipkin: {endpoint: "0.0.0.0:9411"}
  {{- end }}
processors:
  {{- include "jaeger.processors" . | nindent 2 }}
exporters:
  {{- if $values.ingester.enabled }}
  kafka:
    {{- include "jaeger.kafkaConnection" . | nindent 4 }}
    traces: {topic: {{ $values.storage.kafka.topic }}, encoding: otlp_proto}
    partition_traces_by_id: true
    producer: {required_acks: all, compression: zstd}
    sending_queue: {enabled: true, queue_size: {{ $values.collector.queueSize | int64 }}}
    # Short: a collector with wrong credentials does not stop while it retries.
    retry_on_failure: {enabled: true, max_elapsed_time: 60s}
  {{- else }}
  {{- include "jaeger.storageExporter" $values.collector.queueSize | nindent 2 }}
  {{- end }}
  {{- range $destination := $values.destinations }}
  otlphttp/{{ .name }}:
    endpoint: {{ .endpoint | quote }}
    {{- if .insecureSkipVerify }}
    tls: {insecure_skip_verify: true}
    {{- end }}
    {{- if .headers }}
    headers:
      {{- range $header := .headers }}
      {{ $header }}: ${env:{{ include "jaeger.headerVariable" (dict "name" $destination.name "header" $header) }}}
      {{- end }}
    {{- end }}
    # A queue and retries of its own: a destination that is down does not delay the others.
    sending_queue: {enabled: true, queue_size: {{ $values.collector.queueSize | int64 }}}
    retry_on_failure: {enabled: true, max_elapsed_time: 300s}
  {{- end }}
{{- end -}}

{{- define "jaeger.config.query" -}}
service:
  extensions: [healthcheckv2, jaeger_storage, jaeger_query{{ if .Values.query.auth.htpasswdSecret }}, basicauth/query{{ end }}]
  pipelines:
    traces: {receivers: [nop], exporters: [nop]}
  {{- include "jaeger.telemetry" "jaeger-query" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.storageExtension" . | nindent 2 }}
  {{- include "jaeger.queryExtension" . | nindent 2 }}
receivers:
  nop: {}
exporters:
  nop: {}
{{- end -}}

{{- define "jaeger.config.ingester" -}}
service:
  extensions: [healthcheckv2, jaeger_storage]
  pipelines:
    traces:
      receivers: [kafka]
      # No batch: the offset is committed only after its spans are written.
      processors: [memory_limiter]
      exporters: [jaeger_storage_exporter]
  {{- include "jaeger.telemetry" "jaeger-ingester" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.storageExtension" . | nindent 2 }}
receivers:
  kafka:
    {{- include "jaeger.kafkaConnection" . | nindent 4 }}
    {{- if eq (include "jaeger.form" .) "2.13" }}
    traces: {topic: {{ .Values.storage.kafka.topic }}, encoding: otlp_proto}
    {{- else }}
    traces: {topics: [{{ .Values.storage.kafka.topic }}], encoding: otlp_proto}
    {{- end }}
    group_id: {{ .Values.storage.kafka.groupId }}
    initial_offset: earliest
    message_marking: {after: true, on_error: false}
    error_backoff: {enabled: true, max_elapsed_time: 0s}
processors:
  memory_limiter: {check_interval: 1s, limit_percentage: 80, spike_limit_percentage: 20}
exporters:
  # No queue: it would commit a span's offset before the storage has the span.
  jaeger_storage_exporter:
    trace_storage: traces
    queue: {enabled: false}
    retry_on_failure: {enabled: true, max_elapsed_time: 300s}
{{- end -}}

{{- define "jaeger.config.agent" -}}
{{- $otlp := .Values.collector.otlp -}}
service:
  extensions: [healthcheckv2, jaeger_storage, remote_sampling{{ if $otlp.auth.htpasswdSecret }}, basicauth/collector{{ end }}]
  pipelines:
    traces:
      receivers: [otlp, jaeger]
      processors: [memory_limiter, batch]
      exporters: [otlphttp]
  {{- include "jaeger.telemetry" "jaeger-agent" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.noStorageExtension" . | nindent 2 }}
  {{- include "jaeger.samplingExtension" . | nindent 2 }}
  {{- if $otlp.auth.htpasswdSecret }}
  basicauth/collector:
    client_auth: {username: "${env:COLLECTOR_USER}", password: "${env:COLLECTOR_PASSWORD}"}
  {{- end }}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "0.0.0.0:4317"}
      http: {endpoint: "0.0.0.0:4318"}
  jaeger:
    protocols:
      thrift_compact: {endpoint: "0.0.0.0:6831"}
      thrift_binary: {endpoint: "0.0.0.0:6832"}
processors:
  {{- include "jaeger.processors" . | nindent 2 }}
exporters:
  # OTLP/HTTP: the gRPC exporter sends credentials over TLS only, and exits if it has some without TLS.
  otlphttp:
    endpoint: {{ ternary "http" "https" (empty $otlp.tls.existingSecret) }}://{{ include "jaeger.fullname" . }}-collector.{{ .Release.Namespace }}.svc:4318
    {{- if $otlp.tls.existingSecret }}
    tls: {ca_file: /etc/jaeger/otlp-tls/ca.crt}
    {{- end }}
    {{- if $otlp.auth.htpasswdSecret }}
    auth: {authenticator: basicauth/collector}
    {{- end }}
    sending_queue: {enabled: true, queue_size: {{ .Values.agent.queueSize | int64 }}}
    retry_on_failure: {enabled: true, max_elapsed_time: 300s}
{{- end -}}
