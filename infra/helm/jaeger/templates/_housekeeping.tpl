{{/* Jobs that maintain the indices. */}}

{{/* Spec of a Job. Takes root, role, values (with its image), arguments, and optionally command and
     environment. */}}
{{- define "jaeger.housekeepingJob" -}}
{{- $elasticsearch := include "jaeger.elasticsearch" .root | fromYaml -}}
{{- $rollover := .root.Values.rollover -}}
{{- $https := hasPrefix "https" $elasticsearch.url -}}
backoffLimit: 3
template:
  metadata:
    {{- include "jaeger.podMetadata" (dict "root" .root "role" .role "values" .root.Values.jobs) | nindent 4 }}
  spec:
    restartPolicy: Never
    {{- include "jaeger.podFields" (dict "root" .root "values" .root.Values.jobs) | nindent 4 }}
    containers:
      - name: {{ .role }}
        image: {{ include "jaeger.image" (dict "root" .root "image" .values.image "version" (.root.Values.image.tag | default .root.Chart.AppVersion)) }}
        imagePullPolicy: {{ .root.Values.image.pullPolicy }}
        {{- with .command }}
        command: {{ toJson . }}
        {{- end }}
        args: {{ toJson .arguments }}
        env:
          - {name: INDEX_PREFIX, value: {{ $elasticsearch.prefix | quote }}}
          {{- if $elasticsearch.secret }}
          - {name: ES_USERNAME, value: {{ $elasticsearch.user | quote }}}
          {{- include "jaeger.secretVariable" (dict "name" "ES_PASSWORD" "secret" $elasticsearch.secret "key" $elasticsearch.key) | nindent 10 }}
          {{- end }}
          {{- if $https }}
          - {name: ES_TLS_ENABLED, value: "true"}
          {{- if $elasticsearch.tls.insecure }}
          - {name: ES_TLS_SKIP_HOST_VERIFY, value: "true"}
          {{- else if $elasticsearch.tls.secret }}
          - {name: ES_TLS_CA, value: {{ printf "/etc/jaeger/storage-ca/%s" $elasticsearch.tls.key | quote }}}
          {{- end }}
          {{- end }}
          {{- if hasPrefix "rollover" .role }}
          - {name: CONDITIONS, value: {{ toJson $rollover.conditions | quote }}}
          - {name: UNIT, value: {{ $rollover.lookback.unit | quote }}}
          - {name: UNIT_COUNT, value: {{ $rollover.lookback.count | quote }}}
          - {name: SHARDS, value: {{ .root.Values.storage.elasticsearch.shards | quote }}}
          - {name: REPLICAS, value: {{ .root.Values.storage.elasticsearch.replicas | quote }}}
          {{- if eq $rollover.policy "ilm" }}
          - {name: ES_USE_ILM, value: "true"}
          - {name: ES_ILM_POLICY_NAME, value: {{ $rollover.policyName | quote }}}
          {{- end }}
          {{- end }}
          {{- range $name, $value := .environment }}
          - {name: {{ $name }}, value: {{ quote $value }}}
          {{- end }}
        resources:
          {{- toYaml .root.Values.jobs.resources | nindent 10 }}
        securityContext:
          {{- include "jaeger.containerSecurity" . | nindent 10 }}
        {{- if and $https $elasticsearch.tls.secret }}
        volumeMounts:
          - {name: storage-ca, mountPath: /etc/jaeger/storage-ca, readOnly: true}
    volumes:
      - name: storage-ca
        secret: {secretName: {{ $elasticsearch.tls.secret | quote }}}
        {{- end }}
{{- end -}}

{{/* CronJob around that spec. Its name has 52 characters at most: Kubernetes appends the time. */}}
{{- define "jaeger.cronJob" -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "jaeger.metadata" (merge (dict "limit" 52) .) | nindent 2 }}
spec:
  schedule: {{ .values.schedule | quote }}
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      {{- include "jaeger.housekeepingJob" . | nindent 6 }}
{{- end -}}

{{/* Job that puts the lifecycle policy into the storage, in a hook before rollover-init. */}}
{{- define "jaeger.lifecyclePolicy" -}}
{{- $elasticsearch := include "jaeger.elasticsearch" . | fromYaml -}}
{{- $rollover := .Values.rollover -}}
{{- $prefix := $elasticsearch.prefix | empty | ternary "" (printf "%s-" $elasticsearch.prefix) -}}
{{- $age := printf "%dd" (int .Values.indexCleaner.days) -}}
{{- $ilm := dict "policy" (dict "phases" (dict
      "hot" (dict "actions" (dict "rollover" $rollover.conditions))
      "delete" (dict "min_age" $age "actions" (dict "delete" dict)))) -}}
{{- $ism := dict "policy" (dict "description" "Deletes Jaeger's old indices" "default_state" "open"
      "states" (list
        (dict "name" "open" "actions" list "transitions" (list (dict "state_name" "delete" "conditions" (dict "min_index_age" $age))))
        (dict "name" "delete" "actions" (list (dict "delete" dict)) "transitions" list))
      "ism_template" (list (dict "index_patterns" (list (printf "%sjaeger-span-*" $prefix) (printf "%sjaeger-service-*" $prefix)) "priority" 1))) -}}
{{- $path := eq $rollover.policy "ilm" | ternary "_ilm/policy" "_plugins/_ism/policies" -}}
{{- $environment := dict
      "POLICY" (eq $rollover.policy "ilm" | ternary $ilm $ism | toJson)
      "POLICY_URL" (printf "%s/%s/%s" $elasticsearch.url $path $rollover.policyName) -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "jaeger.metadata" (dict "root" . "role" "lifecycle-policy") | nindent 2 }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-weight: "0"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "jaeger.housekeepingJob" (dict "root" . "role" "lifecycle-policy" "values" .Values.test "command" (list "sh" "-c") "arguments" (list (.Files.Get "files/put-policy.sh")) "environment" $environment) | nindent 2 }}
{{- end -}}
