//! Both charts on a real Kubernetes, with Elasticsearch as storage: what an operator does, and what
//! breaks. Runs only on the cluster that TEST_KUBECONFIG names; HOST_FROM_PODS is this machine's
//! address as pods see it. `.ci/cluster` brings such a cluster up, with the images.
//!
//! It is one story on one cluster, so its parts run one after another.

mod support;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::jaeger::{Span, folder, get, metric, post};
use support::older_clients::{self, Thrift};
use support::process::{free_port, wait};
use support::servers::{Proxy, Search, write_password};
use support::{jaeger_version, jaeger_writes_again, output, root};

/// The namespaces, as the README has them.
const JAEGER: &str = "tracing";
const SERVICE: &str = "asl";
/// How long a storage or a collector is away.
const AWAY: Duration = Duration::from_secs(30);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see .ci/cluster"))
}

/// A command of the operator's: kubectl, helm or a script, on the test cluster and no other. Its
/// exit code and everything that it wrote.
fn operator(program: &str, arguments: &[&str]) -> (i32, String) {
    operator_with(Path::new(&variable("TEST_KUBECONFIG")), program, arguments)
}

/// The same with another kubeconfig.
fn operator_with(kubeconfig: &Path, program: &str, arguments: &[&str]) -> (i32, String) {
    let tools = root().join("target/tools");
    let path = std::env::var("PATH").expect("PATH");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).env("KUBECONFIG", kubeconfig);
    // As in a container or a cron job.
    command.env_remove("USER");
    command.env("PATH", format!("{}:{path}", tools.display()));
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let (code, words) = operator(program, arguments);
    assert!(code == 0, "{program} {arguments:?}: {words}");
    words
}

fn kubectl(namespace: &str, arguments: &str) -> String {
    let mut all = vec!["--namespace", namespace];
    all.extend(arguments.split(' '));
    run("kubectl", &all)
}

/// Where a service is: this machine reaches the cluster's addresses.
fn service(namespace: &str, name: &str, port: u16) -> String {
    let address =
        kubectl(namespace, &format!("get service {name} -o jsonpath={{.spec.clusterIP}}"));
    format!("http://{address}:{port}")
}

/// Waits until no pod is on its way out. Before that an old one may still answer, or take spans into a
/// storage of before.
fn old_pods_are_gone(namespace: &str) {
    let leaving = || {
        let names = "jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.name}";
        kubectl(namespace, &format!("get pods --output={names}"))
    };
    wait(120, || format!("{} are still there", leaving()), || leaving().is_empty());
}

/// The namespaces, new and enforcing restricted pod security.
fn fresh_namespaces() {
    for namespace in [JAEGER, SERVICE] {
        kubectl("default", &format!("delete namespace {namespace} --ignore-not-found --wait=true"));
    }
    kubectl("default", &format!("create namespace {SERVICE}"));
    kubectl(
        "default",
        &format!("label namespace {SERVICE} pod-security.kubernetes.io/enforce=restricted"),
    );
}

/// The photo that is posted, as a file of this size if one is given.
fn photo(size: Option<usize>) -> Vec<u8> {
    let mut photo = std::fs::read(root().join("tests/photos/v.jpg")).expect("a photo");
    // What follows a JPEG's end is no part of it.
    photo.resize(size.unwrap_or(photo.len()), 0);
    photo
}

/// Posts a photo with a trace id of its own; the id.
fn post_photo(url: &str, photo: &[u8]) -> Result<String, String> {
    let trace = Span::new("").trace;
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
    let mut answer = agent
        .post(format!("{url}/predict"))
        .header("content-type", "image/jpeg")
        .header("traceparent", format!("00-{trace}-{}-01", &trace[..16]))
        .send(photo)
        .map_err(|error| error.to_string())?;
    let body = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    assert!(body.contains("\"prediction\":\"V\""), "{body}");
    Ok(trace)
}

/// The names of a trace's spans; none if it is not found.
fn span_names(query: &str, trace: &str) -> BTreeSet<String> {
    let url = format!("{query}/api/traces/{trace}");
    let Ok((200, body)) = get(&url, None) else { return BTreeSet::new() };
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let spans = answer["data"][0]["spans"].as_array().cloned().unwrap_or_default();
    spans.iter().filter_map(|span| span["operationName"].as_str().map(str::to_owned)).collect()
}

