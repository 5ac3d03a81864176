//! Photos of all kinds, sent to all servers in turns.

use std::time::Instant;

use anyhow::{Result, bail};
use host::Collector;

use super::photos::{Kind, Photo};
use super::{Served, agent, post, quantile, show};
use crate::figures::{KindFigures, Mix, MixRate, ServerOfKind};

/// Requests of a turn: then the next server gets the same photos.
const TURN: usize = 10;
/// Connections of the load over the whole mix.
const CONNECTIONS: usize = 4;

/// One server's answers to the photos of a kind.
#[derive(Default)]
struct Answers {
    /// Milliseconds.
    times: Vec<f64>,
    /// Answers with a letter.
    found: usize,
    /// Answers with the letter that the photo shows, of the photos whose letter is known.
    right: usize,
}

impl Answers {
    fn ask(&mut self, agent: &ureq::Agent, url: &str, photo: &Photo) -> Result<()> {
        let (response, ms) = post(agent, url, photo.media_type, &photo.bytes)?;
        if !response.status().is_success() {
            bail!("POST {url}/predict: {}", response.status());
        }
        self.times.push(ms);
        let answer: serde_json::Value = serde_json::from_slice(response.body())?;
        let letter = answer["prediction"].as_str();
        self.found += usize::from(letter.is_some());
        self.right += usize::from(letter.is_some() && letter == photo.letter.as_deref());
        Ok(())
    }

    fn figures(mut self, server: &str, labelled: usize) -> ServerOfKind {
        self.times.sort_by(f64::total_cmp);
        let count = self.times.len() as f64;
        let [p50_ms, p95_ms, p99_ms] = [0.5, 0.95, 0.99].map(|part| quantile(&self.times, part));
        ServerOfKind {
            name: server.to_owned(),
            mean_ms: self.times.iter().sum::<f64>() / count,
            p50_ms,
            p95_ms,
            p99_ms,
            found: self.found as f64 / count,
            right: (labelled > 0).then(|| self.right as f64 / labelled as f64),
        }
    }
}

/// Measures every kind at one connection, then the rate over all of them.
pub fn measure(servers: &[Served], collector: &Collector, kinds: &[Kind]) -> Result<Mix> {
    let agent = agent();
    let mut figures = Vec::new();
    for kind in kinds {
        let mut answers: Vec<Answers> = servers.iter().map(|_| Answers::default()).collect();
        let mut passes = 0;
        for turn in kind.photos.chunks(TURN) {
            for (number, (server, answers)) in servers.iter().zip(&mut answers).enumerate() {
                // Other servers may send such spans, too.
                let before = if number == 0 { settled_passes(collector) } else { 0 };
                for photo in turn {
                    answers.ask(&agent, &server.url, photo)?;
                }
                if number == 0 {
                    passes += settled_passes(collector) - before;
                }
            }
        }
        let labelled = kind.photos.iter().filter(|photo| photo.letter.is_some()).count();
        let servers: Vec<_> = servers
            .iter()
            .zip(answers)
            .map(|(server, answers)| answers.figures(&server.name, labelled))
            .collect();
        let passes = passes as f64 / kind.photos.len() as f64;
        let kind =
            KindFigures { name: kind.name.clone(), photos: kind.photos.len(), passes, servers };
        show_kind(&kind);
        figures.push(kind);
    }
    let rates = rates(servers, kinds)?;
    Ok(Mix { kinds: figures, connections: CONNECTIONS, rates })
}

/// Returns the number of passes of a model in all traces so far.
fn passes_so_far(collector: &Collector) -> usize {
    let of_a_pass = |name: &str| matches!(name, "palm_detection" | "hand_landmarks");
    collector.spans().iter().filter(|span| of_a_pass(&span.name)).count()
}

/// Returns the number of passes once no more spans arrive.
fn settled_passes(collector: &Collector) -> usize {
    let mut passes = passes_so_far(collector);
    loop {
        std::thread::sleep(std::time::Duration::from_millis(200));
        match passes_so_far(collector) {
            same if same == passes => return passes,
            more => passes = more,
        }
    }
}

/// Measures photos a second over all kinds, servers in turns.
fn rates(servers: &[Served], kinds: &[Kind]) -> Result<Vec<MixRate>> {
    let photos: Vec<&Photo> = kinds.iter().flat_map(|kind| &kind.photos).collect();
    let mut seconds = vec![0.0; servers.len()];
    for turn in photos.chunks(5 * CONNECTIONS) {
        for (server, seconds) in servers.iter().zip(&mut seconds) {
            let start = Instant::now();
            let next = std::sync::atomic::AtomicUsize::new(0);
            std::thread::scope(|scope| {
                let client = || {
                    let (agent, mut answers) = (agent(), Answers::default());
                    loop {
                        let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let Some(photo) = turn.get(at) else { return Ok(()) };
                        answers.ask(&agent, &server.url, photo)?;
                    }
                };
                let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
                clients
                    .into_iter()
                    .map(|client| client.join().expect("no panic"))
                    .collect::<Result<Vec<()>>>()
            })?;
            *seconds += start.elapsed().as_secs_f64();
        }
    }
    let rates = servers.iter().zip(seconds).map(|(server, seconds)| MixRate {
        name: server.name.clone(),
        rate: photos.len() as f64 / seconds,
    });
    let rates: Vec<_> = rates.collect();
    for MixRate { name, rate } in &rates {
        show(&format!("the mix at {CONNECTIONS} connections, {name}"), format!("{rate:8.1} /s"));
    }
    Ok(rates)
}

fn show_kind(kind: &KindFigures) {
    for server in &kind.servers {
        let right = server.right.map(|right| format!("  right {:5.1} %", 100.0 * right));
        show(
            &format!("{}, {}", kind.name, server.name),
            format!(
                "mean {:6.1} ms  p50 {:6.1}  p95 {:6.1}  p99 {:6.1}  found {:5.1} %{}",
                server.mean_ms,
                server.p50_ms,
                server.p95_ms,
                server.p99_ms,
                100.0 * server.found,
                right.unwrap_or_default()
            ),
        );
    }
    show(&format!("{}, passes of a model a photo", kind.name), format!("{:6.2}", kind.passes));
}
