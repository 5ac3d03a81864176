//! The charts on clusters that are not the test cluster: their names, policies, addresses and mirrors. Each
//! test renders a case that operators have met.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::process::Command;

use serde_json::{Value, json};
use test_support::charts::{config, documents, render, validate};
use test_support::process::{Process, free_port, wait};
use test_support::{folder, tool, versions};

/// Values with which the chart jaeger renders every kind of resource but those that exclude each other.
fn everything() -> Value {
    json!({
        "image": {"tag": versions::jaeger()},
        "storage": {
            "type": "elasticsearch",
            "elasticsearch": {"user": "elastic", "existingSecret": "elasticsearch"},
            "kafka": {"brokers": ["kafka:9092"], "user": "jaeger", "existingSecret": "kafka"},
        },
        "ingester": {"enabled": true, "podDisruptionBudget": {"enabled": true}},
        "agent": {"enabled": true},
        "rollover": {"enabled": true, "policy": "ilm"},
        "collector": {"autoscaling": {"enabled": true}, "podDisruptionBudget": {"enabled": true}},
        "query": {"auth": {"anonymous": true}},
        "ingress": {"enabled": true, "host": "jaeger.example.com"},
        "httpRoute": {"enabled": true, "host": "jaeger.example.com", "parentRefs": [{"name": "gateway"}]},
        "networkPolicy": {"enabled": true},
        "monitoring": {"enabled": true},
    })
}

/// Likewise for the chart of the service.
fn everything_of_the_service() -> Value {
    json!({
        "image": {"repository": "registry.example.com/api"},
        "ingress": {"enabled": true, "host": "asl.example.com"},
        "httpRoute": {"enabled": true, "host": "asl.example.com", "parentRefs": [{"name": "gateway"}]},
        "scaleToZero": {"enabled": true},
        "podDisruptionBudget": {"enabled": true},
        "networkPolicy": {"enabled": true},
        "monitoring": {"dashboard": {"enabled": true}, "alerts": {"enabled": true}},
    })
}

/// Returns values with others on top of them.
fn with(mut values: Value, others: Value) -> Value {
    merge(&mut values, others);
    values
}

fn merge(values: &mut Value, others: Value) {
    match (values, others) {
        (Value::Object(values), Value::Object(others)) => {
            for (key, value) in others {
                merge(values.entry(key).or_insert(Value::Null), value);
            }
        }
        (value, other) => *value = other,
    }
}

/// Renders a chart and returns the text and its manifests.
///
/// # Panics
/// If the chart refuses the values.
fn manifests(test: &str, chart: &str, release: &str, values: &Value) -> (String, Vec<Value>) {
    let rendered = render(test, chart, release, values).unwrap_or_else(|error| panic!("{error}"));
    let manifests = documents(&format!("{test}-documents"), &rendered);
    assert!(manifests.len() >= 3, "{rendered}");
    (rendered, manifests)
}

/// Calls a function with each member of the objects in a value: its path, key and value.
fn each_member(value: &Value, path: &str, see: &mut dyn FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                see(path, key, value);
                each_member(value, &format!("{path}/{key}"), see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_member(item, path, see)),
        _ => {}
    }
}

/// Returns the pods in a manifest: each with its metadata and spec.
fn pods(manifest: &Value) -> Option<&Value> {
    match manifest["kind"].as_str()? {
        "Pod" => Some(manifest),
        "Deployment" | "DaemonSet" | "Job" => manifest.pointer("/spec/template"),
        "CronJob" => manifest.pointer("/spec/jobTemplate/spec/template"),
        "Elasticsearch" => manifest.pointer("/spec/nodeSets/0/podTemplate"),
        _ => None,
    }
}

fn name(manifest: &Value) -> String {
    format!("{} {}", manifest["kind"], manifest["metadata"]["name"])
}