/// What a prediction's trace consists of.
const SPANS: [&str; 6] = [
    "POST /predict",
    "asl_prediction",
    "image_preprocessing",
    "landmark_detection",
    "model_inference",
    "response_formatting",
];

/// Waits until each trace is there with all its spans.
fn find_all(query: &str, traces: &[String], seconds: u64) {
    let expected: BTreeSet<String> = SPANS.iter().map(|name| (*name).to_owned()).collect();
    for trace in traces {
        let what = || format!("trace {trace} has only {:?}", span_names(query, trace));
        wait(seconds, what, || span_names(query, trace) == expected);
    }
}

/// Whether a span's trace is found.
fn is_found(query: &str, span: &Span) -> bool {
    let url = format!("{query}/api/v3/traces/{}", span.trace);
    get(&url, None).is_ok_and(|(status, _)| status == 200)
}

/// Clients that never stop: one sends spans, one posts photos.
struct Load {
    stop: Arc<AtomicBool>,
    spans: Arc<Mutex<Vec<Span>>>,
    photos: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Sends spans to the collector, some 25 a second, each again until it is taken, as OTLP wants
    /// it of its clients; and a photo to the service every second, each once.
    fn start(collector: &str, service: &str) -> Load {
        let load = Load {
            stop: Arc::default(),
            spans: Arc::default(),
            photos: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, sent) = (load.stop.clone(), load.spans.clone());
        let url = format!("{collector}/v1/traces");
        let spans = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let span = Span::new("load");
                let start = Instant::now();
                while post(&url, &span.otlp()).0 != 200 {
                    assert!(start.elapsed() < 4 * AWAY, "the collector takes no span");
                    std::thread::sleep(Duration::from_millis(200));
                }
                sent.lock().expect("no panic").push(span);
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        let (stop, sent, url) = (load.stop.clone(), load.photos.clone(), service.to_owned());
        let photos = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let trace = post_photo(&url, &photo(None)).expect("no prediction is lost");
                sent.lock().expect("no panic").push(trace);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Load { threads: vec![spans, photos], ..load }
    }

    /// Stops, and waits until everything that was sent is found. How much that was.
    fn end(self, query: &str, seconds: u64) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the load went through");
        }
        let photos = self.photos.lock().expect("no panic").clone();
        let spans = self.spans.lock().expect("no panic").clone();
        find_all(query, &photos, seconds);
        for span in &spans {
            let what = || format!("of {} spans, {span:?} is lost", spans.len());
            wait(seconds, what, || is_found(query, span));
        }
        (spans.len(), photos.len())
    }
}

/// Elasticsearch with a login, where pods reach it.
struct Storage {
    server: Search,
    proxy: Option<Proxy>,
    folder: PathBuf,
    address: String,
}

impl Storage {
    fn start() -> Storage {
        let folder = folder("cluster");
        let server = Search::start("elasticsearch", &folder);
        let address = variable("HOST_FROM_PODS");
        let proxy = Proxy::plain(&folder, &address, 0, server.port, "first");
        Storage { server, proxy: Some(proxy), folder, address }
    }

    fn port(&self) -> u16 {
        self.proxy.as_ref().expect("it runs").port
    }

    /// Nobody answers at its address for some time.
    fn away(&mut self, time: Duration) {
        let port = self.port();
        drop(self.proxy.take());
        std::thread::sleep(time);
        self.back(port);
    }

    fn back(&mut self, port: u16) {
        let proxy = Proxy::plain(&self.folder, &self.address, port, self.server.port, "first");
        self.proxy = Some(proxy);
    }
}

/// Sets Jaeger up, for the version that is tested, with further values; the proof went through.
fn setup(arguments: &[&str], set: &str) -> String {
    let mut all = arguments.to_vec();
    let set = format!("image.tag={},storage.elasticsearch.replicas=0{set}", jaeger_version());
    all.extend(["--", "--set", &set]);
    let words = run("infra/setup-jaeger.sh", &all);
    assert!(words.contains("Found it through"), "{words}");
    words
}

