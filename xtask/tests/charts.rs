//! The charts: they render what is in git, Jaeger accepts its configurations, and values that cannot work
//! are refused with the remedy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use test_support::charts::{config, documents, helm, render_jaeger, validate};
use test_support::{expected, folder, output, root, tool};

/// Returns the examples of a chart, each a folder of `examples`, with Helm's arguments for its values. An
/// example that is named like a value file of the chart renders that file, with its own values on top.
fn examples(chart: &str) -> Vec<(PathBuf, Vec<String>)> {
    let folder = root().join("infra/helm").join(chart);
    let mut examples = Vec::new();
    for entry in std::fs::read_dir(folder.join("examples")).expect("examples") {
        let example = entry.expect("an entry").path();
        let of_chart = folder.join(example.file_name().expect("a name")).with_extension("yaml");
        let mut arguments = Vec::new();
        for values in [of_chart, example.join("values.yaml")] {
            if values.exists() {
                arguments.extend(["--values".to_owned(), values.display().to_string()]);
            }
        }
        assert!(!arguments.is_empty(), "{} has no values", example.display());
        examples.push((example, arguments));
    }
    examples.sort();
    examples
}

/// Compares each example with its `rendered.yaml`: [`expected`].
fn assert_rendered(chart: &str, release: &str, namespace: &str) {
    let path = format!("infra/helm/{chart}");
    let mut differences = Vec::new();
    for (example, values) in examples(chart) {
        let mut arguments = vec!["template", release, &path, "--namespace", namespace];
        arguments.extend(values.iter().map(String::as_str));
        let rendered = helm(&arguments).unwrap_or_else(|error| panic!("{example:?}: {error}"));
        differences.extend(expected::compare(&example.join("rendered.yaml"), &rendered).err());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn chart_jaeger_renders_expected_manifests() {
    assert_rendered("jaeger", "jaeger", "tracing");
}

#[test]
fn chart_of_the_service_renders_expected_manifests() {
    assert_rendered("hand-gesture-api", "hand-gesture-api", "asl");
}

#[test]
fn charts_pass_helm_lint() {
    for (chart, set) in [("jaeger", "image.tag="), ("hand-gesture-api", "image.repository=r/a")] {
        helm(["lint", "--strict", &format!("infra/helm/{chart}"), "--set", set])
            .expect("no mistake");
    }
}

/// Each example's configuration, rendered for the Jaeger under test and judged by it.
#[test]
fn jaeger_accepts_every_configuration() {
    let folder = folder("configurations");
    let mut seen = 0;
    for (_, values) in examples("jaeger") {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        seen += validate(&render_jaeger(&values), &folder);
    }
    assert!(seen >= 20, "only {seen} configurations");
}

/// The test above can fail.
#[test]
fn jaeger_rejects_an_unknown_key() {
    let file = folder("unknown-key").join("config.yaml");
    let rendered = render_jaeger(&[]);
    let text = config(&rendered, "jaeger-collector", "config.yaml");
    std::fs::write(&file, text.replace("max_traces", "most_traces")).expect("written");
    let error = output(Command::new(tool("jaeger")).args(["validate", "--config"]).arg(&file));
    assert!(error.expect_err("refused").contains("most_traces"));
}

/// Helm passes numbers of files as floating-point numbers, and fractions of `--set` as text.
#[test]
fn numbers_are_rendered_unchanged() {
    let number = r#"{"otelTracesSamplerArg": 0.1, "maxPixels": 50000000}"#;
    for (option, settings) in [
        ("--set-json", format!("settings={number}")),
        ("--set", "settings.otelTracesSamplerArg=0.1,settings.maxPixels=50000000".into()),
    ] {
        let chart = ["template", "a", "infra/helm/hand-gesture-api", "--set", "image.repository=r"];
        let rendered = helm(chart.into_iter().chain([option, &settings])).expect("rendered");
        for (name, value) in [("OTEL_TRACES_SAMPLER_ARG", "0.1"), ("MAX_PIXELS", "50000000")] {
            let line = format!("{{name: SPIN_VARIABLE_{name}, value: \"{value}\"}}");
            assert!(rendered.contains(&line), "{option}: no {line} in {rendered}");
        }
    }
    for option in ["--set-json", "--set"] {
        let rendered = render_jaeger(&[option, "sampling.defaultProbability=0.25"]);
        let strategies = config(&rendered, "jaeger-sampling", "strategies.json");
        assert!(strategies.contains("\"param\": 0.25,"), "{option}: {strategies}");
        let collector = config(&rendered, "jaeger-collector", "config.yaml");
        assert!(
            collector.contains("default_sampling_probability: 0.25\n"),
            "{option}: {collector}"
        );
    }
}

/// The component adds brackets to an address by itself. Its host must allow the same place.
#[test]
fn ipv6_collector_is_allowed_in_brackets() {
    for host in ["::1", "[::1]", "2001:db8::4318"] {
        let settings = format!("settings={{\"jaegerCollectorHost\": \"{host}\"}}");
        let chart = ["template", "a", "infra/helm/hand-gesture-api", "--set", "image.repository=r"];
        let rendered = helm(chart.into_iter().chain(["--set-json", &settings])).expect("rendered");
        let address = host.trim_matches(['[', ']']);
        let line = format!(
            "{{name: SPIN_VARIABLE_COLLECTOR_ALLOWED_HOST, value: \"http://[{address}]:4318\"}}"
        );
        assert!(rendered.contains(&line), "{host}: no {line} in {rendered}");
    }
}

/// The token of the export of corrections stands in no value: it comes from a secret, on both runtimes.
#[test]
fn token_of_corrections_comes_from_a_secret() {
    let rendered = |runtime: &str| {
        let set = format!("image.repository=r,runtime={runtime},feedbackTokenSecret.name=s");
        helm(["template", "a", "infra/helm/hand-gesture-api", "--set", &set]).expect("rendered")
    };
    for (runtime, name) in
        [("container", "SPIN_VARIABLE_FEEDBACK_TOKEN"), ("spinkube", "feedback_token")]
    {
        let rendered = rendered(runtime);
        let (_, after) = rendered.split_once(&format!("- name: {name}\n")).expect("a variable");
        let lines: Vec<_> = after.lines().take(2).map(str::trim).collect();
        let expected = ["valueFrom:", "secretKeyRef: {name: \"s\", key: \"token\"}"];
        assert_eq!(lines, expected, "{runtime}");
    }
}

/// The notes of an installation, and the refusal of one without an image, name the component of the
/// executor's world.
#[test]
fn advice_for_spinkube_is_that_of_its_world() {
    let notes = |world: &str| {
        let set = format!("image.repository=r,runtime=spinkube,spinkube.world={world}");
        let chart = ["install", "a", "infra/helm/hand-gesture-api", "--dry-run=client"];
        helm(chart.into_iter().chain(["--set", &set])).expect("notes")
    };
    let advice = "shim must be built on Spin 4.1 or newer";
    assert!(notes("spin").contains(advice), "{}", notes("spin"));
    assert!(!notes("spin-p2").contains(advice), "{}", notes("spin-p2"));
    let push = "spin registry push --from spin-p2.toml REGISTRY/hand-gesture-api:0.1.0-p2";
    refused("hand-gesture-api", "runtime=spinkube", push);
}

/// Where no pod runs, KEDA's interceptor alone answers. `helm test` asks it, the policy admits it, and it waits as long
/// as a start may take.
#[test]
fn scale_to_zero_leads_every_request_through_the_interceptor() {
    let rendered = |values: &str| {
        let set = format!(
            "image.repository=r,startupSeconds=33,networkPolicy.enabled=true,\
             networkPolicy.from[0].podSelector.matchLabels.app=gateway,\
             ingress.enabled=true,ingress.host=asl.example.org,{values}"
        );
        helm(["template", "a", "infra/helm/hand-gesture-api", "--set", &set]).expect("rendered")
    };
    let peer = "- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: \"scaling\"}}";
    let scaled = "scaleToZero.enabled=true,scaleToZero.responseSeconds=7,\
                  scaleToZero.interceptor.namespace=scaling,scaleToZero.interceptor.port=81";
    for runtime in ["container", "spinkube"] {
        let rendered = rendered(&format!("runtime={runtime},{scaled}"));
        for line in [
            "timeouts: {conditionWait: 33s, responseHeader: 7s}\n",
            "--max-time, \"33\", --header, \"Host: asl.example.org\", \
             \"http://hand-gesture-api-interceptor:81/health\"]\n",
            peer,
        ] {
            assert!(rendered.contains(line), "{runtime}: no {line} in {rendered}");
        }
    }
    let rendered = rendered("runtime=container");
    let line = "--max-time, \"10\", \"http://hand-gesture-api:80/health\"]\n";
    assert!(rendered.contains(line), "no {line} in {rendered}");
    assert!(!rendered.contains(peer), "{rendered}");
}

/// A component does not see to which address a name leads; a cluster does.
#[test]
fn policy_admits_photos_from_public_addresses_alone() {
    let egress = |settings: &str| {
        let chart = ["template", "a", "infra/helm/hand-gesture-api", "--set", "image.repository=r"];
        let settings = format!("settings={settings}");
        let options = ["--set", "networkPolicy.enabled=true", "--set-json", &settings];
        let rendered = helm(chart.into_iter().chain(options)).expect("rendered");
        let (_, policy) = rendered.split_once("kind: NetworkPolicy").expect("a policy");
        let (policy, _) = policy.split_once("\n---").unwrap_or((policy, ""));
        policy.split_once("  egress:").expect("egress").1.to_owned()
    };
    let off = egress("{}");
    assert!(!off.contains("ipBlock"), "{off}");
    let hosts = r#"{"photoUrlAllowedHost": "https://*.a.example",
                    "photoUrlSecondAllowedHost": "http://b.example:8080",
                    "photoUrlThirdAllowedHost": "http://c.example:*""#;
    let on = egress(&format!("{hosts}}}"));
    for ports in ["{port: 443}", "{port: 8080}", "{port: 1, endPort: 65535}"] {
        assert!(on.contains(&format!("- ports: [{ports}]\n")), "{ports}: {on}");
    }
    assert_eq!(on.matches("169.254.0.0/16").count(), 3, "{on}");
    let private = egress(&format!("{hosts}, \"photoUrlAllowPrivate\": true}}"));
    assert!(private.contains("{port: 8080}") && !private.contains("ipBlock"), "{private}");
    let variable = |name: &str, value: &str| {
        let chart = ["template", "a", "infra/helm/hand-gesture-api", "--set", "image.repository=r"];
        let settings = format!("settings={hosts}}}");
        let rendered = helm(chart.into_iter().chain(["--set-json", &settings])).expect("rendered");
        let line = format!("{{name: SPIN_VARIABLE_{name}, value: \"{value}\"}}");
        assert!(rendered.contains(&line), "no {line} in {rendered}");
    };
    variable("PHOTO_URL_ALLOWED_HOST", "https://*.a.example");
    variable("PHOTO_URL_SECOND_ALLOWED_HOST", "http://b.example:8080");
}

fn refused(chart: &str, set: &str, message: &str) {
    let path = format!("infra/helm/{chart}");
    let error = helm(["template", "jaeger", &path, "--namespace", "tracing", "--set", set])
        .expect_err(&format!("{set} must be refused"));
    assert!(error.contains(message), "{set}: {error}");
}

#[test]
fn values_that_cannot_work_are_refused_with_the_remedy() {
    for (set, message) in [
        ("storage.type=mysql", "'/storage/type': value must be one of 'memory', 'badger'"),
        ("storage.elasticsearch.hots=x", "additional properties 'hots' not allowed"),
        (
            "sampling.defaultProbability=10",
            "'/sampling/defaultProbability': maximum: got 10, want 1",
        ),
        ("sampling.defaultProbability=1.5", "'/sampling/defaultProbability': '1.5' does not match"),
        ("storage.elasticsearch.host=http://x", "does not match pattern"),
        (
            "storage.type=kafka",
            "Kafka is no store, it stands in front of one. Set ingester.enabled=true",
        ),
        (
            "ingester.enabled=true",
            "ingester and query are two processes, and memory belongs to one",
        ),
        ("ingester.enabled=true,storage.type=cassandra", "storage.kafka.brokers is empty"),
        ("storage.type=badger,collector.replicas=2", "has one pod: each would have its own spans"),
        ("query.autoscaling.enabled=true", "storage.type=memory has one pod"),
        ("provisionDataStore.elasticsearch=true", "set storage.type=elasticsearch"),
        (
            "storage.elasticsearch.password=hunter2",
            "kubectl --namespace tracing create secret generic elasticsearch-credentials",
        ),
        ("storage.cassandra.password=x", "create secret generic cassandra-credentials"),
        ("storage.kafka.password=x", "create secret generic kafka-credentials"),
        ("storage.elasticsearch.user=elastic", "no secret with the password"),
        ("storage.elasticsearch.existingSecret=x", "set storage.elasticsearch.user"),
        (
            "storage.type=elasticsearch,storage.elasticsearch.apiKey.existingSecret=x",
            "indexCleaner and rollover know users with passwords only, and storage.elasticsearch.apiKey",
        ),
        (
            "storage.type=opensearch,storage.elasticsearch.aws.region=eu-central-1",
            "and storage.elasticsearch.aws.region is set",
        ),
        (
            "storage.elasticsearch.apiKey.existingSecret=x,storage.elasticsearch.aws.region=eu",
            "set one of user, apiKey.existingSecret and aws.region",
        ),
        ("rollover.enabled=true", "only elasticsearch and opensearch have indices"),
        (
            "storage.type=opensearch,rollover.enabled=true,rollover.policy=ilm",
            "ilm is Elasticsearch's, ism OpenSearch's",
        ),
        (
            "storage.type=elasticsearch,provisionDataStore.elasticsearch=true,rollover.enabled=true",
            "the store is not there yet",
        ),
        ("ingress.enabled=true", "set it, for instance jaeger.192.0.2.10.nip.io"),
        ("ingress.enabled=true,ingress.host=a.b", "set query.auth.htpasswdSecret=jaeger-logins"),
        ("httpRoute.enabled=true,httpRoute.host=a.b,query.auth.anonymous=true", "name the gateway"),
        ("ingress.tls.clusterIssuer=x", "ingress.tls.secretName"),
        (
            "agent.enabled=true,collector.otlp.auth.htpasswdSecret=x",
            "set collector.otlp.auth.clientSecret",
        ),
        (
            "destinations[0].name=a,destinations[0].endpoint=http://b,destinations[0].headers[0]=c",
            "no headersSecret",
        ),
        ("collector.resources.limits.memory=500X", "write it in bytes, or in M, G, Mi or Gi"),
        ("collector.resources.limits.memory=much", "write it in bytes, or in M, G, Mi or Gi"),
    ] {
        refused("jaeger", set, message);
    }
    for (set, message) in [
        ("runtime=container", "podman build -f infra/Containerfile -t REGISTRY/hand-gesture-api"),
        ("runtime=docker", "value must be one of 'container', 'spinkube'"),
        ("settings.otelTracesSampler=sometimes", "'/settings/otelTracesSampler'"),
        ("settings.enableTracin=true", "additional properties 'enableTracin' not allowed"),
        ("settings.jaegerCollectorHost=http://x:4318", "does not match pattern"),
        ("settings.jaegerCollectorHost=x:4318", "does not match pattern"),
        (
            "image.repository=a,settings.otelExporterOtlpHeaders=x",
            "kubectl --namespace tracing create secret generic otlp-headers",
        ),
        (
            "image.repository=a,settings.feedbackToken=x",
            "kubectl --namespace tracing create secret generic feedback-token",
        ),
        ("image.repository=a,runtime=spinkube,replicas=0", "is refused by SpinKube's operator"),
        ("image.repository=a,ingress.enabled=true", "for instance asl.192.0.2.10.nip.io"),
        ("image.repository=a,httpRoute.enabled=true,httpRoute.host=b", "name the gateway"),
        (
            "image.repository=a,scaleToZero.enabled=true",
            "needs ingress.enabled or httpRoute.enabled",
        ),
        (
            "image.repository=a,scaleToZero.enabled=true,autoscaling.enabled=true",
            "two autoscalers would pull",
        ),
    ] {
        refused("hand-gesture-api", set, message);
    }
}

#[test]
fn refused_password_is_not_repeated() {
    let set = "storage.elasticsearch.password=hunter2";
    let error =
        helm(["template", "jaeger", "infra/helm/jaeger", "--set", set]).expect_err("refused");
    assert!(!error.contains("hunter2"), "{error}");
}

/// Returns a setting's name as the chart writes it: `otel_service_name` is `otelServiceName`.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().expect("a name").to_owned();
    for part in parts {
        camel.push_str(&part[..1].to_uppercase());
        camel.push_str(&part[1..]);
    }
    camel
}

#[test]
fn chart_values_are_the_variables_of_spin_toml() {
    let spin = std::fs::read_to_string(root().join("spin.toml")).expect("spin.toml");
    let (_, variables) = spin.split_once("\n[variables]\n").expect("[variables]");
    let (variables, _) = variables.split_once("\n[").expect("the next section");
    let assignments = variables.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<String> = assignments
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| camel_case(name)))
        .collect();
    names.sort();
    let schema = root().join("infra/helm/hand-gesture-api/values.schema.json");
    let schema: serde_json::Value =
        serde_json::from_slice(&std::fs::read(schema).expect("the schema")).expect("JSON");
    let values = schema["properties"]["settings"]["properties"].as_object().expect("settings");
    let mut values: Vec<String> = values.keys().cloned().collect();
    values.sort();
    assert_eq!(values, names);
}

