//! The configuration that the chart renders, in Jaeger itself, against each storage's server. The tests
//! run one at a time, since the servers are large.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use test_support::charts::{manifest, render_jaeger, render_values};
use test_support::http::{get, post, post_as};
use test_support::jaeger::{Jaeger, Span, Start};
use test_support::older_clients::{self, Thrift};
use test_support::process::{free_port, wait};
use test_support::servers::{
    Cassandra, Kafka, Proxy, Search, WORST_PASSWORD, certificate, write_password,
};
use test_support::{folder, output, root, tool, versions};

/// `passwordReloadInterval` in these tests; the default is 30 s.
const RELOAD: Duration = Duration::from_secs(1);
/// The time for which the storage is away.
const AWAY: Duration = Duration::from_secs(10);

/// Starts collector and query with a rendered configuration.
fn collector_and_query(start: &Start) -> (Jaeger, Jaeger) {
    let collector = start.start();
    let query = Start { role: "query", ..*start }.start();
    (collector, query)
}

/// Returns today's date as it stands in the names of indices.
fn today() -> String {
    output(Command::new("date").args(["-u", "+%Y-%m-%d"])).expect("date").trim().to_owned()
}

/// Runs the command of a rendered CronJob or Job, with its environment.
fn run_job(
    rendered: &str,
    kind: &str,
    name: &str,
    replace: &[(&str, String)],
    secrets: &[(&str, &str)],
) -> Result<String, String> {
    let manifest = manifest(rendered, kind, name);
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("args: ")).expect("args");
    let mut arguments: Vec<String> = serde_json::from_str(line).expect("a list");
    let image =
        manifest.lines().find_map(|line| line.trim().strip_prefix("image: ")).expect("image");
    let tool_of_image = ["es-rollover", "es-index-cleaner"].into_iter().find(|t| image.contains(t));
    let put = |text: &str| {
        replace.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    arguments.iter_mut().for_each(|argument| *argument = put(argument));
    let mut command = match tool_of_image {
        Some(name) => Command::new(tool(name)),
        None => {
            assert!(manifest.contains("command: [\"sh\",\"-c\"]\n"), "{manifest}");
            let mut shell = Command::new("sh");
            shell.arg("-c");
            shell
        }
    };
    command.args(&arguments).env_clear();
    for line in manifest.lines() {
        let Some(pair) = line.trim().strip_prefix("- {name: ") else { continue };
        let Some((name, value)) = pair.trim_end_matches('}').split_once(", value: ") else {
            continue;
        };
        let value: String = serde_json::from_str(value).unwrap_or_else(|_| value.to_owned());
        command.env(name, put(&value));
    }
    for (name, value) in secrets {
        assert!(manifest.contains(&format!("- name: {name}\n")), "{name} is not in {manifest}");
        command.env(name, value);
    }
    output(&mut command)
}

#[test]
fn memory_keeps_spans_and_serves_sampling() {
    let folder = folder("storage-memory");
    let rendered = render_values("values-development", &[]);
    let jaeger = Start::collector(&rendered, &folder).start();
    let span = Span::new("memory");
    assert_eq!(jaeger.send(&span), 200);
    jaeger.find(&span, 10);
    assert_eq!(jaeger.sampling_probability(), 1.0);
    assert_eq!(jaeger.metric("otelcol_receiver_accepted_spans"), 1.0);
    assert_eq!(jaeger.process.stop(Duration::from_secs(20)), Some(0));
}

#[test]
fn ui_is_served_below_its_base_path_only() {
    let folder = folder("storage-path");
    let rendered = render_values("http-route", &[]);
    let jaeger = Start::collector(&rendered, &folder).start();
    let span = Span::new("path");
    assert_eq!(jaeger.send(&span), 200);
    let finds = |path: &str| {
        let url = jaeger.url(16686, &format!("{path}/api/v3/traces/{}", span.trace));
        get(&url, None).expect("an answer").1.contains(&span.operation)
    };
    wait(10, || jaeger.process.log(), || finds("/jaeger"));
    // Any other path gets the page.
    assert!(!finds(""));
}

#[test]
fn badger_keeps_spans_when_killed() {
    let folder = folder("storage-badger");
    let rendered = render_values("badger", &[]);
    let start = Start::collector(&rendered, &folder);
    let span = Span::new("badger");
    let first = start.start();
    assert_eq!(first.send(&span), 200);
    first.find(&span, 10);
    first.process.signal("KILL");
    drop(first);
    start.start().find(&span, 10);
}