fn install_service(set: &str) {
    install_service_and(set, &["--wait", "--timeout", "3m"]);
}

fn install_service_and(set: &str, options: &[&str]) {
    let set = format!("image.repository=hand-gesture-api,image.tag=test{set}");
    let mut all = vec!["upgrade", "--install", "hand-gesture-api", "infra/helm/hand-gesture-api"];
    all.extend(["--namespace", SERVICE, "--set", &set, "--values"]);
    all.push("infra/helm/hand-gesture-api/values-development.yaml");
    all.extend(options);
    run("helm", &all);
}

/// The doctor names this hop, with this evidence; everything that it wrote.
fn doctor_says(options: &[&str], code: i32, evidence: &str) -> String {
    let (found, words) = operator("infra/doctor.sh", options);
    assert!(
        found == code && words.contains(evidence),
        "not {code} and {evidence:?}: {found} {words}"
    );
    println!(
        "doctor {code}: {}",
        words.lines().find(|l| l.contains("BROKEN")).unwrap_or("every hop works")
    );
    words
}

fn step(name: &str, start: Instant) {
    println!("{:4} s  {name}", start.elapsed().as_secs());
}

#[test]
fn both_charts_on_a_cluster() {
    let start = Instant::now();
    let mut storage = Storage::start();
    fresh_namespaces();
    step("namespaces are fresh, Elasticsearch runs", start);

    // Jaeger in memory, proved; then, run again, in Elasticsearch.
    setup(&[], "");
    step("set up with memory", start);
    kubectl(
        JAEGER,
        "create secret generic elasticsearch-credentials --from-literal=password=first",
    );
    let url = format!("http://{}:{}", storage.address, storage.port());
    let elasticsearch =
        ["--elasticsearch", &url, "--user", "elastic", "--secret", "elasticsearch-credentials"];
    setup(&elasticsearch, "");
    old_pods_are_gone(JAEGER);
    step("moved to Elasticsearch", start);

    // The service, a photo, its trace from Elasticsearch.
    install_service("");
    let api = service(SERVICE, "hand-gesture-api", 80);
    let query = service(JAEGER, "jaeger-query", 16686);
    let collector = service(JAEGER, "jaeger-collector", 4318);
    // A service follows its pods within a second or two.
    wait(30, || "no answer".into(), || get(&format!("{api}/health"), None).is_ok());
    let photos: Vec<String> =
        (0..5).map(|_| post_photo(&api, &photo(None)).expect("a prediction")).collect();
    find_all(&query, &photos, 60);
    run("helm", &["test", "hand-gesture-api", "--namespace", SERVICE]);
    assert!(storage.server.indices().iter().all(|name| name.starts_with("jaeger-")));
    step("photos' traces are found in Elasticsearch", start);
    the_api_prefix_is_taken_away(&api);
    the_page_asks_for_a_login(&storage, &elasticsearch);
    the_collector_asks_for_a_login(&storage, &elasticsearch);
    step("nginx takes /api away; page and collector ask for a login", start);

    // Under load: new pods, Elasticsearch away, the collector away.
    let lost_none = |what: &str, load: Load, seconds: u64| {
        let (spans, photos) = load.end(&query, seconds);
        step(&format!("{what} lost none of {spans} spans, {photos} photos' traces"), start);
    };
    let load = Load::start(&collector, &api);
    std::thread::sleep(Duration::from_secs(3));
    let deployments = "deployment/jaeger-collector deployment/jaeger-query";
    kubectl(JAEGER, &format!("rollout restart {deployments}"));
    for deployment in deployments.split(' ') {
        kubectl(JAEGER, &format!("rollout status {deployment} --timeout=180s"));
    }
    old_pods_are_gone(JAEGER);
    lost_none("a rolling upgrade", load, 60);

    if jaeger_writes_again() {
        let load = Load::start(&collector, &api);
        std::thread::sleep(Duration::from_secs(3));
        storage.away(AWAY);
        std::thread::sleep(Duration::from_secs(3));
        lost_none(&format!("{AWAY:?} without Elasticsearch"), load, 120);
    }

    let load = Load::start(&collector, &api);
    std::thread::sleep(Duration::from_secs(3));
    kubectl(JAEGER, "scale deployment jaeger-collector --replicas=0");
    std::thread::sleep(AWAY);
    kubectl(JAEGER, "scale deployment jaeger-collector --replicas=1");
    kubectl(JAEGER, "rollout status deployment/jaeger-collector --timeout=120s");
    std::thread::sleep(Duration::from_secs(3));
    lost_none(&format!("{AWAY:?} without collector"), load, 120);

    the_doctor_names_the_hop(&mut storage, start);

    // Test, roll back, uninstall: nothing is left.
    run("helm", &["test", "jaeger", "--namespace", JAEGER]);
    run("helm", &["rollback", "jaeger", "1", "--namespace", JAEGER, "--wait"]);
    run("helm", &["test", "jaeger", "--namespace", JAEGER]);
    run("helm", &["uninstall", "jaeger", "--namespace", JAEGER, "--wait"]);
    run("helm", &["uninstall", "hand-gesture-api", "--namespace", SERVICE, "--wait"]);
    let kinds = "deployments,daemonsets,cronjobs,jobs,services,configmaps,ingresses,serviceaccounts,\
                 poddisruptionbudgets,horizontalpodautoscalers,networkpolicies,persistentvolumeclaims";
    for namespace in [JAEGER, SERVICE] {
        let left = kubectl(namespace, &format!("get {kinds} --output=name"));
        let left: Vec<&str> = left
            .lines()
            .filter(|name| !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(name))
            .collect();
        assert!(left.is_empty(), "{namespace}: {left:?}");
    }
    step("tested, rolled back, uninstalled", start);
}

