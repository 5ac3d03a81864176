//! The Terraform module: it is valid, passes the right values to the charts for every choice (with mocked
//! providers), and leaks no password (with the real ones).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use test_support::{folder, output, root};

/// Returns Terraform, or OpenTofu, in a folder of the module.
fn terraform(folder: &str) -> Command {
    let mut command = test_support::terraform();
    command.arg(format!("-chdir={}", root().join("infra/terraform").join(folder).display()));
    command.env("TF_IN_AUTOMATION", "1");
    command
}

fn run(command: &mut Command) -> String {
    output(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn init(folder: &str) {
    run(terraform(folder).args(["init", "-backend=false", "-input=false"]));
}

#[test]
fn module_passes_right_values_for_every_choice() {
    init(".");
    run(terraform(".").arg("validate"));
    let answer = run(terraform(".").args(["test", "-no-color"]));
    assert!(answer.contains("Success! 22 passed, 0 failed."), "{answer}");
}

#[test]
fn examples_are_valid() {
    for example in ["examples/development", "examples/production"] {
        init(example);
        run(terraform(example).arg("validate"));
    }
}

/// A template that changes without a new version of its chart must reach the cluster.
#[test]
fn changed_template_changes_the_digest_in_the_values() {
    let folder = folder("terraform-digest");
    for part in ["terraform", "helm"] {
        let from = root().join("infra").join(part);
        run(Command::new("cp").arg("-r").arg(from).arg(&folder));
    }
    let digests = || {
        // No provider is needed, so nothing is fetched.
        let module = folder.join("digest");
        _ = std::fs::remove_dir_all(&module);
        std::fs::create_dir_all(&module).expect("a folder");
        let text = std::fs::read_to_string(folder.join("terraform/main.tf")).expect("main.tf");
        let (_, local) = text.split_once("  chart_digest = ").expect("the digest");
        let (local, _) = local.split_once("\n\n").expect("its end");
        let text = format!(
            "locals {{\n  chart_digest = {local}\n}}\noutput \"o\" {{ value = local.chart_digest }}\n"
        );
        std::fs::write(module.join("main.tf"), text).expect("written");
        let mut command = test_support::terraform();
        command.arg(format!("-chdir={}", module.display())).env("TF_IN_AUTOMATION", "1");
        run(command.args(["plan", "-no-color", "-input=false"]))
    };
    let before = digests();
    assert!(before.contains("hand-gesture-api"), "{before}");
    assert_eq!(digests(), before);
    for (file, counts) in [
        ("jaeger/README.md", false),
        ("jaeger/examples/kafka/rendered.yaml", false),
        ("jaeger/templates/_pod.tpl", true),
        ("hand-gesture-api/templates/tests/health.yaml", true),
        ("jaeger/files/put-policy.sh", true),
    ] {
        let before = digests();
        let path = folder.join("helm").join(file);
        let text = std::fs::read_to_string(&path).expect(file);
        std::fs::write(&path, text + "\n").expect("written");
        assert_eq!(digests() != before, counts, "{file}");
    }
}

/// The storage's password reaches Kubernetes, but neither the plan nor the state on the disk.
#[test]
fn password_reaches_kubernetes_but_neither_plan_nor_state() {
    let password = "correct-horse-battery-staple";
    let example = "examples/production";
    let folder = folder("terraform");
    let api = Api::start(&folder);
    init(example);
    let (plan, state) = (folder.join("plan"), folder.join("terraform.tfstate"));
    let apply = |arguments: &[String]| {
        let mut command = terraform(example);
        command.args(arguments).args(["-input=false", "-no-color"]);
        command.arg(format!("-state={}", state.display()));
        command.arg(format!("-var=kubeconfig={}", folder.join("kubeconfig").display()));
        command.args(["-var=image=registry.example.com/a", "-var=elasticsearch_host=es.example"]);
        run(command.env("TF_VAR_elasticsearch_password", password))
    };
    let out = format!("-out={}", plan.display());
    let mut told = apply(&["plan".into(), out]);
    // The charts would need a whole Kubernetes. They get the secret's name only.
    let secret = "-target=module.asl.kubernetes_secret_v1.storage".into();
    told += &apply(&["apply".into(), "-auto-approve".into(), secret]);

    let posted = api.posted.lock().expect("no panic");
    let secret = posted.iter().find(|one| one.path == "/api/v1/namespaces/tracing/secrets");
    let secret = secret.expect("the secret was posted");
    assert!(contains(&secret.body, password), "it reaches Kubernetes");
    // A plan is a compressed archive.
    let unzip = Command::new("unzip").arg("-p").arg(&plan).output().expect("unzip");
    assert!(unzip.status.success(), "{unzip:?}");
    let plan = String::from_utf8_lossy(&unzip.stdout).into_owned();
    let state = std::fs::read_to_string(state).expect("a state");
    for (name, text) in [("plan", plan), ("state", state), ("output", told)] {
        assert!(text.contains("storage-credentials"), "the secret's name is not in the {name}");
        assert!(!text.contains(password), "the {name} has the password");
        let encoded = BASE64_STANDARD.encode(password);
        assert!(!text.contains(&encoded), "the {name} has the password, encoded");
    }
}

/// As much of Kubernetes' API as a Namespace and a Secret need: it returns what was posted.
struct Api {
    posted: Arc<Mutex<Vec<Posted>>>,
}

struct Posted {
    path: String,
    media_type: String,
    body: Vec<u8>,
}

impl Api {
    /// Listens on 127.0.0.1 until the test ends, and writes a `kubeconfig` that names the address.
    fn start(folder: &Path) -> Api {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        std::fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).expect("written");
        let api = Api { posted: Arc::default() };
        let posted = api.posted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                _ = answer(stream, &mut posted.lock().expect("no panic"));
            }
        });
        api
    }
}

/// Answers one request.
fn answer(mut stream: TcpStream, posted: &mut Vec<Posted>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut request, mut length, mut media_type) = (String::new(), 0, String::new());
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "content-type" => media_type = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = request.split([' ', '?']).nth(1).unwrap_or_default();
    let answer = if request.starts_with("POST") {
        posted.push(Posted { path: path.to_owned(), media_type, body });
        posted.last()
    } else {
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        posted.iter().find(|known| known.path == folder && contains(&known.body, name))
    };
    let Some(Posted { media_type, body, .. }) = answer else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