/// Tests Elasticsearch or OpenSearch behind a proxy with a login and TLS.
fn search(name: &str) {
    let folder = folder(&format!("storage-{name}"));
    let server = Search::start(name, &folder);
    setup_sees_templates_of_others(&server);
    let proxy = Proxy::with_tls(&folder, free_port(), server.port, "first");
    let password = folder.join("etc/storage-password");
    mount_authority(&folder, "storage-ca");
    std::fs::create_dir_all(&password).expect("a folder");
    let password = password.join("password");
    let storage = format!(
        "storage.type={name},storage.elasticsearch.scheme=https,storage.elasticsearch.user=elastic,\
         storage.elasticsearch.existingSecret=s,storage.elasticsearch.tls.existingSecret=ca,\
         storage.elasticsearch.replicas=0,storage.elasticsearch.passwordReloadInterval=1s"
    );
    let rendered = render_jaeger(&["--set", &storage]);
    let address = [("https://elasticsearch:9200", format!("https://127.0.0.1:{}", proxy.port))];
    let start = Start { replace: &address, ..Start::collector(&rendered, &folder) };

    std::fs::write(&password, "wrong").expect("written");
    is_refused(&start, "401");

    // The right password: the span is found by service, operation, attribute and id, in the documented
    // indices.
    std::fs::write(&password, "first").expect("written");
    let (collector, query) = collector_and_query(&start);
    let span = Span::new(name);
    assert_eq!(collector.send(&span), 200);
    query.find(&span, 30);
    let date = today();
    assert_eq!(server.indices(), [format!("jaeger-service-{date}"), format!("jaeger-span-{date}")]);

    // The metric of the alert on a storage that refuses writes.
    assert!(collector.metric("jaeger_storage_bulk_index_inserts") >= 1.0);

    // A rotated password is followed without a restart.
    proxy.rotate(WORST_PASSWORD);
    std::fs::write(&password, WORST_PASSWORD).expect("written");
    std::thread::sleep(2 * RELOAD);
    let span = Span::new(name);
    assert_eq!(collector.send(&span), 200);
    query.find(&span, 60);

    // The storage is away: spans sent meanwhile are written when it is back.
    let port = proxy.port;
    drop(proxy);
    let span = Span::new(name);
    assert_eq!(collector.send(&span), 200);
    std::thread::sleep(AWAY);
    let _proxy = Proxy::with_tls(&folder, port, server.port, WORST_PASSWORD);
    if versions::jaeger_retries_writes() {
        query.find(&span, 60);
    } else {
        wait(30, || "no error is counted".into(), || errors(&collector) > 0.0);
    }

    // The index cleaner's command: with 30 days, the default, nothing is old enough; with 0, all of Jaeger's
    // indices are, and no others.
    server.create_index("shop-2020-01-01");
    let mut replace = address.to_vec();
    replace.push(("/etc/jaeger", folder.join("etc").display().to_string()));
    let clean = |days: u32| {
        let set = format!("{storage},indexCleaner.days={days}");
        let rendered = render_jaeger(&["--set", &set]);
        run_job(
            &rendered,
            "CronJob",
            "jaeger-index-cleaner",
            &replace,
            &[("ES_PASSWORD", WORST_PASSWORD)],
        )
        .expect("it cleans");
    };
    clean(30);
    assert_eq!(server.indices().len(), 2);
    clean(0);
    assert_eq!(server.indices(), [""; 0]);
    assert!(server.get("/shop-2020-01-01").is_ok());
    assert_eq!(collector.process.stop(Duration::from_secs(30)), Some(0));
    drop(query);

    api_key_leads_through_a_path(name, &server, &folder);
    server.clear();

    // Another prefix.
    let set = format!("{storage},storage.elasticsearch.indexPrefix=blue");
    let rendered = render_jaeger(&["--set", &set]);
    let (collector, query) = collector_and_query(&Start { rendered: &rendered, ..start });
    let span = Span::new(name);
    assert_eq!(collector.send(&span), 200);
    query.find(&span, 30);
    assert_eq!(
        server.indices(),
        [format!("blue-jaeger-service-{date}"), format!("blue-jaeger-span-{date}")]
    );
    drop((collector, query));

    // With the chart's value files.
    server.clear();
    if name == "opensearch" {
        let address = ("http://opensearch.search.svc:9200", server.url());
        return rolls_over("opensearch", &server, &folder, address, None);
    }
    let plain = folder.join("plain");
    std::fs::create_dir_all(&plain).expect("a folder");
    let plain = Proxy::plain(&plain, "127.0.0.1", 0, server.port, WORST_PASSWORD);
    let with_tls = format!("https://127.0.0.1:{port}");
    // ECK's secret has another key.
    std::fs::copy(&password, password.with_file_name("elastic")).expect("copied");
    for (values, from, to, probability) in [
        (
            "elasticsearch",
            "http://elasticsearch:9200",
            &format!("http://127.0.0.1:{}", plain.port),
            1.0,
        ),
        ("elasticsearch-provisioned", "https://jaeger-storage-es-http:9200", &with_tls, 1.0),
        ("values-production", "https://elasticsearch-es-http.elastic.svc:9200", &with_tls, 0.1),
    ] {
        let rendered = render_values(values, &[]);
        let address = [(from, to.clone())];
        let start = Start { rendered: &rendered, replace: &address, ..start };
        let (collector, query) = collector_and_query(&start);
        let span = Span::new(values);
        assert_eq!(collector.send(&span), 200);
        query.find(&span, 30);
        assert_eq!(collector.sampling_probability(), probability, "{values}");
        let replace = [&address[..], &replace[1..]].concat();
        let secrets = [("ES_PASSWORD", WORST_PASSWORD)];
        run_job(&rendered, "CronJob", "jaeger-index-cleaner", &replace, &secrets).expect(values);
        query.find(&span, 5);
    }
    assert_eq!(server.indices(), [format!("jaeger-service-{date}"), format!("jaeger-span-{date}")]);
    server.clear();
    let address = ("https://elasticsearch-es-http.elastic.svc:9200", with_tls);
    rolls_over("elasticsearch-rollover", &server, &folder, address, Some(WORST_PASSWORD));
}

