{{/* Pod of a role, and the Deployment around it. */}}

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

{{- define "jaeger.pod" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := index $root.Values $role -}}
{{- $config := include (printf "jaeger.config.%s" $role) $root -}}
{{- $secrets := include "jaeger.mountedSecrets" . | fromYamlArray -}}
{{- $sampling := has $role (list "collector" "agent") -}}
{{- $badger := and (eq $role "collector") (eq $root.Values.storage.type "badger") -}}
metadata:
  labels:
    {{- include "jaeger.selector" . | nindent 4 }}
    {{- with $root.Values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration restarts the pods.
    checksum/config: {{ sha256sum $config }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "jaeger.fullname" $root }}
  automountServiceAccountToken: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toJson . }}
  {{- end }}
  securityContext:
    {{- include "jaeger.podSecurity" . | nindent 4 }}
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
  containers:
    - name: jaeger
      image: {{ include "jaeger.image" (dict "image" $root.Values.image "version" $root.Chart.AppVersion) }}
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
  volumes:
    - name: config
      configMap: {name: {{ include "jaeger.fullname" $root }}-{{ $role }}}
    - name: tmp
      emptyDir: {}
    {{- if $sampling }}
    - name: sampling
      configMap: {name: {{ include "jaeger.fullname" $root }}-sampling}
    {{- end }}
    {{- if $badger }}
    - name: data
      persistentVolumeClaim: {claimName: {{ $root.Values.storage.badger.existingClaim | default (printf "%s-badger" (include "jaeger.fullname" $root)) }}}
    {{- end }}
    {{- range $secrets }}
    - name: {{ .name }}
      secret: {secretName: {{ .secret }}{{ with .only }}, items: [{key: {{ . }}, path: {{ . }}}]{{ end }}}
    {{- end }}
  {{- range $field := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $values $field }}
  {{ $field }}: {{ toJson . }}
  {{- end }}
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
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "jaeger.fullname" .root }}-{{ .role }}}
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
