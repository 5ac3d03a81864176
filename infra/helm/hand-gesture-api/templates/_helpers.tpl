{{- define "api.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Release.Name $name -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "api.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "api.metadata" -}}
name: {{ include "api.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "api.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
  {{- with .Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Image reference by digest or tag. Takes image and version, the default tag. */}}
{{- define "api.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end -}}

{{/* Endpoint of the collector as scheme://host:port; empty if the service sends no spans. */}}
{{- define "api.collector" -}}
{{- $settings := .Values.settings -}}
{{- $endpoint := coalesce $settings.otelExporterOtlpTracesEndpoint $settings.otelExporterOtlpEndpoint -}}
{{- if $endpoint -}}
{{- $url := urlParse $endpoint -}}
{{- $port := regexFind ":[0-9]+$" $url.host -}}
{{ $url.scheme }}://{{ trimSuffix $port $url.host }}{{ $port | default (eq $url.scheme "https" | ternary ":443" ":80") }}
{{- else if $settings.jaegerCollectorHost -}}
{{- $host := $settings.jaegerCollectorHost -}}
{{- /* An IPv6 address. */}}
{{- if and (contains ":" $host) (not (hasPrefix "[" $host)) }}{{ $host = printf "[%s]" $host }}{{ end -}}
http://{{ $host }}:4318
{{- end -}}
{{- end -}}

{{/* Settings with a value, by their names in spin.toml, as YAML. */}}
{{- define "api.variables" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if not $settings.collectorAllowedHost }}{{ $_ := set $settings "collectorAllowedHost" (include "api.collector" .) }}{{ end -}}
{{- range $name, $value := $settings }}
{{- $text := toString $value }}
{{- /* Helm reads each number of a file as float64, which prints a large one as 1.048576e+07. */}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $text = int64 $value | toString }}{{ end }}
{{- if $text }}
{{ snakecase $name }}: {{ $text | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "api.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.container.user }}
runAsGroup: {{ .Values.container.user }}
fsGroup: {{ .Values.container.user }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "api.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Rejects values that cannot work together, with the remedy. */}}
{{- define "api.validate" -}}
{{- $values := .Values -}}
{{- if not $values.image.repository -}}
{{- fail "\n\nimage.repository is empty. Make an image and name it here:\n  runtime=container:  podman build -f infra/Containerfile -t REGISTRY/hand-gesture-api:0.1.0 . && podman push …\n  runtime=spinkube:   spin registry push REGISTRY/hand-gesture-api:0.1.0" -}}
{{- end -}}
{{- range $kind := list "ingress" "httpRoute" -}}
{{- $way := index $values $kind -}}
{{- if and $way.enabled (not $way.host) -}}
{{- fail (printf "\n\n%s.enabled=true, but %s.host is empty: set it, for instance asl.192.0.2.10.nip.io with your ingress controller's address." $kind $kind) -}}
{{- end -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- fail "\n\nhttpRoute.enabled=true, but httpRoute.parentRefs is empty: name the gateway, for instance [{name: gateway, namespace: gateways}]." -}}
{{- end -}}
{{- if and $values.scaleToZero.enabled $values.autoscaling.enabled -}}
{{- fail "\n\nscaleToZero.enabled and autoscaling.enabled are both true: two autoscalers would pull at the same pods. Choose one." -}}
{{- end -}}
{{- if and $values.scaleToZero.enabled (not (or $values.ingress.enabled $values.httpRoute.enabled)) -}}
{{- fail "\n\nscaleToZero.enabled=true needs ingress.enabled or httpRoute.enabled: KEDA's interceptor knows requests by their host." -}}
{{- end -}}
{{- if and (eq $values.runtime "spinkube") $values.podDisruptionBudget.enabled (lt (int $values.replicas) 2) (not $values.autoscaling.enabled) -}}
{{- fail "\n\npodDisruptionBudget.enabled=true with one replica keeps its node from being drained: set replicas to 2 or more." -}}
{{- end -}}
{{- $secret := $values.settings.otelExporterOtlpHeaders | default $values.settings.otelExporterOtlpTracesHeaders -}}
{{- if $secret -}}
{{- fail (printf "\n\nsettings.otelExporterOtlpHeaders is refused: headers hold logins, and values end up in the release's history. Put them in a secret:\n\n    kubectl --namespace %s create secret generic otlp-headers --from-literal=headers='authorization=Basic%%20…'\n\nand set otlpHeadersSecret.name=otlp-headers." .Release.Namespace) -}}
{{- end -}}
{{- end -}}

{{/* Port of the Service; SpinKube always uses 80. */}}
{{- define "api.servicePort" -}}
{{ ternary 80 (int .Values.service.port) (eq .Values.runtime "spinkube") }}
{{- end -}}

{{/* Backend of Ingress and HTTPRoute, the service or KEDA's interceptor, as YAML. */}}
{{- define "api.backend" -}}
{{- if .Values.scaleToZero.enabled -}}
{name: {{ include "api.fullname" . }}-interceptor, port: {{ .Values.scaleToZero.interceptor.port }}}
{{- else -}}
{name: {{ include "api.fullname" . }}, port: {{ include "api.servicePort" . }}}
{{- end -}}
{{- end -}}