/// Tests a proxy that asks for an API key, with the storage below a path.
fn api_key_leads_through_a_path(name: &str, server: &Search, folder: &Path) {
    // The scheme is not case-sensitive (RFC 9110). Jaeger writes APIKey.
    let proxied = format!(
        "if ($http_authorization !~* \"^ApiKey a2V5OiQjJw==$\") {{ return 401; }}
         location /search/ {{ proxy_pass http://127.0.0.1:{}/; proxy_http_version 1.1; }}",
        server.port
    );
    let at = folder.join("keyed");
    std::fs::create_dir_all(&at).expect("a folder");
    let proxy = Proxy::start(&at, ("127.0.0.1", free_port()), "", &proxied);
    let key = folder.join("etc/storage-api-key");
    std::fs::create_dir_all(&key).expect("a folder");
    let key = key.join("api-key");
    let set = format!(
        "storage.type={name},storage.elasticsearch.apiKey.existingSecret=keys,\
         storage.elasticsearch.path=/search,storage.elasticsearch.replicas=0,indexCleaner.enabled=false"
    );
    let rendered = render_jaeger(&["--set", &set]);
    let address = [("http://elasticsearch:9200", format!("http://127.0.0.1:{}", proxy.port))];
    let start = Start { replace: &address, ..Start::collector(&rendered, folder) };
    std::fs::write(&key, "wrong").expect("written");
    is_refused(&start, "401");
    std::fs::write(&key, "a2V5OiQjJw==").expect("written");
    let (collector, query) = collector_and_query(&start);
    let span = Span::new(name);
    assert_eq!(collector.send(&span), 200);
    query.find(&span, 30);
}

/// Asserts that setup-jaeger.sh's question to a storage shows it the index templates of others.
fn setup_sees_templates_of_others(server: &Search) {
    let setup = std::fs::read_to_string(root().join("infra/setup-jaeger.sh")).expect("setup");
    let question = setup.split('\'').find(|text| text.starts_with("/_index_template?"));
    let question = question.expect("its question");
    let found = || {
        let answer = server.get(question).expect("an answer");
        let script = "source infra/common.sh; foreign_templates '' \"$1\"";
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "test", &answer]).current_dir(root());
        output(&mut bash).expect("bash")
    };
    assert_eq!(found(), "");
    let template = format!("{}/_index_template/everything", server.url());
    let body = r#"{"index_patterns": ["shop-*", "jaeger-*"], "template": {"settings": {}}}"#;
    let mut put = Command::new("curl");
    put.args(["--silent", "--show-error", "--fail-with-body", "--request", "PUT", "--data", body]);
    put.args(["--header", "content-type: application/json", &template]);
    output(&mut put).expect("a template");
    assert_eq!(found(), "everything (jaeger-*)\n");
    ureq::delete(&template).call().expect("deleted");
}

