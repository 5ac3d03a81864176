{{/* Names, labels and images. */}}

{{/* A name that fits its limit. One that is cut ends in a hash of the whole, so that it stays unique.
     Takes name and limit. */}}
{{- define "jaeger.fit" -}}
{{- if gt (len .name) (int .limit) -}}
{{ .name | trunc (sub .limit 9 | int) | trimSuffix "-" }}-{{ sha256sum .name | trunc 8 }}
{{- else -}}
{{ .name }}
{{- end -}}
{{- end -}}

{{/* The start of all names: 50 characters leave room for a role in the 63 of a Service. */}}
{{- define "jaeger.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- include "jaeger.fit" (dict "name" (.Values.fullnameOverride | default $full) "limit" 50) -}}
{{- end -}}

{{/* Name of a role's resource. Takes root, role and optionally limit; 63 is that of a Service, and of the
     label that a Job writes. */}}
{{- define "jaeger.name" -}}
{{- $suffix := printf "-%s" .role -}}
{{- $limit := sub (.limit | default 63) (len $suffix) -}}
{{- include "jaeger.fit" (dict "name" (include "jaeger.fullname" .root) "limit" $limit) }}{{ $suffix -}}
{{- end -}}

{{/* Labels that select one role's pods. Takes root and role. */}}
{{- define "jaeger.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{/* A map whose values are text, as labels and annotations must be. Helm reads each number of a file as
     float64, which prints a large one as 1.048576e+07. Takes the map. */}}
{{- define "jaeger.strings" -}}
{{- $strings := dict -}}
{{- range $key, $value := . -}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end -}}
{{- $_ := set $strings $key (toString $value) -}}
{{- end -}}
{{- toYaml $strings -}}
{{- end -}}

{{/* Name, namespace and labels of a resource. The selector's labels cannot be replaced, others can.
     Takes root, role, and optionally name, limit and labels. */}}
{{- define "jaeger.metadata" -}}
{{- $own := dict
      "app.kubernetes.io/version" (.root.Values.image.tag | default .root.Chart.AppVersion | trunc 63)
      "app.kubernetes.io/managed-by" .root.Release.Service
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
name: {{ .name | default (include "jaeger.name" .) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- merge (include "jaeger.selector" . | fromYaml) (.labels | default dict) .root.Values.labels $own | include "jaeger.strings" | nindent 2 }}
{{- end -}}

{{/* Image reference by digest or tag. imageRegistry stands before a repository that names no registry.
     Takes root, image and version, the default tag. */}}
{{- define "jaeger.image" -}}
{{- $repository := .image.repository -}}
{{- if and .root.Values.imageRegistry (not (regexMatch "^([^/]*[.:][^/]*|localhost)/" $repository)) -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .root.Values.imageRegistry) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end -}}

{{/* Format of Jaeger's configuration: 2.13, 2.20 or 2.21. A tag that is no version counts as 2.20. */}}
{{- define "jaeger.form" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- $version := regexMatch "^v?[0-9]+\\.[0-9]+\\.[0-9]+$" $tag | ternary $tag "2.20.0" -}}
{{- if .Values.configurationForm -}}
{{ .Values.configurationForm }}
{{- else if semverCompare "<2.20.0" $version -}}
2.13
{{- else if semverCompare "<2.21.0" $version -}}
2.20
{{- else -}}
2.21
{{- end -}}
{{- end -}}

{{/* True if the collector answers after Kafka or the storage has the spans: Jaeger 2.21 with Kafka or
     indices. */}}
{{- define "jaeger.syncCollector" -}}
{{- if or (include "jaeger.syncWrites" .) (and .Values.ingester.enabled (eq (include "jaeger.form" .) "2.21")) }}true{{ end -}}
{{- end -}}

{{/* True if each write to the storage reports its result: Jaeger 2.21 with indices. */}}
{{- define "jaeger.syncWrites" -}}
{{- if and (include "jaeger.hasIndices" .) (eq (include "jaeger.form" .) "2.21") }}true{{ end -}}
{{- end -}}

{{/* GOMEMLIMIT, four fifths of a memory limit. Takes a quantity: 512Mi, 1.5Gi, 500M, 536870912. */}}
{{- define "jaeger.gomemlimit" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]i?$" $text -}}
{{- $bytes := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
      "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $limit := divf (mulf (trimSuffix $unit $text | float64) (index $bytes $unit | default 0) 0.8) 1048576 | floor -}}
{{- if lt $limit 1.0 -}}
{{- fail (printf "a memory limit is %q: write it in bytes, or in M, G, Mi or Gi, so that GOMEMLIMIT can follow it" $text) -}}
{{- end -}}
{{ $limit }}MiB
{{- end -}}

{{/* Role whose pods answer queries: the collector if the storage lives in one process. */}}
{{- define "jaeger.queryRole" -}}
{{ ternary "collector" "query" (has .Values.storage.type (list "memory" "badger")) }}
{{- end -}}

{{/* Path of UI and API without a slash at its end; empty for the root. */}}
{{- define "jaeger.basePath" -}}
{{ regexReplaceAll "/+$" .Values.query.basePath "" }}
{{- end -}}

{{/* Environment variable from a secret. Takes name, secret, key. */}}
{{- define "jaeger.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}
{{- end -}}