/// GitOps tools make release names from cluster, namespace and application. Kubernetes' limits are 63 for
/// Services, labels and Jobs, and 52 for CronJobs; ECK's is 36.
#[test]
fn long_release_names_fit_and_stay_unique() {
    let provisioned = json!({
        "storage": {"type": "elasticsearch", "elasticsearch": {"user": "", "existingSecret": ""}},
        "provisionDataStore": {"elasticsearch": true},
        "rollover": {"enabled": false},
    });
    for (chart, values) in [
        ("jaeger", everything()),
        ("jaeger", with(everything(), provisioned)),
        ("hand-gesture-api", everything_of_the_service()),
    ] {
        for length in [20, 35, 43, 53] {
            let mut found = Vec::new();
            for last in ["a", "b"] {
                let release = "cluster-namespace-".repeat(3)[..length - 1].replace('-', "x") + last;
                let (_, manifests) = manifests("long-names", chart, &release, &values);
                let mut names = BTreeSet::new();
                for manifest in &manifests {
                    let (kind, name) = (&manifest["kind"], &manifest["metadata"]["name"]);
                    let limit = match kind.as_str().expect("a kind") {
                        "CronJob" => 52,
                        "Elasticsearch" => 36,
                        _ => 63,
                    };
                    let name = name.as_str().expect("a name");
                    assert!(name.len() <= limit, "{kind} {name}: {} characters", name.len());
                    assert!(names.insert(format!("{kind} {name}")), "{kind} {name} twice");
                    each_member(manifest, "", &mut |path, key, value| {
                        let text = value.as_str().unwrap_or_default();
                        if path.ends_with("/labels") || path.ends_with("/matchLabels") {
                            assert!(text.len() <= 63, "{path}/{key}: {text}");
                        }
                    });
                }
                found.push(names);
            }
            let same: Vec<_> = found[0].intersection(&found[1]).collect();
            assert!(same.is_empty(), "two releases share {same:?}");
        }
    }
}

/// Every reference between resources names a resource that exists, however long the release's name is.
#[test]
fn long_release_names_are_referred_to_as_they_are() {
    let release = "x".repeat(53);
    let (_, manifests) = manifests("references", "jaeger", &release, &everything());
    let names = |kind: &str| -> BTreeSet<&str> {
        let of_kind = manifests.iter().filter(|manifest| manifest["kind"] == kind);
        of_kind.filter_map(|manifest| manifest["metadata"]["name"].as_str()).collect()
    };
    let mut seen = 0;
    for manifest in &manifests {
        each_member(manifest, "", &mut |path, key, value| {
            let kind = match (path.rsplit('/').next().unwrap_or_default(), key) {
                ("configMap", "name") => "ConfigMap",
                ("scaleTargetRef", "name") => "Deployment",
                ("spec", "serviceAccountName") => "ServiceAccount",
                ("service", "name") | ("backendRefs", "name") => "Service",
                _ => return,
            };
            let name = value.as_str().expect("a name");
            assert!(names(kind).contains(name), "{path}: no {kind} {name}");
            seen += 1;
        });
    }
    assert!(seen >= 10, "only {seen} references");
}

#[test]
fn names_that_no_service_may_have_are_refused() {
    for (chart, values) in
        [("jaeger", json!({})), ("hand-gesture-api", everything_of_the_service())]
    {
        for release in ["1a", "a.b"] {
            let error = render("refused-names", chart, release, &values).expect_err("refused");
            assert!(error.contains("set fullnameOverride, for instance to "), "{error}");
            let values = with(values.clone(), json!({"fullnameOverride": "fine"}));
            render("refused-names", chart, release, &values).expect("a name that fits");
        }
    }
}

/// Keys whose values are text, wherever they stand in a manifest.
const TEXTS: [&str; 11] = [
    "name",
    "namespace",
    "secretName",
    "claimName",
    "key",
    "value",
    "host",
    "storageClassName",
    "ingressClassName",
    "serviceAccountName",
    "priorityClassName",
];