/// Returns the rows of a README's tables whose first cell names values: the names, and the other cells.
fn rows_of_values(readme: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let row = |line: &str| {
        let cells = line.strip_prefix("| `")?.strip_suffix(" |")?;
        let mut cells = cells.split(" | ").map(|cell| cell.trim().to_owned());
        let names =
            cells.next()?.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        Some((names, cells.collect()))
    };
    readme.lines().filter_map(row).collect()
}

/// `helm show readme` prints the tables. Each value has a row, with the default of values.yaml.
#[test]
fn tables_of_values_have_every_value_with_its_default() {
    // A table with a column for each of these.
    let roles = ["collector", "query", "ingester", "agent"];
    for (chart, many) in [("jaeger", roles.as_slice()), ("hand-gesture-api", &[][..])] {
        let path = format!("infra/helm/{chart}");
        let values = helm(["show", "values", &path]).expect("values");
        let values = documents(&format!("values-{chart}"), &values).remove(0);
        let readme = helm(["show", "readme", &path]).expect("a readme");
        // Defaults as documented, by the value's path. Keys of `pods` stand in roles, `eck` and `jobs`, too.
        let mut documented = BTreeMap::new();
        for (names, cells) in rows_of_values(&readme) {
            for name in names {
                let pointer = format!("/{}", name.replace('.', "/"));
                if values.pointer(&pointer).is_some() {
                    documented.insert(pointer, cells[0].clone());
                } else if cells.len() > 2 {
                    let columns = many.iter().zip(&cells).filter(|(_, cell)| *cell != "–");
                    let path = |(role, cell): (&&str, &String)| {
                        (format!("/{role}{pointer}"), cell.clone())
                    };
                    documented.extend(columns.map(path));
                } else {
                    for of in many.iter().copied().chain(["pods", "jobs", "eck"]) {
                        documented.insert(format!("/{of}{pointer}"), cells[0].clone());
                    }
                }
            }
        }
        let given = |pointer: &str| values.pointer(pointer);
        let defaults = documented.iter().filter_map(|(pointer, cell)| {
            let default = cell.strip_prefix('`')?.strip_suffix('`')?;
            // A text may stand without quotes, which YAML would read otherwise.
            let is_text = given(pointer).is_some_and(|value| value == default);
            Some(format!(
                "{pointer:?}: {}\n",
                if is_text { format!("{default:?}") } else { default.into() }
            ))
        });
        let defaults =
            documents(&format!("defaults-{chart}"), &defaults.collect::<String>()).remove(0);
        for (pointer, default) in defaults.as_object().expect("an object") {
            assert_eq!(
                given(pointer),
                Some(default),
                "{chart}: README.md and values.yaml: {pointer}"
            );
        }
        let mut missing = Vec::new();
        let mut open = vec![(String::new(), &values)];
        while let Some((pointer, value)) = open.pop() {
            // The settings have a list of their own: docs/configuration.md.
            if documented.contains_key(&pointer) || pointer == "/settings" {
                continue;
            }
            match value.as_object().filter(|object| !object.is_empty()) {
                Some(object) => {
                    open.extend(
                        object.iter().map(|(key, value)| (format!("{pointer}/{key}"), value)),
                    );
                }
                None => missing.push(pointer),
            }
        }
        assert!(missing.is_empty(), "{chart}: README.md lacks {missing:?}");
        assert!(documented.len() > 60, "{documented:?}");
    }
}
