{{/* Configuration of Jaeger, by role. An address without a host, ":4317", is open to IPv4 and IPv6. */}}

{{- define "jaeger.telemetry" -}}
telemetry:
  resource:
    service.name: {{ . }}
  metrics:
    level: normal
    readers:
      - pull:
          exporter:
            prometheus: {host: "", port: 8888}
{{- end -}}

{{- define "jaeger.health" -}}
healthcheckv2:
  use_v2: true
  http: {endpoint: ":13133"}
{{- end -}}

{{/* Storage, and for the role that answers queries the Prometheus with the metrics of spans. Takes root
     and role. */}}
{{- define "jaeger.storageExtension" -}}
{{- if include "jaeger.signed" .root -}}
# Signs requests with the role of the ServiceAccount.
sigv4auth:
  region: {{ include "jaeger.text" .root.Values.storage.elasticsearch.aws.region }}
  service: {{ .root.Values.storage.elasticsearch.aws.service }}
{{ end -}}
jaeger_storage:
  backends:
    traces:
      {{- include "jaeger.backend" .root | nindent 6 }}
  {{- if and .root.Values.spanMetrics.enabled (eq .role (include "jaeger.queryRole" .root)) }}
  metric_backends:
    metrics:
      prometheus:
        endpoint: {{ .root.Values.spanMetrics.prometheusUrl | quote }}
        # As the collector's exporter names them.
        normalize_calls: true
        normalize_duration: true
  {{- end }}
{{- end -}}

{{/* True if requests to the storage are signed as AWS does. */}}
{{- define "jaeger.signed" -}}
{{- if and (include "jaeger.hasIndices" .) .Values.storage.elasticsearch.aws.region }}true{{ end -}}
{{- end -}}

{{/* Exporter to the storage, with its queue and retries. Takes root, queueSize and maxElapsedTime. */}}
{{- define "jaeger.storageExporter" -}}
jaeger_storage_exporter:
  trace_storage: traces
  {{- if include "jaeger.syncWrites" .root }}
  # Whoever sends waits until the storage has the spans. A batch is at most one request to it:
  # bulk_processing.max_bytes.
  queue:
    enabled: true
    num_consumers: 10
    queue_size: {{ .queueSize | int64 }}
    sizer: requests
    wait_for_result: true
    batch: {sizer: bytes, flush_timeout: 200ms, min_size: 0, max_size: 4194304}
  {{- else if .queueSize }}
  # num_consumers: the default of OpenTelemetry's exporters.
  queue: {enabled: true, num_consumers: 10, queue_size: {{ .queueSize | int64 }}, sizer: requests}
  {{- else }}
  # No queue: it would commit a span's offset before the storage has the span.
  queue: {enabled: false}
  {{- end }}
  retry_on_failure: {enabled: true, max_elapsed_time: {{ .maxElapsedTime }}}
{{- end -}}

{{/* Processors of a role: which, in order, as YAML. Takes root and role. */}}
{{- define "jaeger.processors" -}}
{{- $values := .root.Values -}}
- memory_limiter
{{- if eq .role (include "jaeger.samplingRole" .root) }}
- tail_sampling
{{- end }}
{{- /* A batch would hide a write's result. The ingester's offset is committed after the write. */}}
{{- if not (or (eq .role "ingester") (and (eq .role "collector") (include "jaeger.syncCollector" .root))) }}
- batch
{{- end }}
{{- end -}}

{{/* Their configuration. Takes root and role. */}}
{{- define "jaeger.processorsConfig" -}}
{{- $processors := include "jaeger.processors" . | fromYamlArray -}}
memory_limiter: {check_interval: 1s, limit_percentage: 80, spike_limit_percentage: 20}
{{- if has "batch" $processors }}
batch: {timeout: 1s, send_batch_size: 512, send_batch_max_size: 1024}
{{- end }}
{{- if has "tail_sampling" $processors }}
{{- with .root.Values.tailSampling }}
tail_sampling:
  decision_wait: {{ .decisionWait }}
  num_traces: {{ .numTraces | int64 }}
  policies:
    - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
    - {name: slow, type: latency, latency: {threshold_ms: {{ .slowMilliseconds | int64 }}}}
    - {name: low-confidence, type: boolean_attribute, boolean_attribute: {key: prediction.low_confidence, value: true}}
    - {name: rest, type: probabilistic, probabilistic: {sampling_percentage: {{ .restPercentage }}}}
    {{- with .policies }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Role that sees all spans of a trace, and samples: the ingester, to which Kafka leads them by the trace's
     id, else the only collector. Empty without tail sampling. */}}
{{- define "jaeger.samplingRole" -}}
{{- if .Values.tailSampling.enabled }}{{ ternary "ingester" "collector" .Values.ingester.enabled }}{{ end -}}
{{- end -}}

