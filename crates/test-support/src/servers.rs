//! Storage servers from `infra/tools/storage/pom.xml`, and a reverse proxy with TLS and a login.
//!
//! A server that does not start, or refuses its configuration, fails the test: everything here panics.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::http::{get, post};
use crate::process::{Process, free_port, wait};
use crate::{output, target};

/// A password with every character that a shell, curl's configuration, YAML or Jaeger's could read as their
/// own.
pub const WORST_PASSWORD: &str = "\"b\\s$d #h'a%{x}`$(y)&\\\"";

/// Returns a server's jars as the value of `-cp`.
fn jars(name: &str) -> String {
    let folder = target().join("tools/storage").join(name);
    assert!(folder.exists(), "{} is missing: run `cargo xtask tools storage`", folder.display());
    format!("{}/*", folder.display())
}

/// Elasticsearch or OpenSearch.
pub struct Search {
    /// Its process.
    pub process: Process,
    /// Its HTTP port.
    pub port: u16,
}

impl Search {
    /// Starts Elasticsearch 7.10 or OpenSearch 2.19 with an empty store, and waits for it.
    pub fn start(name: &str, folder: &Path) -> Search {
        let class = match name {
            "elasticsearch" => "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
            _ => "org.codelibs.opensearch.runner.OpenSearchRunner",
        };
        // The runner listens one port above its base, which must be below 9299. It binds late, so tests that
        // start servers at the same time start searching at different ports: of one run by a count, of two
        // runs by the process.
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let first = (std::process::id() % 97) as u16;
        let next = || 9202 + (first + STARTED.fetch_add(1, Ordering::Relaxed)) % 97;
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = std::iter::repeat_with(next).take(97).find(free).expect("a free port");
        let mut command = Command::new("java");
        // Servers of one name would join into one cluster.
        command.args([
            "-Xmx1g",
            "-cp",
            &jars(name),
            class,
            "-numOfNode",
            "1",
            "-clusterName",
            &format!("test-{port}"),
        ]);
        command.args(["-baseHttpPort", &(port - 1).to_string(), "-basePath"]);
        command.arg(folder.join("data")).current_dir(folder);
        let process = Process::start(&mut command, &folder.join(format!("{name}.log")));
        let mut search = Search { process, port };
        wait(
            120,
            || format!("{name} did not start: see {}", folder.display()),
            || {
                assert!(!search.process.ended(), "{name} ended: {}", search.process.log());
                search.get("/_cluster/health?wait_for_status=yellow&timeout=1s").is_ok()
            },
        );
        // Otherwise it refuses writes on a disk that is 90 % full.
        let settings =
            r#"{"persistent": {"cluster.routing.allocation.disk.threshold_enabled": false}}"#;
        let url = format!("{}/_cluster/settings", search.url());
        let answer = ureq::put(&url).header("content-type", "application/json").send(settings);
        answer.expect("its settings");
        search
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the body that a path answers with.
    ///
    /// # Errors
    /// Any status but 200, with its body.
    pub fn get(&self, path: &str) -> Result<String, String> {
        match get(&format!("{}{path}", self.url()), None)? {
            (200, body) => Ok(body),
            (status, body) => Err(format!("{status} {body}")),
        }
    }

    /// Returns the names of Jaeger's indices, sorted.
    pub fn indices(&self) -> Vec<String> {
        let text = self.get("/_cat/indices?h=index").expect("its indices");
        let mut names: Vec<String> =
            text.lines().map(|l| l.trim().to_owned()).filter(|l| l.contains("jaeger")).collect();
        names.sort();
        names
    }

    /// Deletes Jaeger's indices, and their templates, since that of unprefixed names matches others.
    pub fn clear(&self) {
        for path in ["/*jaeger-*", "/_template/*jaeger-*", "/_index_template/*jaeger-*"] {
            // An error if there is none.
            _ = ureq::delete(format!("{}{path}", self.url())).call();
        }
        assert_eq!(self.indices(), [""; 0]);
    }

    /// Creates an index with one document, as another program would.
    pub fn create_index(&self, name: &str) {
        let url = format!("{}/{name}/_doc?refresh=true", self.url());
        assert_eq!(post(&url, "{\"a\": 1}").0, 201);
    }
}

/// nginx in front of a server.
pub struct Proxy {
    /// Its process.
    pub process: Process,
    /// The port that it listens on.
    pub port: u16,
    folder: PathBuf,
}

impl Proxy {
    /// Starts it with TLS on a port of 127.0.0.1, and a login.
    pub fn with_tls(folder: &Path, port: u16, upstream: u16, password: &str) -> Proxy {
        // A restarted proxy keeps its authority.
        if !folder.join("server.crt").exists() {
            certificate(folder);
        }
        let server = format!(
            "ssl_certificate {0}/server.crt; ssl_certificate_key {0}/server.key; {1}",
            folder.display(),
            login(folder, upstream, password)
        );
        Proxy::start(folder, ("127.0.0.1", port), "ssl", &server)
    }