/// Makes a secret with the logins that a server takes, and one with a client's login.
fn make_logins(storage: &Storage, server: &str, client: &str) {
    let file = storage.folder.join("htpasswd");
    write_password(&file, "ada", "two");
    let from = format!("--from-file=htpasswd={}", file.display());
    kubectl(JAEGER, &format!("create secret generic {server} {from}"));
    let from = "--from-literal=username=ada --from-literal=password=two";
    kubectl(JAEGER, &format!("create secret generic {client} {from}"));
}

/// Exposed with a login: setup's proof, `helm test` and the doctor read with one.
fn the_page_asks_for_a_login(storage: &Storage, elasticsearch: &[&str]) {
    make_logins(storage, "jaeger-logins", "jaeger-client");
    let exposed =
        ["--address", "192.0.2.10", "--login", "jaeger-logins", "--client", "jaeger-client"];
    let words = setup(&[elasticsearch, &exposed].concat(), "");
    assert!(words.contains("http://jaeger.192.0.2.10.nip.io"), "{words}");
    old_pods_are_gone(JAEGER);
    let query = service(JAEGER, "jaeger-query", 16686);
    assert_eq!(get(&format!("{query}/api/services"), None).expect("an answer").0, 401);
    run("helm", &["test", "jaeger", "--namespace", JAEGER]);
    doctor_says(&[], 9, "query asks for a login");
    doctor_says(&["--client", "jaeger-client"], 0, "Every hop works");
    setup(elasticsearch, "");
}

/// The collector takes spans with a login only: setup's proof has one, the service needs one, and the
/// agent has one for those that know none.
fn the_collector_asks_for_a_login(storage: &Storage, elasticsearch: &[&str]) {
    make_logins(storage, "otlp-logins", "otlp-client");
    let logins = ",agent.enabled=true,collector.otlp.auth.htpasswdSecret=otlp-logins,\
                  collector.otlp.auth.clientSecret=otlp-client";
    setup(elasticsearch, logins);
    doctor_says(&[], 6, "status=401");
    // ada:two
    let headers = "--from-literal=headers=authorization=Basic%20YWRhOnR3bw==";
    kubectl(SERVICE, &format!("create secret generic otlp-headers {headers}"));
    install_service(",otlpHeadersSecret.name=otlp-headers");
    doctor_says(&[], 0, "Every hop works");
    the_agent_passes_on();
    install_service("");
    setup(elasticsearch, "");
    old_pods_are_gone(JAEGER);
}