{{- define "jaeger.queryExtension" -}}
{{- $values := .Values -}}
{{- if $values.query.auth.htpasswdSecret -}}
basicauth/query:
  htpasswd: {file: /etc/jaeger/query-logins/htpasswd}
{{ end -}}
jaeger_query:
  storage: {traces: traces{{ if $values.spanMetrics.enabled }}, metrics: metrics{{ end }}}
  {{- if $values.spanMetrics.enabled }}
  # Shows the tab Monitor.
  ui: {config_file: /etc/jaeger/config/ui.json}
  {{- end }}
  {{- with include "jaeger.basePath" . }}
  base_path: {{ include "jaeger.text" . }}
  {{- end }}
  # Query would send its own traces to a collector on its own address.
  enable_tracing: false
  http:
    endpoint: ":16686"
    {{- if $values.query.auth.htpasswdSecret }}
    auth: {authenticator: basicauth/query}
    {{- end }}
  grpc:
    endpoint: ":16685"
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
  http: {endpoint: ":5778"}
  grpc: {endpoint: ":5779"}
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
    username: {{ include "jaeger.text" $kafka.user }}
    password: ${env:KAFKA_PASSWORD}
{{- end }}
{{- if $kafka.tls.enabled }}
tls:
  {{- if $kafka.tls.existingSecret }}
  ca_file: {{ printf "/etc/jaeger/kafka-ca/%s" $kafka.tls.key | quote }}
  {{- else }}
  insecure: false
  {{- end }}
{{- end }}
{{- end -}}