    /// Starts it with a login, on an address of this machine and a port; 0 for a free one.
    pub fn plain(folder: &Path, address: &str, port: u16, upstream: u16, password: &str) -> Proxy {
        let port = if port == 0 { free_port() } else { port };
        Proxy::start(folder, (address, port), "", &login(folder, upstream, password))
    }

    /// Starts it with the content of a `server` block.
    pub fn start(folder: &Path, address: (&str, u16), listen: &str, server: &str) -> Proxy {
        let configuration = format!(
            "daemon off; pid {0}/nginx.pid; error_log {0}/error.log; worker_processes 1;
             events {{}}
             http {{
               access_log off; client_max_body_size 100m;
               client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;
               uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
               server {{ listen {1}:{2} {listen}; {server} }}
             }}",
            folder.display(),
            address.0,
            address.1
        );
        std::fs::write(folder.join("nginx.conf"), configuration).expect("written");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("error.log"));
        let process = Process::start(&mut command, &folder.join("nginx.log"));
        let connected = || std::net::TcpStream::connect(address).is_ok();
        wait(10, || process.log(), connected);
        Proxy { process, port: address.1, folder: folder.to_owned() }
    }

    /// Replaces the password.
    pub fn rotate(&self, password: &str) {
        write_password(&self.folder.join("users"), "elastic", password);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Killed, it would leave its worker behind.
        self.process.signal("TERM");
        for _ in 0..50 {
            if self.process.ended() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// Returns a `server` block that asks for a login. nginx reads the file for every request.
fn login(folder: &Path, upstream: u16, password: &str) -> String {
    write_password(&folder.join("users"), "elastic", password);
    format!(
        "auth_basic storage; auth_basic_user_file {}/users;
         location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; }}",
        folder.display()
    )
}

/// Writes a file of one login, as Jaeger and nginx read it.
pub fn write_password(file: &Path, user: &str, password: &str) {
    let hash =
        output(Command::new("openssl").args(["passwd", "-apr1", password])).expect("openssl");
    std::fs::write(file, format!("{user}:{hash}")).expect("written");
}

/// Writes an authority, `ca.crt`, and a certificate for 127.0.0.1, `server.crt` and `server.key`.
pub fn certificate(folder: &Path) {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.crt
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -keyout server.key -out server.csr
        printf subjectAltName=IP:127.0.0.1,DNS:localhost > names
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt";
    output(Command::new("sh").args(["-ec", script]).current_dir(folder)).expect("openssl");
}

/// Writes a certificate with its key as Java's servers read it, and returns the file. The password is
/// `keystore`.
fn keystore(folder: &Path) -> PathBuf {
    certificate(folder);
    let file = folder.join("server.p12");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs12", "-export", "-in", "server.crt", "-inkey", "server.key"]);
    openssl.args(["-passout", "pass:keystore", "-out"]).arg(&file).current_dir(folder);
    output(&mut openssl).expect("openssl");
    file
}

/// One Kafka broker.
pub struct Kafka {
    /// Its process.
    pub process: Process,
    /// The port without TLS and login.
    pub port: u16,
    /// The port with TLS, for the user `$ConnectionString` with [`Kafka::password`].
    pub protected_port: u16,
}

impl Kafka {
    /// Returns the user's password. A letter stands at both ends, since the tool that adds users has a syntax
    /// of its own.
    pub fn password() -> String {
        format!("a{WORST_PASSWORD}z")
    }

    /// Starts it and waits for it.
    pub fn start(folder: &Path) -> Kafka {
        let (port, protected_port, controller) = (free_port(), free_port(), free_port());
        let clients = format!("PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{protected_port}");
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\nlog.dirs={}/data\n\
             listeners={clients},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={clients}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=\
             PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PKCS12\nssl.keystore.password=keystore\nssl.keystore.location={}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            folder.display(),
            keystore(folder).display()
        );
        let file = folder.join("server.properties");
        std::fs::write(&file, properties).expect("written");
        let java = |class: &str| {
            let mut command = Command::new("java");
            command.args(["-Xmx512m", "-cp", &jars("kafka"), class]).current_dir(folder);
            command
        };
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c"]).arg(&file);
        let user = format!("SCRAM-SHA-512=[name=$ConnectionString,password={}]", Kafka::password());
        format.args(["--add-scram", &user]);
        output(&mut format).expect("formatted");
        let process = Process::start(java("kafka.Kafka").arg(&file), &folder.join("kafka.log"));
        let kafka = Kafka { process, port, protected_port };
        wait(60, || kafka.process.log(), || kafka.process.log().contains("Kafka Server started"));
        kafka
    }
}