/// Tests rollover as a value file configures it: the hooks' commands put the policy and create the
/// aliases, the collector writes through them, the CronJobs' commands roll over, look back and clean, and
/// both indices are read.
fn rolls_over(
    values: &str,
    server: &Search,
    folder: &Path,
    address: (&str, String),
    password: Option<&str>,
) {
    let address = [address];
    let etc = ("/etc/jaeger", folder.join("etc").display().to_string());
    let replace = [&address[..], &[etc]].concat();
    let secrets: Vec<_> = password.iter().map(|password| ("ES_PASSWORD", *password)).collect();
    let rendered = render_values(values, &[]);

    // These servers know no such policies. A document takes the place of the policy's URL.
    let (path, prefix, server_lacks) = match values {
        "elasticsearch-rollover" => {
            ("/_ilm/policy/jaeger-lifecycle", "production-", ",rollover.policy=none")
        }
        _ => ("/_plugins/_ism/policies/jaeger-lifecycle", "", ""),
    };
    let put_policy = |secrets: &[(&str, &str)]| {
        let document = [&replace[..], &[(path, "/policies/_doc/1".to_owned())]].concat();
        run_job(&rendered, "Job", "jaeger-lifecycle-policy", &document, secrets)
    };
    if password.is_some() {
        let wrong = [("ES_PASSWORD", "wrong")];
        assert!(put_policy(&wrong).expect_err("refused").contains("status=401"));
    }
    put_policy(&secrets).expect("it is put");
    assert!(server.get("/policies/_doc/1").expect("it is there").contains("30d"));

    // After a second instead of a day.
    let sooner = format!("rollover.conditions.max_age=1s{server_lacks}");
    let jobs = render_values(values, &["--set", &sooner]);
    let job = |kind: &str, name: &str| {
        run_job(&jobs, kind, name, &replace, &secrets)
            .unwrap_or_else(|error| panic!("{values}, {name}: {error}"))
    };
    job("Job", "jaeger-rollover-init");
    let start = Start { replace: &address, ..Start::collector(&rendered, folder) };
    let (collector, query) = collector_and_query(&start);
    let before = Span::new(values);
    assert_eq!(collector.send(&before), 200);
    query.find(&before, 30);
    std::thread::sleep(Duration::from_secs(1));
    job("CronJob", "jaeger-rollover");
    job("CronJob", "jaeger-rollover-lookback");
    job("CronJob", "jaeger-index-cleaner");
    let after = Span::new(values);
    assert_eq!(collector.send(&after), 200);
    query.find(&after, 30);
    query.find(&before, 5);
    let indices = server.indices();
    for number in ["000001", "000002"] {
        let index = format!("{prefix}jaeger-span-{number}");
        assert!(indices.contains(&index), "no {index} in {indices:?}");
    }
}

/// Returns the number of spans that the storage did not take, as the alert counts them.
fn errors(collector: &Jaeger) -> f64 {
    collector.metric("jaeger_storage_bulk_index_errors")
}

/// Asserts that Jaeger ends with this reason. Kubernetes would restart it.
fn is_refused(start: &Start, words: &str) {
    let mut jaeger = start.spawn();
    wait(60, || "it goes on".into(), || jaeger.process.ended());
    assert!(jaeger.process.log().contains(words), "{}", jaeger.process.log());
}

#[test]
fn elasticsearch_keeps_spans_through_rotation_cleaning_and_rollover() {
    search("elasticsearch");
}

#[test]
fn opensearch_keeps_spans_through_rotation_cleaning_and_rollover() {
    search("opensearch");
}