/// YAML takes `100234` for a number and `true` for a boolean. Kubernetes and Jaeger then refuse them.
#[test]
fn text_that_looks_like_numbers_or_booleans_stays_text() {
    for odd in ["100234", "true", "null", "1e3", "0x10", "2026-11-27"] {
        let labels = json!({"a": odd, "b": 100_234, "c": true, "d": 1_048_576.0});
        let pods = json!({
            "podLabels": labels, "podAnnotations": labels, "nodeSelector": {"a": odd},
            "priorityClassName": odd,
        });
        let jaeger = json!({
            "labels": labels,
            "nameOverride": odd,
            "fullnameOverride": "true",
            "image": {"tag": odd},
            "pods": pods,
            "storage": {
                "elasticsearch": {
                    "user": odd, "existingSecret": odd, "existingSecretKey": odd,
                    "indexPrefix": odd,
                },
                "kafka": {
                    "user": odd, "topic": odd, "groupId": odd, "existingSecret": odd,
                    "existingSecretKey": odd,
                },
            },
            "rollover": {"policyName": odd},
            "ingress": {"host": odd, "className": odd, "annotations": labels,
                "tls": {"secretName": odd, "clusterIssuer": odd}},
            "httpRoute": {"host": odd, "annotations": labels},
            "collector": {"service": {"annotations": labels}},
            "serviceAccount": {"annotations": labels},
            "monitoring": {"labels": labels},
        });
        let api = json!({
            "labels": labels, "podLabels": labels, "podAnnotations": labels,
            "nodeSelector": {"a": odd},
            "priorityClassName": odd,
            "nameOverride": odd,
            "fullnameOverride": "true",
            "otlpHeadersSecret": {"name": odd, "key": odd},
            "feedbackTokenSecret": {"name": odd, "key": odd},
            "settings": {"otelServiceName": odd, "maxPixels": 1_048_576.0},
            "service": {"annotations": labels},
            "ingress": {"host": odd, "className": odd, "annotations": labels,
                "tls": {"secretName": odd, "clusterIssuer": odd}},
            "httpRoute": {"host": odd, "annotations": labels},
        });
        let spinkube = json!({
            "runtime": "spinkube",
            "podDisruptionBudget": {"enabled": false},
            "spinkube": {"executor": odd, "createExecutor": true, "runtimeClassName": odd,
                "invocationLimits": {"memory": 1_048_576}},
        });
        let cases = [
            ("jaeger", with(everything(), jaeger)),
            ("hand-gesture-api", with(everything_of_the_service(), api.clone())),
            ("hand-gesture-api", with(with(everything_of_the_service(), api), spinkube)),
        ];
        for (chart, values) in cases {
            let (rendered, manifests) = manifests("odd-text", chart, "r", &values);
            for manifest in &manifests {
                let about = name(manifest);
                each_member(manifest, "", &mut |path, key, value| {
                    let texts = [
                        "labels",
                        "annotations",
                        "matchLabels",
                        "nodeSelector",
                        "podLabels",
                        "podAnnotations",
                        "serviceAnnotations",
                        "invocationLimits",
                    ];
                    let map = path.rsplit('/').next().unwrap_or_default();
                    let text = TEXTS.contains(&key) || texts.contains(&map);
                    assert!(!text || value.is_string(), "{about}: {path}/{key} is {value}");
                });
            }
            if chart == "jaeger" {
                let odd_config = |role: &str, path: &str| {
                    let text = config(&rendered, &format!("true-{role}"), "config.yaml");
                    let config = documents("odd-text-config", &text).remove(0);
                    let value = config.pointer(path).unwrap_or_else(|| panic!("{path}: {config}"));
                    assert_eq!(value, odd, "{role}: {path}");
                };
                odd_config("collector", "/exporters/kafka/auth/sasl/username");
                odd_config("collector", "/exporters/kafka/traces/topic");
                odd_config("ingester", "/receivers/kafka/group_id");
                let traces = "/extensions/jaeger_storage/backends/traces/elasticsearch";
                odd_config("query", &format!("{traces}/auth/basic/username"));
            }
        }
    }
}

/// Kubernetes expands $(NAME) only if NAME stands before it.
#[test]
fn settings_are_expanded_by_variables_that_stand_before_them() {
    let values = json!({
        "container": {"extraEnv": [
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "SPIN_VARIABLE_OTEL_SERVICE_NAME", "value": "mine"},
        ]},
        "settings": {"jaegerHostname": "$(POD_NAME)", "jaegerCollectorHost": "$(HOST_IP)"},
        "networkPolicy": {"enabled": true},
    });
    let endpoint = json!({"settings": {"otelExporterOtlpEndpoint": "http://$(HOST_IP):4318"}});
    for values in [values.clone(), with(values, endpoint)] {
        let values = with(everything_of_the_service(), values);
        let (_, manifests) = manifests("expanded", "hand-gesture-api", "a", &values);
        let pod = manifests.iter().find(|manifest| manifest["kind"] == "Deployment").and_then(pods);
        let environment = pod.and_then(|pod| pod["spec"]["containers"][0]["env"].as_array());
        let environment = environment.expect("an environment");
        let at = |name: &str| {
            let mut named = environment.iter().enumerate().filter(|(_, one)| one["name"] == name);
            let found = named.next().unwrap_or_else(|| panic!("no {name}"));
            assert!(named.next().is_none(), "{name} twice");
            found
        };
        for (setting, value, needs) in [
            ("SPIN_VARIABLE_JAEGER_HOSTNAME", "$(POD_NAME)", "POD_NAME"),
            ("SPIN_VARIABLE_COLLECTOR_ALLOWED_HOST", "http://$(HOST_IP):4318", "HOST_IP"),
        ] {
            let (place, found) = at(setting);
            assert_eq!(found["value"], value);
            assert!(at(needs).0 < place, "{needs} stands after {setting}");
        }
        // What the operator gives takes precedence, as a later variable would.
        assert_eq!(at("SPIN_VARIABLE_OTEL_SERVICE_NAME").1["value"], "mine");
        let policy = manifests.iter().find(|manifest| manifest["kind"] == "NetworkPolicy");
        let egress = &policy.expect("a policy")["spec"]["egress"];
        assert!(egress.to_string().contains("4318"), "{egress}");
    }
}

