{{/* What all pods share, the pod of a role, and the Deployment around it. */}}

{{/* Labels and annotations of a pod. Takes root, role, values, which are a role's or `jobs`, and
     optionally annotations. */}}
{{- define "jaeger.podMetadata" -}}
{{- $pods := .root.Values.pods -}}
labels:
  {{- merge (include "jaeger.selector" . | fromYaml) .values.podLabels $pods.podLabels .root.Values.labels | include "jaeger.strings" | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .values.podAnnotations $pods.podAnnotations }}
annotations:
  {{- include "jaeger.strings" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Fields of a pod's spec that decide where and how it runs: those of a role or of `jobs`, else those of
     `pods`. Takes root and values. */}}
{{- define "jaeger.scheduling" -}}
{{- $both := dict "values" .values "pods" .root.Values.pods -}}
{{- range $field := list "priorityClassName" "dnsConfig" "nodeSelector" "tolerations" "affinity" }}
{{- with index $both.values $field | default (index $both.pods $field) }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fields of every pod's spec, for restricted pod security. Takes root and values. */}}
{{- define "jaeger.podFields" -}}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.pods.user }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- include "jaeger.scheduling" . }}
{{- end -}}

{{- define "jaeger.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Ports of a role's container, name and number, as YAML. Takes root and role. */}}
{{- define "jaeger.ports" -}}
{{- if or (eq .role "collector") (eq .role "agent") }}
otlp-grpc: 4317
otlp-http: 4318
sampling-http: 5778
sampling-grpc: 5779
{{- end }}
{{- if and (eq .role "collector") (include "jaeger.legacyReceivers" .root) }}
jaeger-grpc: 14250
jaeger-http: 14268
zipkin: 9411
{{- end }}
{{- if eq .role (include "jaeger.queryRole" .root) }}
query-http: 16686
query-grpc: 16685
{{- end }}
{{- end -}}

{{/* Ports of a Service. Takes ports and nodePorts, both numbers by name. */}}
{{- define "jaeger.servicePorts" -}}
{{- $nodePorts := .nodePorts -}}
{{- range $name, $port := .ports }}
- {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}{{ with index $nodePorts $name }}, nodePort: {{ int . }}{{ end }}}
{{- end }}
{{- end -}}

{{- define "jaeger.pod" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := index $root.Values $role -}}
{{- $config := include (printf "jaeger.config.%s" $role) $root -}}
{{- $secrets := include "jaeger.mountedSecrets" . | fromYamlArray -}}
{{- $sampling := has $role (list "collector" "agent") -}}
{{- $badger := and (eq $role "collector") (eq $root.Values.storage.type "badger") -}}
{{- /* A changed configuration restarts the pods. */}}
{{- $annotations := dict "checksum/config" (sha256sum $config) -}}
metadata:
  {{- include "jaeger.podMetadata" (dict "root" $root "role" $role "values" $values "annotations" $annotations) | nindent 2 }}
spec:
  serviceAccountName: {{ include "jaeger.fullname" $root | quote }}
  {{- include "jaeger.podFields" (dict "root" $root "values" $values) | nindent 2 }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- if ne $role "agent" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "jaeger.selector" . | nindent 10 }}
  {{- end }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: jaeger
      image: {{ include "jaeger.image" (dict "root" $root "image" $root.Values.image "version" $root.Chart.AppVersion) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [--config, /etc/jaeger/config/config.yaml]
      env:
        - {name: GOMEMLIMIT, value: {{ include "jaeger.gomemlimit" $values.resources.limits.memory }}}
        {{- with include "jaeger.secretVariables" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range $name, $port := include "jaeger.ports" . | fromYaml }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
        {{- if eq $role "agent" }}
        - {name: thrift-compact, containerPort: 6831, protocol: UDP}
        - {name: thrift-binary, containerPort: 6832, protocol: UDP}
        {{- end }}
        {{- if and $root.Values.spanMetrics.enabled (eq $role "collector") }}
        - {name: span-metrics, containerPort: 8889}
        {{- end }}
        - {name: health, containerPort: 13133}
        - {name: metrics, containerPort: 8888}
      startupProbe:
        httpGet: {path: /status, port: health}
        periodSeconds: 2
        failureThreshold: 30
      readinessProbe:
        httpGet: {path: /status, port: health}
        periodSeconds: 5
      livenessProbe:
        httpGet: {path: /status, port: health}
        periodSeconds: 10
        failureThreshold: 6
      lifecycle:
        # Endpoints drop the pod before it stops, so that no client still sends to it.
        preStop: {sleep: {seconds: 5}}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "jaeger.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/jaeger/config, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if $sampling }}
        - {name: sampling, mountPath: /etc/jaeger/sampling, readOnly: true}
        {{- end }}
        {{- if $badger }}
        - {name: data, mountPath: /var/lib/jaeger}
        {{- end }}
        {{- range $secrets }}
        - {name: {{ .name }}, mountPath: /etc/jaeger/{{ .name }}, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "jaeger.name" . | quote }}}
    - name: tmp
      emptyDir: {}
    {{- if $sampling }}
    - name: sampling
      configMap: {name: {{ include "jaeger.name" (dict "root" $root "role" "sampling") | quote }}}
    {{- end }}
    {{- if $badger }}
    - name: data
      persistentVolumeClaim: {claimName: {{ $root.Values.storage.badger.existingClaim | default (include "jaeger.name" (dict "root" $root "role" "badger")) | quote }}}
    {{- end }}
    {{- range $secrets }}
    - name: {{ .name }}
      secret: {secretName: {{ .secret | quote }}{{ with .only }}, items: [{key: {{ . }}, path: {{ . }}}]{{ end }}}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* ConfigMap with a role's configuration. Takes root and role. */}}
{{- define "jaeger.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "jaeger.metadata" . | nindent 2 }}
data:
  config.yaml: |
    {{- include (printf "jaeger.config.%s" .role) .root | nindent 4 }}
  {{- if and .root.Values.spanMetrics.enabled (eq .role (include "jaeger.queryRole" .root)) }}
  ui.json: |
    {"monitor": {"menuEnabled": true}}
  {{- end }}
{{- end -}}

{{/* Deployment, HorizontalPodAutoscaler and PodDisruptionBudget of a role. Takes root and role. */}}
{{- define "jaeger.deployment" -}}
{{- $values := index .root.Values .role -}}
{{- $badger := and (eq .role "collector") (eq .root.Values.storage.type "badger") -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "jaeger.metadata" . | nindent 2 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  # A new pod is ready before an old one stops. Badger's volume allows one pod only.
  strategy: {{ $badger | ternary "{type: Recreate}" "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}" }}
  selector:
    matchLabels:
      {{- include "jaeger.selector" . | nindent 6 }}
  template:
    {{- include "jaeger.pod" . | nindent 4 }}
{{- if $values.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "jaeger.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "jaeger.name" . | quote }}}
  minReplicas: {{ $values.autoscaling.minReplicas }}
  maxReplicas: {{ $values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $values.autoscaling.targetCPUUtilizationPercentage }}}}
{{- end }}
{{- if $values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "jaeger.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ $values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "jaeger.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
