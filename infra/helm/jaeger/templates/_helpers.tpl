{{/* Names, labels and images. */}}

{{- define "jaeger.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select one role's pods. Takes root and role. */}}
{{- define "jaeger.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{/* Name, namespace and labels of a resource. Takes root, role and optionally name. */}}
{{- define "jaeger.metadata" -}}
name: {{ .name | default (printf "%s-%s" (include "jaeger.fullname" .root) .role) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "jaeger.selector" . | nindent 2 }}
  {{- include "jaeger.commonLabels" .root | nindent 2 }}
{{- end -}}

{{- define "jaeger.commonLabels" -}}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Image reference by digest or tag. Takes image and version, the default tag. */}}
{{- define "jaeger.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end -}}

{{/* Format of Jaeger's configuration: 2.13 or 2.20. */}}
{{- define "jaeger.form" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.configurationForm -}}
{{ .Values.configurationForm }}
{{- else if and (regexMatch "^v?[0-9]+\\.[0-9]+\\.[0-9]+$" $tag) (semverCompare "<2.20.0" $tag) -}}
2.13
{{- else -}}
2.20
{{- end -}}
{{- end -}}

{{/* GOMEMLIMIT, four fifths of a memory limit. Takes 512Mi, 1Gi, 1.5Gi. */}}
{{- define "jaeger.gomemlimit" -}}
{{- $text := toString . -}}
{{- if hasSuffix "Gi" $text -}}
{{ mulf (trimSuffix "Gi" $text | float64) 819.2 | floor }}MiB
{{- else if hasSuffix "Mi" $text -}}
{{ mulf (trimSuffix "Mi" $text | float64) 0.8 | floor }}MiB
{{- else -}}
{{ fail (printf "a memory limit is %q; write it in Mi or Gi, so that GOMEMLIMIT can follow it" $text) }}
{{- end -}}
{{- end -}}

{{/* Role whose pods answer queries: the collector if the storage lives in one process. */}}
{{- define "jaeger.queryRole" -}}
{{ ternary "collector" "query" (has .Values.storage.type (list "memory" "badger")) }}
{{- end -}}

{{/* Security contexts of a pod and of a container under restricted pod security. */}}
{{- define "jaeger.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "jaeger.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Environment variable from a secret. Takes name, secret, key. */}}
{{- define "jaeger.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}
{{- end -}}
