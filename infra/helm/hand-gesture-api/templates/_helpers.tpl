{{/* A name that fits its limit. One that is cut ends in a hash of the whole, so that it stays unique.
     Takes name and limit. */}}
{{- define "api.fit" -}}
{{- if gt (len .name) (int .limit) -}}
{{ .name | trunc (sub .limit 9 | int) | trimSuffix "-" }}-{{ sha256sum .name | trunc 8 }}
{{- else -}}
{{ .name }}
{{- end -}}
{{- end -}}

{{/* Name of all resources: 50 characters leave room for "-interceptor" in the 63 of a Service. */}}
{{- define "api.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if contains $name .Release.Name }}{{ $full = .Release.Name }}{{ else if contains .Release.Name $name }}{{ $full = $name }}{{ end -}}
{{- include "api.fit" (dict "name" (.Values.fullnameOverride | default $full) "limit" 50) -}}
{{- end -}}

{{- define "api.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* A value as text. Helm reads each number of a file as float64, which prints a large one as
     1.048576e+07. */}}
{{- define "api.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* A map whose values are text, as labels and annotations must be. Takes the map. */}}
{{- define "api.strings" -}}
{{- $strings := dict -}}
{{- range $key, $value := . }}{{ $_ := set $strings $key (include "api.text" $value) }}{{ end -}}
{{- toYaml $strings -}}
{{- end -}}

{{/* Name, namespace and labels of a resource. The selector's labels cannot be replaced, others can. */}}
{{- define "api.metadata" -}}
{{- $own := dict
      "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion | trunc 63)
      "app.kubernetes.io/managed-by" .Release.Service
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
name: {{ include "api.fullname" . | quote }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- merge (include "api.selector" . | fromYaml) .Values.labels $own | include "api.strings" | nindent 2 }}
{{- end -}}

{{/* Labels of the service's pods. */}}
{{- define "api.podLabels" -}}
{{- merge (include "api.selector" . | fromYaml) .Values.podLabels .Values.labels | include "api.strings" -}}
{{- end -}}

{{/* Image reference by digest or tag. imageRegistry stands before a repository that names no registry.
     Takes root, image and version, the default tag. */}}
{{- define "api.image" -}}
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
{{- with include "api.text" $value }}
{{ snakecase $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fields of every pod's spec, for restricted pod security. */}}
{{- define "api.podFields" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .Values.container.user }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- range $field := list "priorityClassName" "dnsConfig" "nodeSelector" "tolerations" "affinity" }}
{{- with index $.Values $field }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
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
{{- fail "\n\nimage.repository is empty. Make an image and name it here:\n  runtime=container:  podman build -f infra/Containerfile -t REGISTRY/hand-gesture-api:0.1.0 . && podman push …\n  runtime=spinkube:   spin registry push --from spin-p2.toml REGISTRY/hand-gesture-api:0.1.0-p2" -}}
{{- end -}}
{{- $name := include "api.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "\n\nThe name %q is no name of a Service, which has lower-case letters, digits and dashes, and a letter first: set fullnameOverride, for instance to hand-gesture-api." $name) -}}
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
{{- if and (eq $values.runtime "spinkube") (eq (int $values.replicas) 0) (not $values.autoscaling.enabled) (not $values.scaleToZero.enabled) -}}
{{- fail "\n\nreplicas=0 is refused by SpinKube's operator: set scaleToZero.enabled=true, or 1 replica or more." -}}
{{- end -}}
{{- $secret := $values.settings.otelExporterOtlpHeaders | default $values.settings.otelExporterOtlpTracesHeaders -}}
{{- if $secret -}}
{{- fail (printf "\n\nsettings.otelExporterOtlpHeaders is refused: headers hold logins, and values end up in the release's history. Put them in a secret:\n\n    kubectl --namespace %s create secret generic otlp-headers --from-literal=headers='authorization=Basic%%20…'\n\nand set otlpHeadersSecret.name=otlp-headers." .Release.Namespace) -}}
{{- end -}}
{{- if $values.settings.feedbackToken -}}
{{- fail (printf "\n\nsettings.feedbackToken is refused: values end up in the release's history. Put the token in a secret:\n\n    kubectl --namespace %s create secret generic feedback-token --from-literal=token=\"$(openssl rand -hex 32)\"\n\nand set feedbackTokenSecret.name=feedback-token." .Release.Namespace) -}}
{{- end -}}
{{- end -}}

{{/* Port of the Service; SpinKube always uses 80. */}}
{{- define "api.servicePort" -}}
{{ ternary 80 (int .Values.service.port) (eq .Values.runtime "spinkube") }}
{{- end -}}

{{/* Hosts of Ingress and HTTPRoute, as JSON. */}}
{{- define "api.hosts" -}}
{{- $values := .Values -}}
{{- concat (list $values.ingress.host) $values.ingress.extraHosts (list $values.httpRoute.host) $values.httpRoute.extraHosts | compact | uniq | toJson -}}
{{- end -}}

{{/* Backend of Ingress and HTTPRoute, the service or KEDA's interceptor, as YAML. */}}
{{- define "api.backend" -}}
{{- if .Values.scaleToZero.enabled -}}
{name: "{{ include "api.fullname" . }}-interceptor", port: {{ .Values.scaleToZero.interceptor.port }}}
{{- else -}}
{name: {{ include "api.fullname" . | quote }}, port: {{ include "api.servicePort" . }}}
{{- end -}}
{{- end -}}