/// The agent runs where restricted pod security is enforced, and passes on what the service sends by
/// OTLP and what an older client sends by UDP.
fn the_agent_passes_on() {
    let label = "pod-security\\.kubernetes\\.io/enforce";
    let label = format!("get namespace {JAEGER} --output=jsonpath={{.metadata.labels.{label}}}");
    assert_eq!(kubectl("default", &label), "restricted");
    kubectl(JAEGER, "rollout status daemonset/jaeger-agent --timeout=120s");
    install_service(",settings.jaegerCollectorHost=jaeger-agent.tracing.svc.cluster.local");
    doctor_says(&[], 0, "Every hop works");
    let query = service(JAEGER, "jaeger-query", 16686);
    let photo = post_photo(&service(SERVICE, "hand-gesture-api", 80), &photo(None));
    find_all(&query, &[photo.expect("a prediction")], 60);

    let span = Span::new("thrift-udp");
    let agent = service(JAEGER, "jaeger-agent", 6831);
    let agent = agent.strip_prefix("http://").expect("an address");
    let bytes = older_clients::thrift_call(&span, Thrift::Compact);
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a port");
    wait(
        30,
        || format!("{span:?} is lost"),
        || {
            socket.send_to(&bytes, agent).expect("sent");
            is_found(&query, &span)
        },
    );

    let pod = "get pods --selector=app.kubernetes.io/component=agent";
    let pod = kubectl(JAEGER, &format!("{pod} --output=jsonpath={{.items[*].status.podIP}}"));
    let passed_on = metric(&format!("http://{pod}:8888"), "otelcol_exporter_sent_spans");
    assert!(passed_on > SPANS.len() as f64, "the agent passed on only {passed_on} spans");
}

/// The rendered Ingress's rule in nginx itself, written as ingress-nginx writes it.
fn the_api_prefix_is_taken_away(api: &str) {
    let rendered = root().join("infra/helm/hand-gesture-api/examples/container/rendered.yaml");
    let rendered = std::fs::read_to_string(rendered).expect("rendered.yaml");
    let value = |name: &str| {
        let line = rendered.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim_matches(['"', ' ']).to_owned()
    };
    let (path, target) = (value("- path:"), value("nginx.ingress.kubernetes.io/rewrite-target:"));
    let size = value("nginx.ingress.kubernetes.io/proxy-body-size:");
    let folder = folder("ingress");
    let server = format!(
        "location ~* \"^{path}\" {{
           client_max_body_size {size};
           rewrite \"(?i){path}\" {target} break;
           proxy_pass {api};
         }}
         location / {{ return 404; }}"
    );
    let port = free_port();
    let _proxy = Proxy::start(&folder, ("127.0.0.1", port), "", &server);
    let url = format!("http://127.0.0.1:{port}");
    let api = format!("{url}/api");
    post_photo(&api, &photo(None)).expect("a prediction by /api/predict");
    assert!(get(&format!("{api}/health"), None).expect("an answer").1.contains("ok"));
    assert_eq!(get(&format!("{url}/health"), None).expect("an answer").0, 404);
    // As large as the service's own limit, and larger.
    let limit: usize = size.parse().expect("a number");
    post_photo(&api, &photo(Some(limit))).expect("a prediction");
    let refused = post_photo(&api, &photo(Some(limit + 1))).expect_err("too large");
    assert!(refused.contains("413"), "{refused}");
}