/// One Cassandra node.
pub struct Cassandra {
    /// Its process.
    pub process: Process,
    /// The port for clients.
    pub port: u16,
}

impl Cassandra {
    /// Starts it without a login.
    pub fn start(folder: &Path) -> Cassandra {
        Cassandra::start_with(folder, "")
    }

    /// Starts it with a login, and with TLS if asked. Cassandra creates the user `cassandra` with the
    /// password `cassandra`.
    pub fn start_with_login(folder: &Path, tls: bool) -> Cassandra {
        let protection = format!(
            "authenticator: PasswordAuthenticator\nclient_encryption_options:\n  enabled: {tls}\n  \
             keystore: {}\n  keystore_password: keystore\n  store_type: PKCS12\n",
            keystore(folder).display()
        );
        Cassandra::start_with(folder, &protection)
    }

    fn start_with(folder: &Path, protection: &str) -> Cassandra {
        let (port, storage) = (free_port(), free_port());
        let data = folder.join("data");
        let yaml = format!(
            "cluster_name: test\nnum_tokens: 1\npartitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
             endpoint_snitch: SimpleSnitch\nlisten_address: 127.0.0.1\nrpc_address: 127.0.0.1\n\
             storage_port: {storage}\nnative_transport_port: {port}\nstart_native_transport: true\n\
             commitlog_sync: periodic\ncommitlog_sync_period: 10000ms\n\
             data_file_directories: [{0}/files]\ncommitlog_directory: {0}/commitlog\n\
             saved_caches_directory: {0}/caches\nhints_directory: {0}/hints\ncdc_raw_directory: {0}/cdc\n\
             seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    \
             parameters: [{{seeds: \"127.0.0.1:{storage}\"}}]\n{protection}",
            data.display()
        );
        let file = folder.join("cassandra.yaml");
        std::fs::write(&file, yaml).expect("written");
        let mut command = Command::new("java");
        command.args(["-Xmx700m", "-Djdk.attach.allowAttachSelf=true"]);
        // From Cassandra's own jvm17-server.options.
        for module in [
            "java.base/jdk.internal.misc",
            "java.management.rmi/com.sun.jmx.remote.internal.rmi",
            "java.rmi/sun.rmi.registry",
            "java.rmi/sun.rmi.server",
            "java.sql/java.sql",
            "java.base/java.lang.ref",
            "java.base/jdk.internal.ref",
            "java.base/jdk.internal.util",
            "java.base/sun.nio.ch",
            "jdk.unsupported/sun.misc",
        ] {
            command.arg(format!("--add-exports={module}=ALL-UNNAMED"));
        }
        for module in [
            "java.base/java.lang.module",
            "java.base/jdk.internal.loader",
            "java.base/jdk.internal.ref",
            "java.base/jdk.internal.reflect",
            "java.base/jdk.internal.math",
            "java.base/jdk.internal.module",
            "java.base/jdk.internal.util.jar",
            "java.base/java.io",
            "java.base/java.lang",
            "java.base/java.lang.reflect",
            "java.base/java.math",
            "java.base/java.net",
            "java.base/java.nio",
            "java.base/java.nio.charset",
            "java.base/java.nio.file.spi",
            "java.base/java.util",
            "java.base/java.util.concurrent",
            "java.base/java.util.concurrent.atomic",
            "java.base/sun.nio.ch",
            "java.rmi/sun.rmi.transport.tcp",
            "jdk.compiler/com.sun.tools.javac.file",
            "jdk.management/com.sun.management.internal",
        ] {
            command.arg(format!("--add-opens={module}=ALL-UNNAMED"));
        }
        command.arg(format!("-Dcassandra.config=file://{}", file.display()));
        command.arg(format!("-Dcassandra.storagedir={}", data.display()));
        command.args(["-Dcassandra.ring_delay_ms=1000", "-Dcassandra.superuser_setup_delay_ms=0"]);
        command.args(["-Dcassandra-foreground=yes", "-cp", &jars("cassandra")]);
        command.arg("org.apache.cassandra.service.CassandraDaemon").current_dir(folder);
        let process = Process::start(&mut command, &folder.join("cassandra.log"));
        let cassandra = Cassandra { process, port };
        let what = || cassandra.process.log();
        wait(120, what, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        cassandra
    }
}
