//! Both charts on a real Kubernetes, with Elasticsearch as storage: an operator's work, and the faults that
//! an operator meets. Runs only on the cluster that `TEST_KUBECONFIG` names; `HOST_FROM_PODS` is this
//! machine's address as pods see it. `.ci/cluster` starts such a cluster and loads the images.
//!
//! Most of the time is waiting, so the parts run at once, each with a Jaeger and a service of its own.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::http::{get, metric, post};
use test_support::jaeger::Span;
use test_support::older_clients::{self, Thrift};
use test_support::process::{free_port, wait};
use test_support::servers::{Proxy, Search, write_password};
use test_support::{folder, output, root, target, versions};

/// Suffixes of the namespaces of each part.
const PARTS: [&str; 4] = ["", "-logins", "-before", "-behind"];
/// Index prefixes of "-before" and "-behind", which change their indices. The others share theirs.
const BEFORE_PREFIX: &str = "before";
const BEHIND_PREFIX: &str = "behind";
/// The label of a namespace's pod security level.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// Time that a storage or a collector is away.
const AWAY: Duration = Duration::from_secs(30);
/// Delay of a slow storage, from the doctor's first span. The doctor looks for 4 s, starts a pod, and looks again
/// for 20 s.
const LATE: Duration = Duration::from_secs(10);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see .ci/cluster"))
}

/// Runs kubectl, helm or a script on the test cluster, and returns its exit code and all of its output.
fn operator(program: &str, arguments: &[&str]) -> (i32, String) {
    operator_with(Path::new(&variable("TEST_KUBECONFIG")), program, arguments)
}

/// Runs a command with another kubeconfig.
fn operator_with(kubeconfig: &Path, program: &str, arguments: &[&str]) -> (i32, String) {
    let tools = target().join("tools");
    let path = std::env::var("PATH").expect("PATH");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).env("KUBECONFIG", kubeconfig);
    // Unset in containers and cron jobs.
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

/// Returns a Service's URL. This machine reaches the cluster's addresses.
fn service(namespace: &str, name: &str, port: u16) -> String {
    let address =
        kubectl(namespace, &format!("get service {name} -o jsonpath={{.spec.clusterIP}}"));
    format!("http://{address}:{port}")
}

/// Waits until no pod is terminating. An old one might still answer, or write spans into its old storage.
fn old_pods_are_gone(namespace: &str) {
    let leaving = || {
        let names = "jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.name}";
        kubectl(namespace, &format!("get pods --output={names}"))
    };
    wait(120, || format!("{} are still there", leaving()), || leaving().is_empty());
}

/// Returns the photo that is posted, padded to a size if one is given.
fn photo(size: Option<usize>) -> Vec<u8> {
    let mut photo = std::fs::read(root().join("tests/photos/v.jpg")).expect("a photo");
    // Bytes after a JPEG's end are ignored.
    photo.resize(size.unwrap_or(photo.len()), 0);
    photo
}

/// Posts a photo and returns its trace's id.
fn post_photo(url: &str, photo: &[u8]) -> Result<String, String> {
    let (trace, answer) = post_body(url, photo);
    let answer = answer?;
    assert!(answer.contains("\"prediction\":\"V\""), "{answer}");
    Ok(trace)
}

/// Posts a body as the user ada, with a new trace id. Returns the id and the answer.
fn post_body(url: &str, body: &[u8]) -> (String, Result<String, String>) {
    let trace = Span::new("").trace;
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
    let request = agent
        .post(format!("{url}/predict"))
        .header("content-type", "image/jpeg")
        .header("x-user", "ada")
        .header("traceparent", format!("00-{trace}-{}-01", &trace[..16]));
    let answer = request.send(body).and_then(|mut answer| answer.body_mut().read_to_string());
    (trace, answer.map_err(|error| error.to_string()))
}

