{{/* Rejects values that cannot work together, with the remedy. values.schema.json checks types and
     spelling. */}}
{{- define "jaeger.validate" -}}
{{- $values := .Values -}}
{{- $storage := $values.storage -}}
{{- $namespace := .Release.Namespace -}}

{{- $name := include "jaeger.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "\n\nThe name %q is no name of a Service, which has lower-case letters, digits and dashes, and a letter first: set fullnameOverride, for instance to jaeger." $name) -}}
{{- end -}}

{{- range $store := list "elasticsearch" "cassandra" "kafka" -}}
{{- $given := index $storage $store -}}
{{- if $given.password -}}
{{- fail (printf "\n\nstorage.%s.password is refused: values end up in the release's history and in files. Put the password in a secret:\n\n    kubectl --namespace %s create secret generic %s-credentials --from-literal=password=…\n\nand set storage.%s.existingSecret=%s-credentials.\n" $store $namespace $store $store $store) -}}
{{- end -}}
{{- if and $given.user (not $given.existingSecret) -}}
{{- fail (printf "\n\nstorage.%s.user is set, but no secret with the password. Make one:\n\n    kubectl --namespace %s create secret generic %s-credentials --from-literal=password=…\n\nand set storage.%s.existingSecret=%s-credentials.\n" $store $namespace $store $store $store) -}}
{{- end -}}
{{- if and $given.existingSecret (not $given.user) -}}
{{- fail (printf "\n\nstorage.%s.existingSecret is set, but no user: set storage.%s.user, for instance elastic." $store $store) -}}
{{- end -}}
{{- end -}}

{{- if eq $storage.type "kafka" -}}
{{- fail "\n\nstorage.type=kafka: Kafka is no store, it stands in front of one. Set ingester.enabled=true and storage.kafka.brokers, and storage.type to the store behind it: elasticsearch, opensearch or cassandra." -}}
{{- end -}}
{{- $oneProcess := has $storage.type (list "memory" "badger") -}}
{{- if $values.ingester.enabled -}}
{{- if $oneProcess -}}
{{- fail (printf "\n\ningester.enabled=true with storage.type=%s: ingester and query are two processes, and %s belongs to one. Set storage.type to elasticsearch, opensearch or cassandra." $storage.type $storage.type) -}}
{{- end -}}
{{- if not $storage.kafka.brokers -}}
{{- fail "\n\ningester.enabled=true, but storage.kafka.brokers is empty: set it, for instance {kafka:9092}." -}}
{{- end -}}
{{- end -}}
{{- if $oneProcess -}}
{{- if or (gt (int $values.collector.replicas) 1) $values.collector.autoscaling.enabled (gt (int $values.query.replicas) 1) $values.query.autoscaling.enabled -}}
{{- fail (printf "\n\nstorage.type=%s has one pod: each would have its own spans. Set collector.replicas and query.replicas to 1 without autoscaling, or storage.type to elasticsearch, opensearch or cassandra." $storage.type) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (include "jaeger.samplingRole" .) "collector") (or (gt (int $values.collector.replicas) 1) $values.collector.autoscaling.enabled) -}}
{{- fail "\n\ntailSampling.enabled=true with several collectors: each would decide on its part of a trace. Set collector.replicas to 1 without autoscaling, or ingester.enabled=true: Kafka leads all spans of a trace to one ingester." -}}
{{- end -}}
{{- if and $values.spanMetrics.enabled (not $values.spanMetrics.prometheusUrl) -}}
{{- fail "\n\nspanMetrics.enabled=true, but spanMetrics.prometheusUrl is empty: name the Prometheus that query reads, for instance http://prometheus-operated.monitoring.svc:9090." -}}
{{- end -}}
{{- if and $values.provisionDataStore.elasticsearch (ne $storage.type "elasticsearch") -}}
{{- fail (printf "\n\nprovisionDataStore.elasticsearch=true, but storage.type=%s would not use it: set storage.type=elasticsearch." $storage.type) -}}
{{- end -}}
{{- with $storage.elasticsearch -}}
{{- if gt (list .user .apiKey.existingSecret .aws.region | compact | len) 1 -}}
{{- fail "\n\nstorage.elasticsearch has more than one identity: set one of user, apiKey.existingSecret and aws.region." -}}
{{- end -}}
{{- if and (include "jaeger.hasIndices" $) (or .apiKey.existingSecret .aws.region) (or $values.indexCleaner.enabled $values.rollover.enabled) -}}
{{- fail (printf "\n\nindexCleaner and rollover know users with passwords only, and storage.elasticsearch.%s is set. Set indexCleaner.enabled=false and rollover.enabled=false, and let the storage's own lifecycle management delete old indices." (.aws.region | empty | ternary "apiKey" "aws.region")) -}}
{{- end -}}
{{- end -}}

{{- if and $values.rollover.enabled (not (include "jaeger.hasIndices" .)) -}}
{{- fail (printf "\n\nrollover.enabled=true with storage.type=%s: only elasticsearch and opensearch have indices to roll over." $storage.type) -}}
{{- end -}}
{{- if and $values.rollover.enabled $values.provisionDataStore.elasticsearch -}}
{{- fail "\n\nrollover.enabled=true with provisionDataStore.elasticsearch=true: the indices must be made before Jaeger starts, and the store is not there yet. Install without rollover first, or use an Elasticsearch that exists." -}}
{{- end -}}
{{- if and $values.rollover.enabled (or (and (eq $values.rollover.policy "ilm") (ne $storage.type "elasticsearch")) (and (eq $values.rollover.policy "ism") (ne $storage.type "opensearch"))) -}}
{{- fail (printf "\n\nrollover.policy=%s does not go with storage.type=%s: ilm is Elasticsearch's, ism OpenSearch's." $values.rollover.policy $storage.type) -}}
{{- end -}}

{{- range $kind := list "ingress" "httpRoute" -}}
{{- $way := index $values $kind -}}
{{- if $way.enabled -}}
{{- if not $way.host -}}
{{- fail (printf "\n\n%s.enabled=true, but %s.host is empty: set it, for instance jaeger.192.0.2.10.nip.io with your ingress controller's address." $kind $kind) -}}
{{- end -}}
{{- if not (or $values.query.auth.htpasswdSecret $values.query.auth.anonymous) -}}
{{- fail (printf "\n\n%s.enabled=true shows everybody's traces to everybody. Ask for a login:\n\n    htpasswd -nB NAME > htpasswd\n    kubectl --namespace %s create secret generic jaeger-logins --from-file=htpasswd\n\nand set query.auth.htpasswdSecret=jaeger-logins; or set query.auth.anonymous=true if that is meant." $kind $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- fail "\n\nhttpRoute.enabled=true, but httpRoute.parentRefs is empty: name the gateway, for instance [{name: gateway, namespace: gateways}]." -}}
{{- end -}}
{{- if and $values.ingress.tls.clusterIssuer (not $values.ingress.tls.secretName) -}}
{{- fail "\n\ningress.tls.clusterIssuer is set, but not ingress.tls.secretName: name the secret that cert-manager shall write, for instance jaeger-tls." -}}
{{- end -}}
{{- if and $values.agent.enabled $values.collector.otlp.auth.htpasswdSecret (not $values.collector.otlp.auth.clientSecret) -}}
{{- fail "\n\nagent.enabled=true, and the collector asks for a login: set collector.otlp.auth.clientSecret, a secret with the keys username and password." -}}
{{- end -}}
{{- range $values.destinations -}}
{{- if and .headers (not .headersSecret) -}}
{{- fail (printf "\n\ndestinations: %s has headers, but no headersSecret: the secret whose keys they are." .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
