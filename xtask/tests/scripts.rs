//! Parts of setup-jaeger.sh, doctor.sh and the chart's own scripts, without a cluster: passwords, probes and
//! index templates.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use test_support::charts::{config, render, render_jaeger};
use test_support::servers::{Proxy, WORST_PASSWORD};
use test_support::{folder, output, root, tool};

/// Runs a script that starts with the functions of common.sh. Its arguments are `$1`, `$2`…
fn bash(script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let script = format!("set -euo pipefail; source infra/common.sh; {script}");
    let mut command = Command::new("bash");
    command.args(["-c", &script, "test"]).args(arguments).current_dir(root());
    let tools = tool("helm").parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").expect("PATH");
    command.env("PATH", format!("{tools}:{path}")).envs(environment.iter().copied());
    output(&mut command).unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// Scripts of the chart and of the probes, against a server with the worst password.
#[test]
fn worst_password_reaches_the_server_and_a_wrong_one_is_refused() {
    let folder = folder("scripts-password");
    let upstream = folder.join("upstream");
    std::fs::create_dir_all(&upstream).expect("a folder");
    let upstream = Proxy::start(
        &upstream,
        ("127.0.0.1", test_support::process::free_port()),
        "",
        "location / { return 200 '\"helm test\"'; }",
    );
    let proxy = Proxy::plain(&folder, "127.0.0.1", 0, upstream.port, WORST_PASSWORD);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let sh = |script: &str, environment: &[(&str, &str)]| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).envs(environment.iter().copied());
        output(&mut command)
    };
    let file = |name: &str| {
        let path = root().join("infra/helm/jaeger/files").join(name);
        std::fs::read_to_string(path).expect(name)
    };

    let ask = bash("asking ''", &[], &[]) + "\nask \"$URL\"";
    let policy = file("put-policy.sh");
    for (password, expected) in [(WORST_PASSWORD, "status=200"), ("wrong", "status=401")] {
        let environment = [("URL", &*url), ("NAME", "elastic"), ("PASSWORD", password)];
        let answer = sh(&ask, &environment).expect("an answer");
        assert!(answer.contains(expected), "the probe with {password}: {answer}");
        let environment = [
            ("POLICY_URL", &*url),
            ("POLICY", "{}"),
            ("ES_USERNAME", "elastic"),
            ("ES_PASSWORD", password),
        ];
        let answer = sh(&policy, &environment).unwrap_or_else(|error| error);
        assert!(answer.contains(expected), "put-policy.sh with {password}: {answer}");
    }
    let answer = sh(
        &file("send-and-find.sh"),
        &[
            ("COLLECTOR_URL", &url),
            ("QUERY_URL", &url),
            ("COLLECTOR_USER", "elastic"),
            ("COLLECTOR_PASSWORD", WORST_PASSWORD),
            ("QUERY_USER", "elastic"),
            ("QUERY_PASSWORD", WORST_PASSWORD),
        ],
    );
    assert!(answer.expect("found").contains("Found it through"));
}

/// Returns what a script of the probe's pod prints for a chart rendered with values.
fn probe_pod(test: &str, chart: &str, values: &Value, image: &str) -> Value {
    let rendered = render(test, chart, "r", values).expect("rendered");
    let script =
        r#"frame_of tracing "$1"; probe_pod p tracing "$2" '[{"name": "A", "value": "b"}]'"#;
    let words = "echo \"a\" 'b' \\ $x\n\tc";
    let environment: &[(&str, &str)] =
        if image.is_empty() { &[] } else { &[("PROBE_IMAGE", image)] };
    let pod = bash(script, &[&rendered, words], environment);
    let pod: Value = serde_json::from_str(&pod).expect("JSON");
    assert_eq!(pod["metadata"]["name"], "p");
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["sh", "-c", words]));
    assert_eq!(container["env"], json!([{"name": "A", "value": "b"}]));
    assert_eq!(pod["spec"]["volumes"], json!([]));
    assert_eq!(container["volumeMounts"], json!([]));
    assert_eq!(pod["spec"]["activeDeadlineSeconds"], 120);
    // Network policies know probes by this name, and nothing else may take them for the release's.
    assert_eq!(pod["metadata"]["labels"]["app.kubernetes.io/name"], "probe");
    assert!(pod["metadata"]["labels"].get("app.kubernetes.io/instance").is_none(), "{pod}");
    pod
}