{{- define "jaeger.config.collector" -}}
{{- $values := .Values -}}
{{- $oneProcess := eq (include "jaeger.queryRole" .) "collector" -}}
{{- $legacy := include "jaeger.legacyReceivers" . -}}
{{- $extensions := list "healthcheckv2" "remote_sampling" "jaeger_storage" -}}
{{- if and (include "jaeger.signed" .) (not $values.ingester.enabled) }}{{ $extensions = append $extensions "sigv4auth" }}{{ end -}}
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
{{- $processors := include "jaeger.processors" (dict "root" . "role" "collector") | fromYamlArray -}}
{{- $received := list -}}
{{- if $values.spanMetrics.enabled -}}
{{- /* Metrics count all spans, also those that are not kept. */}}
{{- $received = has "tail_sampling" $processors | ternary (list "spanmetrics" "forward") (list "spanmetrics") -}}
{{- end -}}
service:
  extensions: {{ toJson $extensions }}
  pipelines:
    traces:
      receivers: {{ toJson (empty $legacy | ternary (list "otlp") (list "otlp" "jaeger" "zipkin")) }}
      {{- if has "forward" $received }}
      processors: [memory_limiter]
      exporters: {{ toJson $received }}
    traces/kept:
      receivers: [forward]
      processors: {{ without $processors "memory_limiter" | toJson }}
      exporters: {{ toJson $exporters }}
      {{- else }}
      processors: {{ toJson $processors }}
      exporters: {{ concat $exporters $received | toJson }}
      {{- end }}
    {{- if $received }}
    metrics/spanmetrics: {receivers: [spanmetrics], exporters: [prometheus]}
    {{- end }}
  {{- include "jaeger.telemetry" "jaeger-collector" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.samplingExtension" . | nindent 2 }}
  {{- if $values.ingester.enabled }}
  {{- include "jaeger.noStorageExtension" . | nindent 2 }}
  {{- else }}
  {{- include "jaeger.storageExtension" (dict "root" . "role" "collector") | nindent 2 }}
  {{- end }}
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
        endpoint: ":4317"
        {{- with include "jaeger.otlpProtection" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      http:
        endpoint: ":4318"
        {{- with include "jaeger.otlpProtection" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
  {{- if $legacy }}
  jaeger:
    protocols:
      grpc: {endpoint: ":14250"}
      thrift_http: {endpoint: ":14268"}
  zipkin: {endpoint: ":9411"}
  {{- end }}
processors:
  {{- include "jaeger.processorsConfig" (dict "root" . "role" "collector") | nindent 2 }}
{{- with $received }}
connectors:
  spanmetrics:
    metrics_flush_interval: {{ $values.spanMetrics.flushInterval }}
    # A service's instances share their series. Alive for a few requests, each by itself hardly has a rate, and there
    # is no end of them.
    resource_metrics_key_attributes: [service.name]
    {{- with $values.spanMetrics.buckets }}
    histogram: {explicit: {buckets: {{ toJson . }}}}
    {{- end }}
    {{- with $values.spanMetrics.dimensions }}
    dimensions:
      {{- range . }}
      - name: {{ include "jaeger.text" . }}
      {{- end }}
    {{- end }}
  {{- if has "forward" . }}
  forward: {}
  {{- end }}
{{- end }}
exporters:
  {{- if $received }}
  prometheus: {endpoint: ":8889"}
  {{- end }}
  {{- if $values.ingester.enabled }}
  kafka:
    {{- include "jaeger.kafkaConnection" . | nindent 4 }}
    traces: {topic: {{ include "jaeger.text" $values.storage.kafka.topic }}, encoding: otlp_proto}
    partition_traces_by_id: true
    producer: {required_acks: all, compression: zstd}
    {{- if include "jaeger.syncCollector" . }}
    # Whoever sends waits until Kafka has the spans.
    sending_queue: {enabled: true, queue_size: {{ $values.collector.queueSize | int64 }}, wait_for_result: true}
    {{- else }}
    sending_queue: {enabled: true, queue_size: {{ $values.collector.queueSize | int64 }}}
    {{- end }}
    # Short: a collector with wrong credentials does not stop while it retries.
    retry_on_failure: {enabled: true, max_elapsed_time: 60s}
  {{- else }}
  {{- include "jaeger.storageExporter" (dict "root" . "queueSize" $values.collector.queueSize "maxElapsedTime" "300s") | nindent 2 }}
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
      {{ $header | quote }}: ${env:{{ include "jaeger.headerVariable" (dict "name" $destination.name "header" $header) }}}
      {{- end }}
    {{- end }}
    # A queue and retries of its own: a destination that is down does not delay the others.
    sending_queue: {enabled: true, queue_size: {{ $values.collector.queueSize | int64 }}}
    retry_on_failure: {enabled: true, max_elapsed_time: 300s}
  {{- end }}
{{- end -}}

{{- define "jaeger.config.query" -}}
service:
  extensions: [healthcheckv2, jaeger_storage, jaeger_query{{ if include "jaeger.signed" . }}, sigv4auth{{ end }}{{ if .Values.query.auth.htpasswdSecret }}, basicauth/query{{ end }}]
  pipelines:
    traces: {receivers: [nop], exporters: [nop]}
  {{- include "jaeger.telemetry" "jaeger-query" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.storageExtension" (dict "root" . "role" "query") | nindent 2 }}
  {{- include "jaeger.queryExtension" . | nindent 2 }}
receivers:
  nop: {}
exporters:
  nop: {}
{{- end -}}

{{- define "jaeger.config.ingester" -}}
service:
  extensions: [healthcheckv2, jaeger_storage{{ if include "jaeger.signed" . }}, sigv4auth{{ end }}]
  pipelines:
    traces:
      receivers: [kafka]
      processors: {{ include "jaeger.processors" (dict "root" . "role" "ingester") | fromYamlArray | toJson }}
      exporters: [jaeger_storage_exporter]
  {{- include "jaeger.telemetry" "jaeger-ingester" | nindent 2 }}
extensions:
  {{- include "jaeger.health" . | nindent 2 }}
  {{- include "jaeger.storageExtension" (dict "root" . "role" "ingester") | nindent 2 }}
receivers:
  kafka:
    {{- include "jaeger.kafkaConnection" . | nindent 4 }}
    {{- if eq (include "jaeger.form" .) "2.13" }}
    traces: {topic: {{ include "jaeger.text" .Values.storage.kafka.topic }}, encoding: otlp_proto}
    {{- else }}
    traces: {topics: [{{ include "jaeger.text" .Values.storage.kafka.topic }}], encoding: otlp_proto}
    {{- end }}
    group_id: {{ include "jaeger.text" .Values.storage.kafka.groupId }}
    initial_offset: earliest
    message_marking: {after: true, on_error: false}
    error_backoff: {enabled: true, max_elapsed_time: 0s}
processors:
  {{- include "jaeger.processorsConfig" (dict "root" . "role" "ingester") | nindent 2 }}
exporters:
  {{- $sync := include "jaeger.syncWrites" . }}
  {{- include "jaeger.storageExporter" (dict "root" . "queueSize" (ternary .Values.ingester.queueSize 0 (not (empty $sync))) "maxElapsedTime" (ternary "0s" "300s" (not (empty $sync)))) | nindent 2 }}
{{- end -}}

{{- define "jaeger.config.agent" -}}
{{- $otlp := .Values.collector.otlp -}}
service:
  extensions: [healthcheckv2, jaeger_storage, remote_sampling{{ if $otlp.auth.htpasswdSecret }}, basicauth/collector{{ end }}]
  pipelines:
    traces:
      receivers: [otlp, jaeger]
      processors: {{ include "jaeger.processors" (dict "root" . "role" "agent") | fromYamlArray | toJson }}
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
      grpc: {endpoint: ":4317"}
      http: {endpoint: ":4318"}
  jaeger:
    protocols:
      thrift_compact: {endpoint: ":6831"}
      thrift_binary: {endpoint: ":6832"}
processors:
  {{- include "jaeger.processorsConfig" (dict "root" . "role" "agent") | nindent 2 }}
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