/// Returns the replacements for a Cassandra's address.
fn address_of<'a>(name: &'a str, server: &Cassandra) -> [(&'a str, String); 2] {
    [(name, "127.0.0.1".to_owned()), ("port: 9042", format!("port: {}", server.port))]
}

/// Asserts that Cassandra keeps a span.
fn keeps_a_span(start: &Start) {
    let (collector, query) = collector_and_query(start);
    let span = Span::new("cassandra");
    assert_eq!(collector.send(&span), 200);
    query.find(&span, 30);
    assert_eq!(collector.process.stop(Duration::from_secs(30)), Some(0));
}

#[test]
fn cassandra_keeps_spans() {
    let folder = folder("storage-cassandra");
    let server = Cassandra::start(&folder);
    let rendered = render_jaeger(&["--set", "storage.type=cassandra"]);
    let replace = address_of("cassandra.tracing.svc", &server);
    keeps_a_span(&Start { replace: &replace, ..Start::collector(&rendered, &folder) });
}

/// With the chart's value file, and with TLS.
#[test]
fn cassandra_with_login_and_tls_keeps_spans() {
    for (name, set) in [
        ("storage-cassandra-login", ""),
        (
            "storage-cassandra-tls",
            "storage.cassandra.tls.enabled=true,storage.cassandra.tls.existingSecret=ca",
        ),
    ] {
        let folder = folder(name);
        let server = Cassandra::start_with_login(&folder, !set.is_empty());
        mount_authority(&folder, "storage-ca");
        let rendered = render_values("cassandra", &["--set", set]);
        // The user that Cassandra creates.
        let user = ("username: \"jaeger\"", "username: cassandra".to_owned());
        let address = address_of("cassandra.cassandra.svc", &server);
        let replace = [&address[..], &[user]].concat();
        let password = |password: &str| [("CASSANDRA_PASSWORD", password.to_owned())];
        let start = Start { replace: &replace, ..Start::collector(&rendered, &folder) };
        keeps_a_span(&Start { environment: &password("cassandra"), ..start });
        is_refused(&Start { environment: &password("wrong"), ..start }, "password are incorrect");
    }
}

/// Copies the authority's certificate to where a role reads it.
fn mount_authority(folder: &Path, secret: &str) {
    let secret = folder.join("etc").join(secret);
    std::fs::create_dir_all(&secret).expect("a folder");
    std::fs::copy(folder.join("ca.crt"), secret.join("ca.crt")).expect("copied");
}

#[test]
fn kafka_buffers_spans_before_elasticsearch() {
    let folder = folder("storage-kafka");
    std::fs::create_dir_all(folder.join("search")).expect("a folder");
    let server = Search::start("elasticsearch", &folder.join("search"));
    let kafka = Kafka::start(&folder);
    mount_authority(&folder, "kafka-ca");
    // Without protection; and with the chart's value file, by TLS with a login.
    let open = "storage.type=elasticsearch,storage.elasticsearch.replicas=0,ingester.enabled=true,\
                storage.kafka.brokers=kafka:9092";
    let open = render_jaeger(&["--set", open]);
    // The user of Azure Event Hubs, which Jaeger would take for a variable.
    let protected = render_values("kafka", &["--set", "storage.kafka.user=$ConnectionString"]);
    let password = |password: &str| [("KAFKA_PASSWORD", password.to_owned())];
    let (right, wrong) = (password(&Kafka::password()), password("wrong"));
    for (rendered, names, port, search) in [
        (&open, &["kafka:9092"][..], kafka.port, "http://elasticsearch:9200"),
        (
            &protected,
            &["kafka-0.kafka.svc:9092", "kafka-1.kafka.svc:9092"][..],
            kafka.protected_port,
            "http://elasticsearch.elastic.svc:9200",
        ),
    ] {
        let broker = format!("127.0.0.1:{port}");
        let brokers: Vec<_> = names.iter().map(|name| (*name, broker.clone())).collect();
        let address = [(search, server.url())];
        let both = [&brokers[..], &address].concat();
        let start = Start { environment: &right, ..Start::collector(rendered, &folder) };
        let collector = Start { replace: &brokers, ..start }.start();
        // Kafka holds spans while no ingester runs.
        let early = Span::new("kafka");
        assert_eq!(collector.send(&early), 200);
        let ingester = Start { role: "ingester", replace: &both, ..start };
        let running = ingester.start();
        let query = Start { role: "query", replace: &address, ..start }.start();
        query.find(&early, 60);
        let span = Span::new("kafka");
        assert_eq!(collector.send(&span), 200);
        query.find(&span, 60);
        assert_eq!(running.process.stop(Duration::from_secs(30)), Some(0));
        assert_eq!(collector.process.stop(Duration::from_secs(30)), Some(0));
        if port == kafka.protected_port {
            // With a wrong password, Jaeger retries and accepts spans. Only its log says so.
            let collector = Start { environment: &wrong, replace: &brokers, ..start }.start();
            assert_eq!(collector.send(&span), 200);
            let ingester = Start { environment: &wrong, ..ingester }.spawn();
            for refused in [collector, ingester] {
                let log = || refused.process.log();
                wait(30, log, || log().contains("SASL_AUTHENTICATION_FAILED"));
            }
        }
    }
}

/// Each port of older clients accepts a span in their format, and the ports of gRPC answer.
#[test]
fn older_clients_are_accepted() {
    let folder = folder("storage-older-clients");
    let rendered = render_jaeger(&["--set", "agent.enabled=true"]);
    let collector = Start::collector(&rendered, &folder).start();
    let address =
        [("jaeger-collector.tracing.svc:4318", format!("127.0.0.1:{}", collector.port(4318)))];
    let agent = Start { role: "agent", replace: &address, ..Start::collector(&rendered, &folder) };
    let agent = agent.start();

    let span = Span::new("zipkin");
    let zipkin = older_clients::zipkin(&span);
    assert_eq!(post(&collector.url(9411, "/api/v2/spans"), &zipkin).0, 202);
    collector.find(&span, 10);

    let span = Span::new("thrift-http");
    let url = collector.url(14268, "/api/traces");
    assert_eq!(post_as(&url, "application/x-thrift", &older_clients::thrift(&span)).0, 202);
    collector.find(&span, 10);

    let span = Span::new("jaeger-grpc");
    let call = |port: u16, method: &str, message: &[u8]| {
        older_clients::grpc(&folder, collector.port(port), method, message)
    };
    let method = "/jaeger.api_v2.CollectorService/PostSpans";
    call(14250, method, &older_clients::post_spans(&span));
    collector.find(&span, 10);

    for (port, thrift) in [(6831, Thrift::Compact), (6832, Thrift::Binary)] {
        let span = Span::new("thrift-udp");
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        let bytes = older_clients::thrift_call(&span, thrift);
        socket.send_to(&bytes, ("127.0.0.1", agent.port(port))).expect("sent");
        collector.find(&span, 10);
    }

    // The API and the sampling strategies by gRPC.
    let services = call(16685, "/jaeger.api_v3.QueryService/GetServices", &[]);
    assert!(String::from_utf8_lossy(&services).contains("thrift-udp"), "{services:?}");
    let service = older_clients::field(1, b"any");
    let strategy = call(5779, "/jaeger.api_v2.SamplingManager/GetSamplingStrategy", &service);
    let everything = 1f64.to_le_bytes();
    assert!(strategy.windows(8).any(|bytes| bytes == everything), "{strategy:?}");
}

#[test]
fn destination_that_is_down_holds_back_no_other() {
    let memory = render_jaeger(&[]);
    let archive = folder("storage-archive");
    let archive = Start::collector(&memory, &archive).start();
    let folder = folder("storage-destinations");
    let rendered = render_jaeger(&[
        "--set",
        "destinations[0].name=down,destinations[0].endpoint=http://down.example:4318,\
         destinations[1].name=archive,destinations[1].endpoint=http://archive.example:4318,\
         destinations[1].headersSecret=s,destinations[1].headers[0]=authorization,\
         destinations[2].name=wrong,destinations[2].endpoint=http://wrong.example:4318,\
         collector.queueSize=2,monitoring.enabled=true",
    ]);
    let dead = free_port();
    let replace = [
        ("http://down.example:4318", format!("http://127.0.0.1:{dead}")),
        ("http://archive.example:4318", archive.url(4318, "")),
        // It answers, but takes no spans.
        ("http://wrong.example:4318", archive.url(13133, "")),
    ];
    let environment = [("DESTINATION_ARCHIVE_AUTHORIZATION", "Bearer t".to_owned())];
    let jaeger = Start {
        replace: &replace,
        environment: &environment,
        ..Start::collector(&rendered, &folder)
    }
    .start();
    // More batches than the queue of the dead destination holds.
    let spans: Vec<Span> = (0..20).map(|_| Span::new("destinations")).collect();
    for span in &spans {
        assert_eq!(jaeger.send(span), 200);
        std::thread::sleep(Duration::from_millis(300));
    }
    for span in &spans {
        jaeger.find(span, 20);
        archive.find(span, 20);
    }
    // The metrics of the alerts: spans that the full queue did not take, and refused spans.
    assert!(jaeger.metric("otelcol_exporter_enqueue_failed_spans") >= 1.0);
    assert!(jaeger.metric("otelcol_exporter_send_failed_spans") >= 1.0);
    assert!(jaeger.metric("otelcol_exporter_queue_size") >= 1.0);
    let (_, metrics) = get(&jaeger.url(8888, "/metrics"), None).expect("metrics");
    let rules = manifest(&rendered, "PrometheusRule", "jaeger-metrics");
    let words = rules.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let counted: BTreeSet<_> = words.filter(|word| word.starts_with("otelcol_")).collect();
    assert!(counted.len() >= 5, "{counted:?}");
    for name in counted {
        assert!(metrics.contains(&format!("\n{name}")), "no {name} in {metrics}");
    }
}

#[test]
fn logins_and_tls_are_required() {
    let folder = folder("storage-login");
    let rendered = render_values("login-and-tls", &[]);
    for secret in ["otlp-tls", "otlp-logins", "query-logins"] {
        std::fs::create_dir_all(folder.join("etc").join(secret)).expect("a folder");
    }
    certificate(&folder);
    let etc = folder.join("etc");
    for (from, to) in [("server.crt", "tls.crt"), ("server.key", "tls.key"), ("ca.crt", "ca.crt")] {
        std::fs::copy(folder.join(from), etc.join("otlp-tls").join(to)).expect("copied");
    }
    write_password(&etc.join("otlp-logins/htpasswd"), "sender", "one");
    write_password(&etc.join("query-logins/htpasswd"), "reader", "two");
    let start = Start::collector(&rendered, &folder);
    let mut collector = start.start();

    // OTLP: by TLS only, with a login only.
    let span = Span::new("login");
    let send = |login: &str| {
        let url = format!("https://127.0.0.1:{}/v1/traces", collector.port(4318));
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--user",
            login,
        ]);
        curl.args([
            "--header",
            "Content-Type: application/json",
            "--data",
            &span.otlp(),
            "--cacert",
        ]);
        output(curl.arg(folder.join("ca.crt")).arg(url)).expect("curl")
    };
    assert_ne!(collector.send(&span), 200, "without TLS");
    assert_eq!(send("sender:wrong"), "401");
    assert_eq!(send("sender:one"), "200");

    // The page and the API.
    for path in ["/", "/api/services", "/api/v3/services"] {
        assert_eq!(get(&collector.url(16686, path), None).expect("an answer").0, 401, "{path}");
    }
    collector.login("reader", "two");
    collector.find(&span, 10);

    // The agent forwards with its own login, and accepts spans without one.
    let environment =
        [("COLLECTOR_USER", "sender".to_owned()), ("COLLECTOR_PASSWORD", "one".to_owned())];
    let address =
        [("jaeger-collector.tracing.svc:4318", format!("127.0.0.1:{}", collector.port(4318)))];
    let agent =
        Start { role: "agent", replace: &address, environment: &environment, ..start }.start();
    let span = Span::new("agent");
    assert_eq!(agent.send(&span), 200);
    collector.find(&span, 20);
    assert_eq!(agent.sampling_probability(), 1.0);
    drop(agent);

    // A collector with this one as its second destination, and an agent before it, with the chart's value
    // file. They trust the authority as a public one.
    let environment = [
        (
            "DESTINATION_ARCHIVE_AUTHORIZATION",
            format!("Basic {}", BASE64_STANDARD.encode("sender:one")),
        ),
        ("SSL_CERT_FILE", folder.join("ca.crt").display().to_string()),
    ];
    let rendered = render_values("agent-and-destinations", &[]);
    let first = folder.join("first");
    std::fs::create_dir_all(&first).expect("a folder");
    let archive = format!("https://127.0.0.1:{}", collector.port(4318));
    let address = [("https://otlp.example.com:4318", archive)];
    let start = Start {
        replace: &address,
        environment: &environment,
        ..Start::collector(&rendered, &first)
    };
    let first = start.start();
    let address =
        [("jaeger-collector.tracing.svc:4318", format!("127.0.0.1:{}", first.port(4318)))];
    let agent = Start { role: "agent", replace: &address, ..start }.start();
    let span = Span::new("archive");
    assert_eq!(agent.send(&span), 200);
    first.find(&span, 20);
    collector.find(&span, 20);
}