#[test]
fn probes_are_made_of_the_pods_of_helm_test() {
    let tolerations =
        json!([{"key": "team", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}]);
    let resources = json!({
        "requests": {"cpu": "11m", "memory": "33Mi"}, "limits": {"cpu": "100m", "memory": "99Mi"},
    });
    let mesh = json!({"sidecar.istio.io/inject": "false"});
    let jaeger = json!({
        "imageRegistry": "mirror.example.com/hub",
        "imagePullSecrets": [{"name": "registry"}],
        "pods": {"user": null, "tolerations": tolerations, "priorityClassName": "high"},
        "jobs": {"resources": resources, "podLabels": mesh, "podAnnotations": mesh},
    });
    let api = json!({
        "image": {"repository": "r.example.com/a"},
        "imageRegistry": "mirror.example.com/hub",
        "imagePullSecrets": [{"name": "registry"}],
        "container": {"user": null},
        "tolerations": tolerations,
        "priorityClassName": "high",
        "test": {"resources": resources, "podLabels": mesh, "podAnnotations": mesh},
    });
    for (chart, values) in [("jaeger", jaeger), ("hand-gesture-api", api)] {
        let pod = probe_pod("scripts-probe", chart, &values, "");
        let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
        assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false", "{chart}");
        assert_eq!(metadata["annotations"]["sidecar.istio.io/inject"], "false", "{chart}");
        assert_eq!(spec["tolerations"], tolerations, "{chart}");
        assert_eq!(spec["priorityClassName"], "high", "{chart}");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]), "{chart}");
        assert!(spec["securityContext"].get("runAsUser").is_none(), "{chart}: {spec}");
        let container = &spec["containers"][0];
        assert_eq!(container["resources"], resources, "{chart}");
        let image = container["image"].as_str().expect("an image");
        assert!(image.starts_with("mirror.example.com/hub/curlimages/curl:"), "{chart}: {image}");
        let pod = probe_pod("scripts-probe", chart, &values, "other:1");
        assert_eq!(pod["spec"]["containers"][0]["image"], "other:1", "{chart}");
    }
}

/// The scripts read the storage's address and login from Jaeger's configuration.
#[test]
fn login_is_read_from_the_configuration_as_it_was_given() {
    let user = "$a\"b\\c$$";
    let values = json!({"storage": {"type": "elasticsearch", "elasticsearch": {
        "host": "es.example.com", "path": "/search", "user": user, "existingSecret": "s",
        "existingSecretKey": "100234", "indexPrefix": "blue",
    }}});
    let rendered = render("scripts-login", "jaeger", "jaeger", &values).expect("rendered");
    let text = config(&rendered, "jaeger-collector", "config.yaml");
    let fields = r#"part=$(backend "$1")
        for field in url user key prefix; do "backend_$field" "$part"; echo; done"#;
    let found = bash(fields, &[&text], &[]);
    let found: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(found, ["http://es.example.com:9200/search", user, "100234", "blue"]);
    let key = render_jaeger(&[
        "--set",
        "storage.type=elasticsearch,storage.elasticsearch.apiKey.existingSecret=s,indexCleaner.enabled=false",
    ]);
    let text = config(&key, "jaeger-collector", "config.yaml");
    assert_eq!(bash("backend_key \"$(backend \"$1\")\"", &[&text], &[]).trim(), "api-key");
}

#[test]
fn index_templates_of_others_are_found_by_their_patterns() {
    let template = |name: &str, patterns: &[&str]| json!({"name": name, "index_template": {"index_patterns": patterns}});
    let answer = json!({"index_templates": [
        template("everything", &["shop-*", "*"]),
        template("traces", &["traces-*-*"]),
        template("jaeger-span", &["*jaeger-span-*"]),
        template("blue-jaeger-span", &["blue-jaeger-span-*"]),
        template("logs", &["logs-*-*", ".logs-*"]),
    ]})
    .to_string();
    for (prefix, expected) in [
        ("", vec!["everything (*)"]),
        ("blue", vec!["everything (*)", "jaeger-span (*jaeger-span-*)"]),
        ("traces-a", vec!["everything (*)", "jaeger-span (*jaeger-span-*)", "traces (traces-*-*)"]),
    ] {
        let found = bash("foreign_templates \"$1\" \"$2\"", &[prefix, &answer], &[]);
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{prefix}");
    }
    assert_eq!(bash("foreign_templates '' '{}'", &[], &[]), "");
}

/// Setup reads its options before it looks for a cluster.
#[test]
fn setup_takes_addresses_with_a_path_and_of_ipv6() {
    let folder = folder("scripts-address");
    let kubectl = folder.join("kubectl");
    std::fs::write(&kubectl, "#!/bin/sh\nexit 1\n").expect("written");
    output(Command::new("chmod").arg("+x").arg(&kubectl)).expect("chmod");
    let path = std::env::var("PATH").expect("PATH");
    let tools = tool("helm").parent().expect("a folder").display().to_string();
    for (address, message) in [
        ("http://es:9200", "no cluster answers"),
        ("https://es.example.com/", "no cluster answers"),
        ("http://es:9200/search/api", "no cluster answers"),
        ("http://[fd00::1]:9200", "no cluster answers"),
        ("https://[fd00::1]/search", "no cluster answers"),
        ("es:9200", "is not an address"),
        ("http://", "is not an address"),
        ("http://user:password@es:9200", "is not an address"),
        ("http://es:9200?pretty", "is not an address"),
        ("http://fd00::1:9200", "is not an address"),
    ] {
        let mut setup = Command::new(root().join("infra/setup-jaeger.sh"));
        setup.args(["--elasticsearch", address]);
        setup.env("PATH", format!("{}:{tools}:{path}", folder.display()));
        let error = output(&mut setup).expect_err("no cluster");
        assert!(error.contains(message), "{address}: {error}");
    }
}