fn the_doctor_names_the_hop(storage: &mut Storage, start: Instant) {
    doctor_says(&[], 0, "Every hop works");

    install_service(",settings.jaegerCollectorHost=jaeger.tracing.svc.cluster.local");
    doctor_says(&[], 4, "jaeger.tracing.svc.cluster.local is unknown");
    // Nobody waits for the new pod but the doctor itself: the old one would still tell of tracing.
    install_service_and(",settings.enableTracing=false", &[]);
    let words = doctor_says(&[], 3, "enable_tracing='false'");
    assert!(words.contains("for pods that are being replaced"), "{words}");
    install_service(",settings.collectorAllowedHost=http://elsewhere:4318");
    doctor_says(&[], 10, "allowed: http://elsewhere:4318");
    install_service("");

    kubectl(SERVICE, "scale deployment hand-gesture-api --replicas=0");
    let selector = "app.kubernetes.io/instance=hand-gesture-api";
    kubectl(SERVICE, &format!("wait pods --for=delete --selector {selector} --timeout=90s"));
    doctor_says(&[], 2, "does not answer");
    // A pod that never comes up is not waited for without end.
    kubectl(SERVICE, "set image deployment/hand-gesture-api api=hand-gesture-api:none");
    kubectl(SERVICE, "scale deployment hand-gesture-api --replicas=1");
    let words = doctor_says(&["--wait", "5"], 2, "does not answer");
    assert!(words.contains("pods are still being replaced after 5 s"), "{words}");
    kubectl(SERVICE, "set image deployment/hand-gesture-api api=hand-gesture-api:test");
    kubectl(SERVICE, "rollout status deployment/hand-gesture-api --timeout=120s");

    kubectl(JAEGER, "scale deployment jaeger-collector --replicas=0");
    kubectl(
        JAEGER,
        "wait pods --for=delete --selector app.kubernetes.io/component=collector --timeout=90s",
    );
    doctor_says(&[], 5, "0 wanted");

    // A collector does not come up without its storage.
    let port = storage.port();
    drop(storage.proxy.take());
    kubectl(JAEGER, "scale deployment jaeger-collector --replicas=1");
    doctor_says(&["--wait", "5"], 8, "does not answer");
    storage.back(port);
    // A new pod tries at once, that one only after a pause.
    kubectl(JAEGER, "delete pods --selector app.kubernetes.io/component=collector");
    kubectl(JAEGER, "rollout status deployment/jaeger-collector --timeout=120s");

    drop(storage.proxy.take());
    doctor_says(&[], 8, "does not answer");
    storage.back(port);

    storage.proxy.as_ref().expect("it runs").rotate("second");
    doctor_says(&[], 7, "refuses the login of user elastic");
    storage.proxy.as_ref().expect("it runs").rotate("first");

    // Query reads another prefix than the collector writes.
    let config = kubectl(JAEGER, "get configmap jaeger-query --output=json");
    let other = config.replace("index_prefix: \\\"\\\"", "index_prefix: \\\"blue\\\"");
    assert_ne!(config, other);
    let file = storage.folder.join("query.json");
    std::fs::write(&file, other).expect("written");
    kubectl(JAEGER, &format!("apply -f {}", file.display()));
    kubectl(JAEGER, "rollout restart deployment/jaeger-query");
    kubectl(JAEGER, "rollout status deployment/jaeger-query --timeout=120s");
    doctor_says(&[], 9, "with 'blue'");
    // The repair that it names.
    let repair = "upgrade jaeger infra/helm/jaeger --namespace tracing --reuse-values --force-conflicts --wait";
    run("helm", &repair.split(' ').collect::<Vec<_>>());
    kubectl(JAEGER, "rollout restart deployment/jaeger-query");
    kubectl(JAEGER, "rollout status deployment/jaeger-query --timeout=120s");
    doctor_says(&[], 0, "Every hop works");
    step("the doctor named every broken hop", start);
}

