//! Prometheus, which reads metrics of other servers and answers queries.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::http::{encode, get};
use crate::process::{Process, free_port, wait};
use crate::tool;

/// A running Prometheus with an empty store. It reads its targets every second.
pub struct Prometheus {
    /// Its process.
    pub process: Process,
    url: String,
}

impl Prometheus {
    /// Returns the address of one that is not started yet.
    pub fn address() -> String {
        format!("127.0.0.1:{}", free_port())
    }

    /// Starts it at an address, with the `host:port` of its targets, files of rules, and the label `pod` of
    /// all that it reads.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(
        folder: &Path,
        address: &str,
        targets: &[String],
        pod: &str,
        rules: &[&Path],
    ) -> Prometheus {
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": "jaeger",
                "static_configs": [{"targets": targets, "labels": {"pod": pod}}],
            }],
        });
        // JSON is YAML.
        let file = folder.join("prometheus.yaml");
        std::fs::write(&file, configuration.to_string()).expect("written");
        let mut command = Command::new(tool("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start(&mut command, &folder.join("prometheus.log"));
        let url = format!("http://{address}");
        let ready = || get(&format!("{url}/-/ready"), None).is_ok_and(|(status, _)| status == 200);
        wait(30, || process.log(), ready);
        Prometheus { process, url }
    }

    /// Returns the result of a query at this moment: labels, and a number for each.
    ///
    /// # Panics
    /// If Prometheus refuses the query.
    pub fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let answer = self.get(&format!("/api/v1/query?query={}", encode(query)));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a result");
        let number = |sample: &Value| {
            let text = sample["value"][1].as_str().expect("a number");
            (sample["metric"].clone(), text.parse().expect("a number"))
        };
        result.iter().map(number).collect()
    }

    /// Returns the answer of a path of its API.
    ///
    /// # Panics
    /// If it is no JSON.
    pub fn get(&self, path: &str) -> Value {
        let (_, body) = get(&format!("{}{path}", self.url), None).expect("an answer");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}