/// A cluster in which KEDA's HTTP add-on has scaled the service of SpinKube to zero, as kubectl shows it. What a probe
/// runs is kept, and the interceptor's answer without a pod is the probe's output.
const SCALED_TO_ZERO: &str = r#"#!/bin/sh
case " $* " in
*' patch '*) exec "$KUBECTL" "$@" ;;
*' create -f '*) cat >"$PROBE" ;;
*' get pod probe-'*phase*) printf Succeeded ;;
*' logs probe-'*) printf '%s\n' 'Gateway Timeout' ' health=0' 'request=0' 'status=200 span=0' ;;
*' get services '*asl-*) echo '{"items": [{"metadata": {"name": "api-interceptor"}, "spec": {"type": "ExternalName"}}]}' ;;
*' get spinapps.core.spinkube.dev '*) echo '{"items": [{"metadata": {"name": "api"}, "spec": {}}]}' ;;
*' get httpscaledobject api '*) echo '{"spec": {"hosts": ["asl.example.org"]}}' ;;
*' get service api '*) echo '{"spec": {"ports": [{"port": 80}]}}' ;;
*' get service api-interceptor '*) echo '{"spec": {"ports": [{"port": 8080}]}}' ;;
*' get pods '*) ;;
*' get '*) exit 1 ;;
esac
"#;

/// Runs the doctor with a kubectl that shows a cluster, and returns the fault. What a probe runs is in `probe.json`.
fn fault_of(cluster: &str, folder: &Path, arguments: &[&str]) -> String {
    let kubectl = folder.join("kubectl");
    std::fs::write(&kubectl, cluster).expect("written");
    output(Command::new("chmod").arg("+x").arg(&kubectl)).expect("chmod");
    let path = std::env::var("PATH").expect("PATH");
    let tools = tool("helm").parent().expect("a folder").display().to_string();
    let real = output(Command::new("sh").args(["-c", "command -v kubectl"])).expect("kubectl");
    let mut doctor = Command::new(root().join("infra/doctor.sh"));
    doctor.args(arguments).env("PATH", format!("{}:{tools}:{path}", folder.display()));
    doctor.env("KUBECTL", real.trim()).env("PROBE", folder.join("probe.json"));
    output(&mut doctor).expect_err("a fault")
}

#[test]
fn doctor_asks_a_service_that_is_scaled_to_zero_through_the_interceptor() {
    let folder = folder("scripts-scaled");
    let error = fault_of(SCALED_TO_ZERO, &folder, &["--release", "asl-1"]);
    let evidence =
        "KEDA's interceptor answers requests for asl.example.org by itself: Gateway Timeout";
    assert!(error.contains(evidence), "{error}");
    let probe = std::fs::read(folder.join("probe.json")).expect("a probe");
    let probe: Value = serde_json::from_slice(&probe).expect("JSON");
    let script = probe.pointer("/spec/containers/0/command/2").expect("a script");
    let script = script.as_str().expect("text");
    for path in ["health", ""] {
        let address = format!(" http://api-interceptor:8080/{path};");
        let line = script.lines().find(|line| line.contains(&address));
        let line = line.unwrap_or_else(|| panic!("no {address} in {script}"));
        assert!(line.contains("--header 'Host: asl.example.org'"), "{line}");
    }
}

/// A cluster whose collector is ready, and refuses the probe.
const REFUSED: &str = r#"#!/bin/sh
case " $* " in
*' patch '*) exec "$KUBECTL" "$@" ;;
*' create -f '*) cat >"$PROBE" ;;
*' get pod probe-'*phase*) printf Succeeded ;;
*' logs probe-'*) printf '%s\n' '{"tracing": "enabled"} health=0' 'request=0' 'curl: (7) refused' ' status=000 span=7' ;;
*' get networkpolicies '*) echo '{"items": [POLICIES]}' ;;
*' get '*component=collector*) echo '{"items": [{"metadata": {"name": "jaeger-collector"}, "spec": {}}]}' ;;
*' get services '*) echo '{"items": [{"metadata": {"name": "api"}, "spec": {}}]}' ;;
*' get service api '*) echo '{"spec": {"ports": [{"port": 80}]}}' ;;
*' get deployment jaeger-collector '*) echo '{"spec": {"replicas": 1}, "status": {"readyReplicas": 1}}' ;;
*' get pods '*) ;;
*' get '*) exit 1 ;;
esac
"#;

#[test]
fn doctor_names_the_network_policy_before_a_ready_collector() {
    let folder = folder("scripts-policy");
    let policy = r#"{"metadata": {"name": "jaeger-collector"}, "spec": {}}"#;
    let error = fault_of(&REFUSED.replace("POLICIES", policy), &folder, &[]);
    assert!(error.contains("the network policy jaeger-collector restricts its peers"), "{error}");
    assert!(error.contains("networkPolicy.collectorFrom"), "{error}");
    let error = fault_of(&REFUSED.replace("POLICIES", ""), &folder, &[]);
    assert!(error.contains("nobody answers at"), "{error}");
}