/// Setup says what is wrong, and what to do.
#[test]
fn setup_names_what_is_missing() {
    let folder = folder("setup");
    let namespace = "setup";
    kubectl("default", &format!("delete namespace {namespace} --ignore-not-found --wait=true"));
    let configuration = run("kubectl", &["config", "view", "--raw", "--minify", "--output=json"]);
    let configuration: Value = serde_json::from_str(&configuration).expect("JSON");
    let kubeconfig = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut configuration = configuration.clone();
        change(&mut configuration);
        let file = folder.join(name);
        std::fs::write(&file, configuration.to_string()).expect("written");
        file
    };
    let says = |kubeconfig: &Path, options: &[&str], evidence: &str| {
        let options = [&["--namespace", namespace], options].concat();
        let (code, words) = operator_with(kubeconfig, "infra/setup-jaeger.sh", &options);
        assert!(code == 1 && words.contains("REPAIR: "), "{options:?}: {code} {words}");
        assert!(words.contains(evidence), "{evidence:?} is not in {words}");
    };

    let nobody = format!("https://127.0.0.1:{}", free_port());
    let no_cluster = kubeconfig("no-cluster", &|all| {
        all["clusters"][0]["cluster"]["server"] = nobody.clone().into();
    });
    says(&no_cluster, &[], "no cluster answers");

    // A service account without any right, then one that may look only.
    kubectl("default", "delete serviceaccount guest --ignore-not-found");
    kubectl("default", "create serviceaccount guest");
    let token = kubectl("default", "create token guest").trim().to_owned();
    let guest = kubeconfig("guest", &|all| {
        all["users"][0]["user"] = serde_json::json!({ "token": token });
    });
    says(&guest, &[], "you may not see the namespace setup");
    kubectl("default", &format!("create namespace {namespace}"));
    says(&guest, &[], "you may not see the namespace setup");
    kubectl(
        namespace,
        "create rolebinding guest --clusterrole=view --serviceaccount=default:guest",
    );
    let sees = || operator_with(&guest, "kubectl", &["get", "namespace", namespace]).0 == 0;
    wait(30, || "the role is not granted".into(), sees);
    says(&guest, &[], "you may not create deployments.apps in the namespace setup");

    let admin = PathBuf::from(variable("TEST_KUBECONFIG"));
    let address = format!("http://{}:{}", variable("HOST_FROM_PODS"), free_port());
    let elasticsearch = ["--elasticsearch", &address];
    let login = ["--user", "elastic", "--secret", "none"];
    let options = [&elasticsearch[..], &login].concat();
    says(&admin, &options, "the secret none is missing in the namespace setup");
    says(&admin, &elasticsearch, "is not within reach from the namespace setup");
    let left = run("helm", &["list", "--namespace", namespace, "--short"]);
    assert_eq!(left.trim(), "", "nothing was installed");

    // An image that is nowhere; and the run after it forgets its options, though it has none itself.
    let image = ["--timeout", "2s", "--", "--set", "image.tag=none"];
    says(&admin, &image, "Jaeger does not become ready");
    let values = || run("helm", &["get", "values", "jaeger", "--namespace", namespace, "-o=json"]);
    assert!(values().contains("none"), "{}", values());
    _ = operator("infra/setup-jaeger.sh", &["--namespace", namespace, "--timeout", "2s"]);
    assert_eq!(values().trim(), "null");
    kubectl("default", "delete serviceaccount guest");
    kubectl("default", &format!("delete namespace {namespace} --wait=false"));
}

/// Each example's manifests are taken by the API server, custom resources too.
#[test]
fn the_api_server_takes_every_manifest() {
    kubectl("default", "apply --server-side --force-conflicts -f infra/tests/crds");
    for (module, path) in [
        ("github.com/elastic/cloud-on-k8s/v3", "config/crds/v1/all-crds.yaml"),
        (
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        ),
        (
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ),
        (
            "sigs.k8s.io/gateway-api",
            "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
        ),
    ] {
        let mut go = Command::new("go");
        go.args(["mod", "download", "-json", module]).current_dir(root().join("infra/tools/crds"));
        let answer: Value =
            serde_json::from_str(&output(&mut go).expect("downloaded")).expect("JSON");
        let folder = answer["Dir"].as_str().expect("a folder");
        kubectl("default", &format!("apply --server-side --force-conflicts -f {folder}/{path}"));
    }
    kubectl("default", "wait crds --all --for=condition=Established --timeout=60s");
    kubectl("default", "delete namespace manifests --ignore-not-found --wait=true");
    kubectl("default", "create namespace manifests");
    kubectl("manifests", "wait serviceaccount/default --for=create --timeout=60s");
    let mut seen = 0;
    for chart in ["jaeger", "hand-gesture-api"] {
        let examples = root().join("infra/helm").join(chart).join("examples");
        for example in std::fs::read_dir(examples).expect("examples") {
            let rendered = example.expect("an entry").path().join("rendered.yaml");
            let text = std::fs::read_to_string(&rendered).expect("rendered.yaml");
            let text = text.replace("namespace: tracing", "namespace: manifests");
            let text = text.replace("namespace: asl", "namespace: manifests");
            let file = root().join("target/tmp/manifests.yaml");
            std::fs::write(&file, text).expect("written");
            let file = file.display().to_string();
            run(
                "kubectl",
                &["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", &file],
            );
            seen += 1;
        }
    }
    assert!(seen >= 16, "only {seen} examples");
    kubectl("default", "delete namespace manifests --wait=false");
}