/// Returns the names of a trace's spans; none if it is not found.
fn span_names(query: &str, trace: &str) -> BTreeSet<String> {
    let url = format!("{query}/api/traces/{trace}");
    let Ok((200, body)) = get(&url, None) else { return BTreeSet::new() };
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let spans = answer["data"][0]["spans"].as_array().cloned().unwrap_or_default();
    spans.iter().filter_map(|span| span["operationName"].as_str().map(str::to_owned)).collect()
}

/// Names of the spans of a prediction.
const SPANS: [&str; 8] = [
    "POST /predict",
    "asl_prediction",
    "hand_landmarks",
    "image_preprocessing",
    "landmark_detection",
    "model_inference",
    "palm_detection",
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

/// Returns true if a span's trace is found.
fn is_found(query: &str, span: &Span) -> bool {
    let url = format!("{query}/api/v3/traces/{}", span.trace);
    get(&url, None).is_ok_and(|(status, _)| status == 200)
}

/// Two clients that run until they are stopped: one sends spans, one posts photos.
struct Load {
    stop: Arc<AtomicBool>,
    spans: Arc<Mutex<Vec<Span>>>,
    photos: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Sends some 25 spans a second to the collector, each again until it is accepted, as OTLP asks of
    /// clients; and a photo a second to the service, each once.
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

    /// Stops, waits until everything that was sent is found, and returns the numbers of spans and photos.
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

/// Returns a part's namespaces, Jaeger's and the service's. Those of the first part are the scripts'
/// defaults.
fn namespaces(part: &str) -> [String; 2] {
    ["tracing", "asl"].map(|name| format!("{name}{part}"))
}

/// Creates the namespaces anew, with restricted pod security. Setup creates the first part's for Jaeger.
fn fresh_namespaces() {
    let mut all = PARTS.map(namespaces).concat();
    let names = all.join(" ");
    kubectl("default", &format!("delete namespace {names} --ignore-not-found --wait=true"));
    all.remove(0);
    for namespace in all {
        kubectl("default", &format!("create namespace {namespace}"));
        kubectl("default", &format!("label namespace {namespace} {ENFORCE}=restricted"));
    }
}

/// A Jaeger and a service in namespaces of their own, and a proxy with a login, through which pods reach
/// Elasticsearch.
struct Site<'a> {
    /// Jaeger's namespace.
    jaeger: String,
    /// The service's namespace.
    service: String,
    server: &'a Search,
    proxy: Option<Proxy>,
    folder: PathBuf,
    address: String,
    start: Instant,
}

impl<'a> Site<'a> {
    fn new(part: &str, server: &'a Search, start: Instant) -> Site<'a> {
        let folder = folder(&format!("cluster{part}"));
        let address = variable("HOST_FROM_PODS");
        let proxy = Some(Proxy::plain(&folder, &address, 0, server.port, "first"));
        let [jaeger, service] = namespaces(part);
        Site { jaeger, service, server, proxy, folder, address, start }
    }

    fn port(&self) -> u16 {
        self.proxy.as_ref().expect("it runs").port
    }

    /// Stops the proxy for some time.
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

    /// Runs kubectl in Jaeger's namespace.
    fn jaeger(&self, arguments: &str) -> String {
        kubectl(&self.jaeger, arguments)
    }

    /// Runs kubectl in the service's namespace.
    fn service(&self, arguments: &str) -> String {
        kubectl(&self.service, arguments)
    }

    fn api(&self) -> String {
        service(&self.service, "hand-gesture-api", 80)
    }

    fn query(&self) -> String {
        service(&self.jaeger, "jaeger-query", 16686)
    }

    /// Returns true if its namespaces are the defaults, which no command needs to name.
    fn has_default_names(&self) -> bool {
        [&self.jaeger, &self.service] == namespaces("").each_ref()
    }

    /// Sets up the Jaeger under test with further values, and asserts that the verification passed.
    fn setup(&self, arguments: &[&str], set: &str) -> String {
        let mut all = arguments.to_vec();
        if !self.has_default_names() {
            all.extend(["--namespace", &self.jaeger]);
        }
        let set = format!("image.tag={},storage.elasticsearch.replicas=0{set}", versions::jaeger());
        all.extend(["--", "--set", &set]);
        let words = run("infra/setup-jaeger.sh", &all);
        assert!(words.contains("Found it through"), "{words}");
        words
    }

    /// Sets up Jaeger with Elasticsearch as its storage.
    fn setup_elasticsearch(&self, arguments: &[&str], set: &str) -> String {
        let url = format!("http://{}:{}", self.address, self.port());
        let secret = "elasticsearch-credentials";
        let elasticsearch = ["--elasticsearch", &url, "--user", "elastic", "--secret", secret];
        self.setup(&[&elasticsearch, arguments].concat(), set)
    }

    fn make_elasticsearch_secret(&self) {
        let password = "--from-literal=password=first";
        self.jaeger(&format!("create secret generic elasticsearch-credentials {password}"));
    }

    /// Sets up Jaeger with Elasticsearch, and the service.
    fn set_up_everything(&self, set: &str) {
        self.make_elasticsearch_secret();
        self.setup_elasticsearch(&[], set);
        self.install_service("");
        self.step("set up with Elasticsearch");
    }

    fn install_service(&self, set: &str) {
        self.install_service_and(set, &["--wait", "--timeout", "3m"]);
    }

    fn install_service_and(&self, set: &str, options: &[&str]) {
        let collector = match self.has_default_names() {
            true => String::new(),
            false => format!(
                ",settings.jaegerCollectorHost=jaeger-collector.{}.svc.cluster.local",
                self.jaeger
            ),
        };
        let set = format!("image.repository=hand-gesture-api,image.tag=test{collector}{set}");
        let mut all =
            vec!["upgrade", "--install", "hand-gesture-api", "infra/helm/hand-gesture-api"];
        all.extend(["--namespace", &self.service, "--set", &set, "--values"]);
        all.push("infra/helm/hand-gesture-api/values-development.yaml");
        all.extend(options);
        run("helm", &all);
    }

    /// Asserts that the doctor ends with this code and evidence, and returns all of its output.
    fn doctor_says(&self, options: &[&str], code: i32, evidence: &str) -> String {
        let begin = Instant::now();
        let mut all = options.to_vec();
        if !self.has_default_names() {
            all.extend(["--jaeger-namespace", &self.jaeger, "--namespace", &self.service]);
        }
        let (found, words) = operator("infra/doctor.sh", &all);
        assert!(
            found == code && words.contains(evidence),
            "not {code} and {evidence:?}: {found} {words}"
        );
        let broken = words.lines().find(|l| l.contains("BROKEN")).unwrap_or("every hop works");
        self.step(&format!("doctor {code} in {} s: {broken}", begin.elapsed().as_secs()));
        words
    }

    /// Deletes the namespaces without waiting.
    fn remove(self) {
        let Site { jaeger, service, .. } = self;
        kubectl("default", &format!("delete namespace {jaeger} {service} --wait=false"));
    }

    fn step(&self, name: &str) {
        println!("{:4} s  {}: {name}", self.start.elapsed().as_secs(), self.jaeger);
    }
}

#[test]
fn charts_scripts_and_doctor_work_on_a_cluster() {
    let start = Instant::now();
    let namespaces = std::thread::spawn(fresh_namespaces);
    let server = Search::start("elasticsearch", &folder("cluster-elasticsearch"));
    namespaces.join().expect("fresh namespaces");
    let [story, logins, before, behind] = PARTS.map(|part| Site::new(part, &server, start));
    story.step("namespaces are fresh, Elasticsearch runs");
    std::thread::scope(|all| {
        all.spawn(|| from_setup_to_uninstall(story));
        all.spawn(|| logins_are_asked_for(logins));
        all.spawn(|| the_doctor_names_the_hop_before_the_collector(before));
        all.spawn(|| the_doctor_names_the_hop_behind_it(behind));
    });
}

fn from_setup_to_uninstall(mut site: Site) {
    // Setup with memory; then, run again, with Elasticsearch.
    site.setup(&[], "");
    assert_eq!(pod_security(&site.jaeger), "restricted");
    site.step("set up with memory");
    site.make_elasticsearch_secret();
    site.setup_elasticsearch(&[], "");
    old_pods_are_gone(&site.jaeger);
    site.step("moved to Elasticsearch");

    // The service, photos, their traces in Elasticsearch. Every letter has low confidence.
    site.install_service(",settings.userIdHeader=x-user,settings.lowConfidenceThreshold=0.99999");
    let api = site.api();
    let query = site.query();
    let collector = service(&site.jaeger, "jaeger-collector", 4318);
    // A Service follows its pods within a second or two.
    wait(30, || "no answer".into(), || get(&format!("{api}/health"), None).is_ok());
    let photos: Vec<String> =
        (0..5).map(|_| post_photo(&api, &photo(None)).expect("a prediction")).collect();
    find_all(&query, &photos, 60);
    run("helm", &["test", "hand-gesture-api", "--namespace", &site.service]);
    let indices = site.server.indices();
    let promised = ["", BEFORE_PREFIX, BEHIND_PREFIX].map(index_start);
    assert!(indices.iter().all(|name| promised.iter().any(|p| name.starts_with(p))), "{indices:?}");
    site.doctor_says(&[], 0, "Every hop works");
    site.step("photos' traces are found in Elasticsearch");
    the_searches_of_the_readme_find(&site);
    the_api_prefix_is_taken_away(&api);

    // Under load: new pods, Elasticsearch away, the collector away.
    let lost_none = |site: &Site, what: &str, load: Load, seconds: u64| {
        let (spans, photos) = load.end(&query, seconds);
        site.step(&format!("{what} lost none of {spans} spans, {photos} photos' traces"));
    };
    let load = Load::start(&collector, &api);
    std::thread::sleep(Duration::from_secs(3));
    let deployments = "deployment/jaeger-collector deployment/jaeger-query";
    site.jaeger(&format!("rollout restart {deployments}"));
    for deployment in deployments.split(' ') {
        site.jaeger(&format!("rollout status {deployment} --timeout=180s"));
    }
    old_pods_are_gone(&site.jaeger);
    lost_none(&site, "a rolling upgrade", load, 60);

    if versions::jaeger_retries_writes() {
        let load = Load::start(&collector, &api);
        std::thread::sleep(Duration::from_secs(3));
        site.away(AWAY);
        std::thread::sleep(Duration::from_secs(3));
        lost_none(&site, &format!("{AWAY:?} without Elasticsearch"), load, 120);
    }

    let load = Load::start(&collector, &api);
    std::thread::sleep(Duration::from_secs(3));
    site.jaeger("scale deployment jaeger-collector --replicas=0");
    std::thread::sleep(AWAY);
    site.jaeger("scale deployment jaeger-collector --replicas=1");
    site.jaeger("rollout status deployment/jaeger-collector --timeout=120s");
    std::thread::sleep(Duration::from_secs(3));
    lost_none(&site, &format!("{AWAY:?} without collector"), load, 120);

    // Test, roll back, uninstall: nothing is left.
    let jaeger = ["--namespace", &site.jaeger];
    run("helm", &[&["test", "jaeger"], &jaeger[..]].concat());
    run("helm", &[&["rollback", "jaeger", "1", "--wait"], &jaeger[..]].concat());
    run("helm", &[&["test", "jaeger"], &jaeger[..]].concat());
    run("helm", &[&["uninstall", "jaeger", "--wait"], &jaeger[..]].concat());
    run("helm", &["uninstall", "hand-gesture-api", "--namespace", &site.service, "--wait"]);
    let kinds = "deployments,daemonsets,cronjobs,jobs,services,configmaps,ingresses,serviceaccounts,\
                 poddisruptionbudgets,horizontalpodautoscalers,networkpolicies,persistentvolumeclaims";
    for namespace in [&site.jaeger, &site.service] {
        let left = kubectl(namespace, &format!("get {kinds} --output=name"));
        let left: Vec<&str> = left
            .lines()
            .filter(|name| !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(name))
            .collect();
        assert!(left.is_empty(), "{namespace}: {left:?}");
    }
    site.step("tested, rolled back, uninstalled");
    site.remove();
}

/// Runs the searches of infra/README.md as they stand there, and asserts that they find what they claim.
fn the_searches_of_the_readme_find(site: &Site) {
    let api = site.api();
    let letter = post_photo(&api, &photo(None)).expect("a prediction");
    let (broken, answer) = post_body(&api, b"no photo");
    assert!(answer.expect_err("refused").contains("422"));

    let readme = std::fs::read_to_string(root().join("infra/README.md")).expect("README");
    let (_, searches) = readme.split_once("\nstart=").expect("the searches");
    let (searches, _) = searches.split_once("\n```").expect("their end");
    let script = format!("start={searches}").replace("http://localhost:16686", &site.query());
    // The ids that each search finds.
    let found = || -> Vec<Vec<String>> {
        let answers = output(Command::new("sh").args(["-ec", &script])).expect("searched");
        let answers = serde_json::Deserializer::from_str(&answers).into_iter::<Value>();
        let ids = |answer: Value| {
            let traces = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
            traces.iter().map(|one| one["traceID"].as_str().expect("an id").to_owned()).collect()
        };
        answers.map(|answer| ids(answer.expect("JSON"))).collect()
    };
    let as_they_say = || {
        let [_slow, failed, of_user, low_confidence, letters] = &found()[..] else { return false };
        failed.contains(&broken)
            && !failed.contains(&letter)
            && [of_user, low_confidence, letters].iter().all(|ids| ids.contains(&letter))
            && !letters.contains(&broken)
    };
    wait(60, || format!("letter {letter}, broken {broken}: {:?}", found()), as_they_say);
    site.step("the README's searches find");
}

/// Returns the start of the names of a prefix's indices.
fn index_start(prefix: &str) -> String {
    if prefix.is_empty() { "jaeger-".into() } else { format!("{prefix}-jaeger-") }
}

/// Returns a namespace's pod security level.
fn pod_security(namespace: &str) -> String {
    let label = ENFORCE.replace('.', "\\.");
    let label = format!("--output=jsonpath={{.metadata.labels.{label}}}");
    kubectl("default", &format!("get namespace {namespace} {label}"))
}

/// Creates a secret with the logins that a server accepts, and one with a client's login.
fn make_logins(site: &Site, server: &str, client: &str) {
    let file = site.folder.join("htpasswd");
    write_password(&file, "ada", "two");
    let from = format!("--from-file=htpasswd={}", file.display());
    site.jaeger(&format!("create secret generic {server} {from}"));
    let from = "--from-literal=username=ada --from-literal=password=two";
    site.jaeger(&format!("create secret generic {client} {from}"));
}

fn logins_are_asked_for(site: Site) {
    site.set_up_everything("");
    the_page_asks_for_a_login(&site);
    the_collector_asks_for_a_login(&site);
    site.step("page and collector ask for a login");
    site.remove();
}

/// The UI, exposed with a login: setup, `helm test` and the doctor read with one.
fn the_page_asks_for_a_login(site: &Site) {
    make_logins(site, "jaeger-logins", "jaeger-client");
    let exposed =
        ["--address", "192.0.2.10", "--login", "jaeger-logins", "--client", "jaeger-client"];
    let words = site.setup_elasticsearch(&exposed, "");
    assert!(words.contains("http://jaeger.192.0.2.10.nip.io"), "{words}");
    old_pods_are_gone(&site.jaeger);
    assert_eq!(get(&format!("{}/api/services", site.query()), None).expect("an answer").0, 401);
    run("helm", &["test", "jaeger", "--namespace", &site.jaeger]);
    site.doctor_says(&[], 9, "query asks for a login");
    site.doctor_says(&["--client", "jaeger-client"], 0, "Every hop works");
    site.setup_elasticsearch(&[], "");
}

/// The collector accepts spans with a login only: setup and the service have one, and the agent has one for
/// clients without.
fn the_collector_asks_for_a_login(site: &Site) {
    make_logins(site, "otlp-logins", "otlp-client");
    let logins = ",agent.enabled=true,collector.otlp.auth.htpasswdSecret=otlp-logins,\
                  collector.otlp.auth.clientSecret=otlp-client";
    site.setup_elasticsearch(&[], logins);
    site.doctor_says(&[], 6, "status=401");
    // ada:two
    let headers = "--from-literal=headers=authorization=Basic%20YWRhOnR3bw==";
    site.service(&format!("create secret generic otlp-headers {headers}"));
    site.install_service(",otlpHeadersSecret.name=otlp-headers");
    site.doctor_says(&[], 0, "Every hop works");
    the_agent_passes_on(site);
    site.install_service("");
    site.setup_elasticsearch(&[], "");
    old_pods_are_gone(&site.jaeger);
}

/// The agent runs under restricted pod security, and forwards the service's spans (OTLP) and an older
/// client's (UDP).
fn the_agent_passes_on(site: &Site) {
    assert_eq!(pod_security(&site.jaeger), "restricted");
    site.jaeger("rollout status daemonset/jaeger-agent --timeout=120s");
    let agent = format!("jaeger-agent.{}.svc.cluster.local", site.jaeger);
    site.install_service(&format!(",settings.jaegerCollectorHost={agent}"));
    site.doctor_says(&[], 0, "Every hop works");
    let query = site.query();
    let photo = post_photo(&site.api(), &photo(None));
    find_all(&query, &[photo.expect("a prediction")], 60);

    let span = Span::new("thrift-udp");
    let agent = service(&site.jaeger, "jaeger-agent", 6831);
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
    let pod = site.jaeger(&format!("{pod} --output=jsonpath={{.items[*].status.podIP}}"));
    let passed_on = metric(&format!("http://{pod}:8888"), "otelcol_exporter_sent_spans");
    assert!(passed_on > SPANS.len() as f64, "the agent passed on only {passed_on} spans");
}

/// Runs the rendered Ingress's rule in nginx itself, as ingress-nginx would write it.
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
    // At the service's own limit, and above it.
    let limit: usize = size.parse().expect("a number");
    post_photo(&api, &photo(Some(limit))).expect("a prediction");
    let refused = post_photo(&api, &photo(Some(limit + 1))).expect_err("too large");
    assert!(refused.contains("413"), "{refused}");
}

fn the_doctor_names_the_hop_before_the_collector(site: Site) {
    let prefix = format!(",storage.elasticsearch.indexPrefix={BEFORE_PREFIX}");
    site.set_up_everything(&prefix);
    site.doctor_says(&[], 0, "Every hop works");

    site.install_service(",settings.jaegerCollectorHost=jaeger.tracing.svc.cluster.local");
    site.doctor_says(&[], 4, "jaeger.tracing.svc.cluster.local is unknown");
    // Only the doctor waits for the new pod. The old one would still report tracing as enabled.
    site.install_service_and(",settings.enableTracing=false", &[]);
    let words = site.doctor_says(&[], 3, "enable_tracing='false'");
    assert!(words.contains("for pods that are being replaced"), "{words}");
    site.install_service(",settings.collectorAllowedHost=http://elsewhere:4318");
    site.doctor_says(&[], 10, "allowed: http://elsewhere:4318");
    site.install_service("");

    site.service("scale deployment hand-gesture-api --replicas=0");
    let selector = "app.kubernetes.io/instance=hand-gesture-api";
    site.service(&format!("wait pods --for=delete --selector {selector} --timeout=90s"));
    site.doctor_says(&[], 2, "does not answer");
    // The doctor gives up on a pod that never starts.
    site.service("set image deployment/hand-gesture-api api=hand-gesture-api:none");
    site.service("scale deployment hand-gesture-api --replicas=1");
    let words = site.doctor_says(&["--wait", "5"], 2, "does not answer");
    assert!(words.contains("pods are still being replaced after 5 s"), "{words}");
    site.service("set image deployment/hand-gesture-api api=hand-gesture-api:test");
    site.service("rollout status deployment/hand-gesture-api --timeout=120s");
    site.step("the doctor named every broken hop before the collector");
    the_indices_are_looked_after(&site, &prefix);
    site.remove();
}

fn the_doctor_names_the_hop_behind_it(mut site: Site) {
    site.set_up_everything(&format!(",storage.elasticsearch.indexPrefix={BEHIND_PREFIX}"));

    // A storage that shows spans late is slow, not broken.
    let indices = format!("{}/{BEHIND_PREFIX}-jaeger-*", site.server.url());
    let refresh_every = |time: &str| {
        let settings = serde_json::json!({"index": {"refresh_interval": time}}).to_string();
        let request = ureq::put(format!("{indices}/_settings"));
        request.header("content-type", "application/json").send(settings).expect("its settings");
    };
    let written = || {
        let (_, stats) = get(&format!("{indices}/_stats/indexing"), None).expect("an answer");
        let stats: Value = serde_json::from_str(&stats).expect("JSON");
        stats["_all"]["primaries"]["indexing"]["index_total"].as_u64().expect("a count")
    };
    refresh_every("-1");
    let before = written();
    std::thread::scope(|all| {
        all.spawn(|| {
            wait(120, || "no span of the doctor".into(), || written() > before);
            std::thread::sleep(LATE);
            refresh_every("1s");
        });
        site.doctor_says(&[], 0, "Every hop works");
    });

    site.jaeger("scale deployment jaeger-collector --replicas=0");
    let collector = "--selector app.kubernetes.io/component=collector";
    site.jaeger(&format!("wait pods --for=delete {collector} --timeout=90s"));
    site.doctor_says(&[], 5, "0 wanted");

    // A collector does not come up without its storage.
    let port = site.port();
    drop(site.proxy.take());
    site.jaeger("scale deployment jaeger-collector --replicas=1");
    site.doctor_says(&["--wait", "5"], 8, "does not answer");
    site.back(port);
    // A new pod connects at once, the old one only after a pause.
    site.jaeger(&format!("delete pods {collector}"));
    site.jaeger("rollout status deployment/jaeger-collector --timeout=120s");

    drop(site.proxy.take());
    site.doctor_says(&[], 8, "does not answer");
    site.back(port);

    site.proxy.as_ref().expect("it runs").rotate("second");
    site.doctor_says(&[], 7, "refuses the login of user elastic");
    site.proxy.as_ref().expect("it runs").rotate("first");

    site.jaeger("scale deployment jaeger-query --replicas=0");
    site.doctor_says(&[], 9, "query does not answer");
    site.jaeger("scale deployment jaeger-query --replicas=1");

    // Query reads another index prefix than the collector writes.
    let config = site.jaeger("get configmap jaeger-query --output=json");
    let prefix = |prefix: &str| format!("index_prefix: \\\"{prefix}\\\"");
    let other = config.replace(&prefix(BEHIND_PREFIX), &prefix("blue"));
    assert_ne!(config, other);
    let file = site.folder.join("query.json");
    std::fs::write(&file, other).expect("written");
    site.jaeger(&format!("apply -f {}", file.display()));
    site.jaeger("rollout restart deployment/jaeger-query");
    site.jaeger("rollout status deployment/jaeger-query --timeout=120s");
    site.doctor_says(&[], 9, "with 'blue'");
    // The remedy that the doctor names.
    let repair = format!(
        "upgrade jaeger infra/helm/jaeger --namespace {} --reuse-values --force-conflicts --wait",
        site.jaeger
    );
    run("helm", &repair.split(' ').collect::<Vec<_>>());
    site.jaeger("rollout restart deployment/jaeger-query");
    site.jaeger("rollout status deployment/jaeger-query --timeout=120s");
    site.doctor_says(&[], 0, "Every hop works");
    site.step("the doctor named every broken hop behind the collector");
    site.remove();
}

/// The cleaner's pod deletes nothing, since nothing is old enough. Then indices that roll over replace daily
/// ones: the chart's hook creates them, its pods maintain them.
fn the_indices_are_looked_after(site: &Site, set: &str) {
    let run_now = |name: &str| {
        site.jaeger(&format!("create job --from=cronjob/jaeger-{name} {name}-now"));
        site.jaeger(&format!("wait job/{name}-now --for=condition=complete --timeout=90s"));
    };
    let of_spans = format!("{}span-", index_start(BEFORE_PREFIX));
    let indices = || {
        let all = site.server.indices().into_iter();
        all.filter(|name| name.starts_with(&of_spans)).collect::<Vec<_>>()
    };
    let daily = indices();
    run_now("index-cleaner");
    assert_eq!(indices(), daily);

    let rollover = ",rollover.enabled=true,rollover.conditions.max_age=1s";
    site.setup_elasticsearch(&[], &format!("{set}{rollover}"));
    run_now("rollover");
    run_now("rollover-lookback");
    let rolled = ["000001", "000002"].map(|number| format!("{of_spans}{number}"));
    assert_eq!(indices(), [&rolled[..], &daily].concat());
    site.doctor_says(&[], 0, "Every hop works");
    site.step("indices are cleaned and roll over");
}

#[test]
fn setup_without_prerequisites_names_the_remedy() {
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

    // A service account without any right, then one that may only read.
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
    let proxy = Proxy::plain(&folder, &variable("HOST_FROM_PODS"), 0, free_port(), "first");
    let address = format!("http://{}:{}", variable("HOST_FROM_PODS"), proxy.port);
    let elasticsearch = ["--elasticsearch", &address];
    says(&admin, &elasticsearch, "asks for a login");
    kubectl(namespace, "create secret generic wrong --from-literal=password=wrong");
    let login = ["--user", "elastic", "--secret", "wrong"];
    let options = [&elasticsearch[..], &login].concat();
    says(&admin, &options, "refuses the login of user elastic (secret wrong)");
    let left = run("helm", &["list", "--namespace", namespace, "--short"]);
    assert_eq!(left.trim(), "", "nothing was installed");

    // An image that does not exist. The next run, without options, forgets it.
    let image = ["--timeout", "2s", "--", "--set", "image.tag=none"];
    says(&admin, &image, "Jaeger does not become ready");
    let values = || run("helm", &["get", "values", "jaeger", "--namespace", namespace, "-o=json"]);
    assert!(values().contains("none"), "{}", values());
    _ = operator("infra/setup-jaeger.sh", &["--namespace", namespace, "--timeout", "2s"]);
    assert_eq!(values().trim(), "null");
    kubectl("default", "delete serviceaccount guest");
    kubectl("default", &format!("delete namespace {namespace} --wait=false"));
}

/// Each example's manifests, custom resources included.
#[test]
fn api_server_accepts_every_manifest() {
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
    // Pods may only name a priority that the cluster has.
    for priority in ["observability", "web"] {
        kubectl("default", &format!("delete priorityclass {priority} --ignore-not-found"));
        kubectl("default", &format!("create priorityclass {priority} --value=1000"));
    }
    let mut seen = 0;
    for chart in ["jaeger", "hand-gesture-api"] {
        let examples = root().join("infra/helm").join(chart).join("examples");
        for example in std::fs::read_dir(examples).expect("examples") {
            let rendered = example.expect("an entry").path().join("rendered.yaml");
            let text = std::fs::read_to_string(&rendered).expect("rendered.yaml");
            let text = text.replace("namespace: \"tracing\"", "namespace: manifests");
            let text = text.replace("namespace: \"asl\"", "namespace: manifests");
            let file = target().join("tmp/manifests.yaml");
            std::fs::write(&file, text).expect("written");
            let file = file.display().to_string();
            run(
                "kubectl",
                &["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", &file],
            );
            seen += 1;
        }
    }
    assert!(seen >= 19, "only {seen} examples");
    kubectl("default", "delete namespace manifests --wait=false");
}