/// OpenShift's policies choose the user, and refuse any other.
#[test]
fn user_is_left_to_the_cluster_if_asked() {
    let mut seen = 0;
    for (chart, values, user) in [
        ("jaeger", everything(), "pods"),
        ("hand-gesture-api", everything_of_the_service(), "container"),
    ] {
        for (id, expected) in [(json!(null), None), (json!(1_000_650_000), Some("1000650000"))] {
            let values = with(values.clone(), json!({user: {"user": id}}));
            let (_, manifests) = manifests("user", chart, "a", &values);
            for (about, pod) in manifests.iter().filter_map(|one| Some((name(one), pods(one)?))) {
                let context = &pod["spec"]["securityContext"];
                assert_eq!(context["runAsNonRoot"], true, "{about}");
                for field in ["runAsUser", "runAsGroup", "fsGroup"] {
                    let found = context.get(field).map(Value::to_string);
                    assert_eq!(found.as_deref(), expected, "{about}: {field}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "only {seen} pods");
}

/// Event Hubs, MSK, Aiven and others have certificates of public authorities. The user of Event Hubs is
/// `$ConnectionString`, in which Jaeger would look for a variable.
#[test]
fn public_authorities_need_no_secret_and_dollars_stay() {
    let kafka = json!({
        "storage": {"kafka": {"user": "$ConnectionString", "mechanism": "PLAIN", "tls": {"enabled": true}}},
    });
    let cassandra = json!({
        "storage": {"type": "cassandra", "cassandra": {
            "host": "cassandra.example.com", "user": "${env:HOME}", "existingSecret": "cassandra",
            "tls": {"enabled": true},
        }},
        "rollover": {"enabled": false},
    });
    let values = with(with(everything(), kafka), cassandra);
    let rendered = render("public", "jaeger", "jaeger", &values).expect("rendered");
    assert_eq!(validate(&rendered, &folder("public-validated")), 4);
    for (role, path) in [("collector", "/exporters/kafka"), ("ingester", "/receivers/kafka")] {
        let text = config(&rendered, &format!("jaeger-{role}"), "config.yaml");
        let config = documents("public-config", &text).remove(0);
        let kafka = config.pointer(path).expect("Kafka");
        assert_eq!(kafka["auth"]["sasl"]["username"], "$$ConnectionString");
        assert_eq!(kafka["tls"], json!({"insecure": false}));
    }
    let text = config(&rendered, "jaeger-query", "config.yaml");
    let config = documents("public-config", &text).remove(0);
    let connection = "/extensions/jaeger_storage/backends/traces/cassandra/connection";
    let connection = config.pointer(connection).expect("Cassandra");
    assert_eq!(connection["auth"]["basic"]["username"], "$${env:HOME}");
    assert_eq!(connection["tls"], json!({"insecure": false}));
    assert!(!rendered.contains("secretName"), "{rendered}");
}

/// Nodes with taints, quotas, LimitRanges and a service mesh: what `pods` says holds for every pod, and
/// `jobs` takes precedence for jobs and `helm test`.
#[test]
fn every_pod_gets_what_the_cluster_asks_for() {
    let tolerations = |value: &str| json!([{"key": "team", "operator": "Equal", "value": value, "effect": "NoSchedule"}]);
    let common = json!({
        "podLabels": {"team": "ml", "mesh": "on"},
        "podAnnotations": {"cost": "7", "mesh": "on"},
        "priorityClassName": "high",
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "nodeSelector": {"pool": "ml"},
        "tolerations": tolerations("ml"),
        "affinity": {"nodeAffinity": {}},
    });
    let apart = json!({
        "podLabels": {"mesh": "off"},
        "podAnnotations": {"mesh": "off"},
        "resources": {"requests": {"cpu": "11m"}, "limits": {"cpu": "99m", "memory": "77Mi"}},
    });
    let jaeger = json!({
        "imagePullSecrets": [{"name": "registry"}],
        "pods": common,
        "jobs": with(apart.clone(), json!({"tolerations": tolerations("jobs")})),
        "query": {"tolerations": tolerations("query")},
    });
    let provisioned = json!({
        "storage": {"elasticsearch": {"user": "", "existingSecret": ""}},
        "provisionDataStore": {"elasticsearch": true},
        "rollover": {"enabled": false},
    });
    let api =
        with(json!({"imagePullSecrets": [{"name": "registry"}], "test": apart}), common.clone());
    let mut seen = BTreeSet::new();
    for (chart, values) in [
        ("jaeger", with(everything(), jaeger.clone())),
        ("jaeger", with(with(everything(), jaeger), provisioned)),
        ("hand-gesture-api", with(everything_of_the_service(), api)),
    ] {
        let (_, manifests) = manifests("every-pod", chart, "r", &values);
        for (about, pod) in manifests.iter().filter_map(|one| Some((name(one), pods(one)?))) {
            let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
            let is_job =
                ["\"Job\"", "\"CronJob\"", "\"Pod\""].iter().any(|job| about.starts_with(job));
            let mesh = if is_job { "off" } else { "on" };
            assert_eq!(metadata["labels"]["team"], "ml", "{about}");
            assert_eq!(metadata["labels"]["mesh"], mesh, "{about}");
            assert_eq!(metadata["annotations"]["cost"], "7", "{about}");
            assert_eq!(metadata["annotations"]["mesh"], mesh, "{about}");
            for field in ["priorityClassName", "dnsConfig", "nodeSelector", "affinity"] {
                assert_eq!(spec[field], common[field], "{about}: {field}");
            }
            let tolerated = match chart {
                "jaeger" if is_job => "jobs",
                "jaeger" if about.contains("-query") => "query",
                _ => "ml",
            };
            assert_eq!(spec["tolerations"], tolerations(tolerated), "{about}");
            assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]), "{about}");
            for container in spec["containers"].as_array().expect("containers") {
                let limits = &container["resources"]["limits"];
                assert!(limits["memory"].is_string(), "{about}: {container}");
                let expected = if is_job { json!("99m") } else { Value::Null };
                assert_eq!(limits["cpu"], expected, "{about}");
            }
            seen.insert(about);
        }
    }
    let kinds: BTreeSet<_> = seen.iter().filter_map(|about| about.split(' ').next()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "\"CronJob\"",
            "\"DaemonSet\"",
            "\"Deployment\"",
            "\"Elasticsearch\"",
            "\"Job\"",
            "\"Pod\""
        ]
    );
}

/// Volumes, containers before and beside the main one, node ports, hosts, a mirror.
#[test]
fn what_operators_add_everywhere_is_taken() {
    let container = |name: &str| json!([{"name": name, "image": "busybox"}]);
    let added = json!({
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "initContainers": container("before"),
        "sidecars": container("beside"),
    });
    let hosts = json!({"extraHosts": ["two.example.com", "three.example.com"]});
    let exposure = json!({
        "imageRegistry": "mirror.example.com/hub/",
        "ingress": with(hosts.clone(), json!({"className": "", "tls": {"secretName": "tls"}})),
        "httpRoute": hosts,
    });
    let jaeger = json!({
        "collector": with(added.clone(), json!({"service": {"type": "NodePort", "nodePorts": {"otlp-http": 30318}}})),
        "query": with(added.clone(), json!({"service": {"type": "NodePort", "nodePorts": {"query-http": 30686}}})),
        "ingester": added,
        "agent": added,
        "storage": {"elasticsearch": {"user": "", "existingSecret": ""}},
        "provisionDataStore": {"elasticsearch": true},
        "rollover": {"enabled": false},
    });
    let api = json!({
        "image": {"repository": "asl/api"},
        "container": added,
        "service": {"type": "NodePort", "nodePort": 30080},
    });
    for (chart, values, node_ports) in [
        ("jaeger", with(everything(), jaeger), &[30318, 30686][..]),
        ("hand-gesture-api", with(everything_of_the_service(), api), &[30080]),
    ] {
        let (_, manifests) = manifests("added", chart, "r", &with(values, exposure.clone()));
        let of_kind = |kind: &'static str| manifests.iter().filter(move |one| one["kind"] == kind);
        let mut found = 0;
        for manifest in of_kind("Deployment").chain(of_kind("DaemonSet")) {
            let (about, spec) = (name(manifest), &pods(manifest).expect("pods")["spec"]);
            assert_eq!(spec["initContainers"], container("before"), "{about}");
            let containers = spec["containers"].as_array().expect("containers");
            assert_eq!(containers[1..], *container("beside").as_array().expect("one"), "{about}");
            let mounts = containers[0]["volumeMounts"].to_string();
            assert!(mounts.contains("\"/extra\""), "{about}: {mounts}");
            assert!(spec["volumes"].to_string().contains("\"extra\""), "{about}");
            found += 1;
        }
        assert_eq!(found, if chart == "jaeger" { 4 } else { 1 });
        let ports: Vec<_> = of_kind("Service")
            .flat_map(|service| service["spec"]["ports"].as_array().expect("ports").clone())
            .filter_map(|port| port["nodePort"].as_i64())
            .collect();
        assert_eq!(ports, node_ports);
        let ingress = of_kind("Ingress").next().expect("an Ingress");
        assert!(ingress["spec"].get("ingressClassName").is_none(), "{ingress}");
        let rules = ingress["spec"]["rules"].as_array().expect("rules");
        let hosts: Vec<_> = rules.iter().map(|rule| rule["host"].clone()).collect();
        assert_eq!(hosts.len(), 3, "{ingress}");
        assert_eq!(ingress["spec"]["tls"][0]["hosts"], json!(hosts));
        let route = of_kind("HTTPRoute").next().expect("an HTTPRoute");
        assert_eq!(route["spec"]["hostnames"], json!(hosts));
        if chart == "hand-gesture-api" {
            // The page's relative addresses need the slash.
            let rule = &route["spec"]["rules"][0];
            assert_eq!(rule["matches"], json!([{"path": {"type": "Exact", "value": "/api"}}]));
            let path = rule.pointer("/filters/0/requestRedirect/path/replaceFullPath");
            assert_eq!(path, Some(&json!("/api/")), "{route}");
        }
        if let Some(scaled) = of_kind("HTTPScaledObject").next() {
            assert_eq!(scaled["spec"]["hosts"], json!(hosts));
        }
        let mut images = Vec::new();
        for manifest in &manifests {
            each_member(manifest, "", &mut |path, key, value| {
                let own = !path.contains("initContainers") && value != "busybox";
                if key == "image" && own {
                    images.push(value.as_str().expect("an image").to_owned());
                }
            });
        }
        assert!(images.len() >= 2, "{images:?}");
        for image in images {
            assert!(image.starts_with("mirror.example.com/hub/"), "{image}");
            assert!(!image.contains("//"), "{image}");
        }
    }
    let named =
        json!({"imageRegistry": "mirror.example.com", "image": {"repository": "localhost:5000/a"}});
    let (rendered, _) = manifests("named", "jaeger", "r", &named);
    assert!(rendered.contains("image: localhost:5000/a:"), "a repository with a registry keeps it");
}

/// ECK's operator writes its resource back as it reads it: without what is empty, amounts as strings. Where that
/// differs from what Helm applied, it owns the node sets, and the next upgrade conflicts.
#[test]
fn eck_writes_its_resource_back_as_it_was_rendered() {
    let values = json!({
        "storage": {"type": "elasticsearch"},
        "provisionDataStore": {"elasticsearch": true},
        "eck": {"resources": {"requests": {"cpu": 1, "memory": "2Gi"}}},
    });
    let (_, manifests) = manifests("eck", "jaeger", "jaeger", &values);
    let elasticsearch = manifests.iter().find(|one| one["kind"] == "Elasticsearch");
    let template = &elasticsearch.expect("one")["spec"]["nodeSets"][0]["podTemplate"];
    assert_eq!(template["metadata"], json!({}));
    let resources = &template["spec"]["containers"][0]["resources"];
    let expected = json!({"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}});
    assert_eq!(*resources, expected);
}

#[test]
fn base_path_may_end_with_a_slash() {
    for (given, path) in [("", ""), ("/", ""), ("/jaeger", "/jaeger"), ("/jaeger/", "/jaeger")] {
        let values = with(everything(), json!({"query": {"basePath": given}}));
        let (rendered, manifests) = manifests("base-path", "jaeger", "jaeger", &values);
        assert_eq!(validate(&rendered, &folder("base-path-validated")), 4);
        let text = config(&rendered, "jaeger-query", "config.yaml");
        let config = documents("base-path-config", &text).remove(0);
        let found = config.pointer("/extensions/jaeger_query/base_path");
        assert_eq!(found.and_then(Value::as_str).unwrap_or_default(), path, "{given:?}");
        let ingress = manifests.iter().find(|one| one["kind"] == "Ingress").expect("an Ingress");
        let found = ingress.pointer("/spec/rules/0/http/paths/0/path").expect("a path");
        assert_eq!(found, if path.is_empty() { "/" } else { path }, "{given:?}");
    }
}

#[test]
fn memory_limit_sets_gomemlimit_in_every_unit() {
    for (limit, expected) in [
        (json!("512Mi"), "409MiB"),
        (json!("1.5Gi"), "1228MiB"),
        (json!("1Ti"), "838860MiB"),
        (json!("500M"), "381MiB"),
        (json!("1G"), "762MiB"),
        (json!("524288Ki"), "409MiB"),
        (json!("512000k"), "390MiB"),
        (json!("1e9"), "762MiB"),
        (json!("536870912"), "409MiB"),
        (json!(536_870_912), "409MiB"),
    ] {
        let values = json!({"collector": {"resources": {"limits": {"memory": limit}}}});
        let rendered = render("memory", "jaeger", "jaeger", &values).expect("rendered");
        let line = format!("{{name: GOMEMLIMIT, value: {expected}}}");
        assert!(rendered.contains(&line), "{limit}: no {line}");
    }
}

/// A label that the chart sets itself, once more among the common ones, would be a key twice in a map.
#[test]
fn common_labels_may_repeat_the_charts_own() {
    let labels = json!({
        "app.kubernetes.io/managed-by": "argocd",
        "app.kubernetes.io/version": "7",
        "helm.sh/chart": "mine",
        "app.kubernetes.io/name": "other",
        "app.kubernetes.io/instance": "other",
    });
    for (chart, values) in
        [("jaeger", everything()), ("hand-gesture-api", everything_of_the_service())]
    {
        let values = with(values, json!({"labels": labels}));
        let (_, manifests) = manifests("labels", chart, "r", &values);
        for manifest in &manifests {
            let (about, found) = (name(manifest), &manifest["metadata"]["labels"]);
            // Pods of `helm test`, and KEDA's Service, belong to nobody.
            if manifest["kind"] == "Pod" || about.contains("-interceptor") {
                continue;
            }
            assert_eq!(found["app.kubernetes.io/managed-by"], "argocd", "{about}");
            assert_eq!(found["helm.sh/chart"], "mine", "{about}");
            assert_eq!(found["app.kubernetes.io/name"], chart, "{about}");
            assert_eq!(found["app.kubernetes.io/instance"], "r", "{about}");
            let selected = manifest.pointer("/spec/selector/matchLabels");
            let template = manifest.pointer("/spec/template/metadata/labels");
            if let (Some(Value::Object(selected)), Some(template)) = (selected, template) {
                for (label, value) in selected {
                    assert_eq!(&template[label], value, "{about}: {label}");
                }
            }
        }
    }
}

#[test]
fn api_key_signed_requests_and_a_path_are_accepted_by_jaeger() {
    let folder = folder("identities-validated");
    for (identity, name, auth) in [
        (
            json!({"apiKey": {"existingSecret": "keys"}}),
            "api_key",
            json!({"file_path": "/etc/jaeger/storage-api-key/api-key", "reload_interval": "30s"}),
        ),
        (json!({"aws": {"region": "eu-central-1"}}), "authenticator", json!("sigv4auth")),
    ] {
        for storage in ["elasticsearch", "opensearch"] {
            let values = json!({
                "storage": {"type": storage, "elasticsearch": with(
                    json!({"scheme": "https", "host": "es.example.com", "port": 443, "path": "/search/"}),
                    identity.clone(),
                )},
                "indexCleaner": {"enabled": false},
                "networkPolicy": {"enabled": true},
            });
            let (rendered, manifests) = manifests("identities", "jaeger", "jaeger", &values);
            assert_eq!(validate(&rendered, &folder), 2);
            for role in ["collector", "query"] {
                let text = config(&rendered, &format!("jaeger-{role}"), "config.yaml");
                let config = documents("identities-config", &text).remove(0);
                let traces = format!("/extensions/jaeger_storage/backends/traces/{storage}");
                let traces = config.pointer(&traces).expect("the storage");
                assert_eq!(traces["server_urls"], json!(["https://es.example.com:443/search"]));
                assert_eq!(traces["auth"][name], auth, "{role}");
                let signs = config["service"]["extensions"].to_string().contains("sigv4auth");
                assert_eq!(signs, name == "authenticator", "{role}");
            }
            let mounted = rendered.matches("mountPath: /etc/jaeger/storage-api-key").count();
            assert_eq!(mounted, if name == "api_key" { 2 } else { 0 });
            for policy in manifests.iter().filter(|one| one["kind"] == "NetworkPolicy") {
                let egress = policy["spec"]["egress"].to_string();
                assert!(egress.contains("{\"port\":443}"), "{egress}");
            }
        }
    }
}

/// Argo CD and Flux render over and over: equal values must give equal manifests, at installation and
/// afterwards.
#[test]
fn manifests_are_the_same_at_every_sync() {
    for (chart, values) in
        [("jaeger", everything()), ("hand-gesture-api", everything_of_the_service())]
    {
        let first = render("sync", chart, "r", &values).expect("rendered");
        let file = test_support::root().join("target/tmp/sync/values.json");
        let chart = format!("infra/helm/{chart}");
        let again = test_support::charts::helm([
            "template",
            "r",
            &chart,
            "--namespace",
            "tracing",
            "--is-upgrade",
            "--values",
            &file.display().to_string(),
        ]);
        assert!(first == again.expect("rendered"), "{chart} differs at an upgrade");
    }
}

/// On an IPv6-only cluster nothing reaches 0.0.0.0.
#[test]
fn jaeger_listens_on_ipv4_and_ipv6() {
    let folder = folder("both-families");
    let values = json!({"agent": {"enabled": true}});
    let rendered = render("both-families-values", "jaeger", "jaeger", &values).expect("rendered");
    let strategies = config(&rendered, "jaeger-sampling", "strategies.json");
    std::fs::write(folder.join("strategies.json"), strategies).expect("written");
    for role in ["collector", "agent"] {
        let mut text = config(&rendered, &format!("jaeger-{role}"), "config.yaml");
        let mut ports = Vec::new();
        for port in [4317, 4318, 5778, 5779, 9411, 13133, 14250, 14268, 16685, 16686] {
            let given = format!("\":{port}\"");
            if text.contains(&given) {
                let free = free_port();
                text = text.replace(&given, &format!("\":{free}\""));
                ports.push(free);
            }
        }
        assert!(ports.len() >= 5, "{text}");
        let metrics = free_port();
        text = text.replace("port: 8888", &format!("port: {metrics}"));
        ports.push(metrics);
        for port in [6831, 6832] {
            text = text.replace(&format!("\":{port}\""), &format!("\":{}\"", free_port()));
        }
        text = text.replace("/etc/jaeger/sampling", &folder.display().to_string());
        let file = folder.join(format!("{role}.yaml"));
        std::fs::write(&file, text).expect("written");
        let log = folder.join(format!("{role}.log"));
        let jaeger = Process::start(Command::new(tool("jaeger")).arg("--config").arg(&file), &log);
        for port in ports {
            let about = || format!("{role}: {port}: {}", jaeger.log());
            wait(30, about, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
            wait(5, about, || TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
        }
    }
}

/// A collector on the pod's own node, for instance.
#[test]
fn endpoint_of_a_destination_reads_variables() {
    let values = json!({
        "image": {"tag": versions::jaeger()},
        "collector": {"extraEnv": [
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        ]},
        "destinations": [{"name": "node", "endpoint": "http://${env:HOST_IP}:4318"}],
    });
    let rendered = render("destination", "jaeger", "jaeger", &values).expect("rendered");
    assert_eq!(validate(&rendered, &folder("destination-validated")), 1);
    let text = config(&rendered, "jaeger-collector", "config.yaml");
    assert!(text.contains("endpoint: \"http://${env:HOST_IP}:4318\"\n"), "{text}");
}
