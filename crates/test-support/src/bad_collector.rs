//! A collector that misbehaves: what proxies, load balancers and other servers answer, byte by byte.
//!
//! A collector that is well stands behind it, and gets the requests that this one takes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::collector::Collector;

use crate::loopback::{Loopback, PATIENCE, flood};

/// Longest head of a message, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The behaviour of a collector with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Takes the spans and answers as the collector behind it.
    Take,
    /// Takes the spans and answers these bytes: [`response`].
    TakeAnd(Vec<u8>),
    /// Takes no spans and answers these bytes. They need not be HTTP.
    Refuse(Vec<u8>),
    /// Takes no spans, answers these bytes, and resets the connection with the request half read.
    Reset(Vec<u8>),
    /// Takes the spans and answers the first bytes, then the others one by one with this time before each.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// Takes the spans and answers the first bytes, then so many others.
    Flood(Vec<u8>, usize),
    /// Takes no spans and never answers.
    Silence,
}

/// Returns a response as bytes, with the length of its body and without keeping the connection.
pub fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [text.as_bytes(), body].concat()
}

/// A collector on threads of its own that gives prepared answers. It ends when this is dropped.
pub struct BadCollector {
    server: Loopback,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    requests: AtomicUsize,
    /// Bytes of floods that clients took, or at least their systems.
    flooded: AtomicUsize,
    behind: Collector,
    address_behind: SocketAddr,
}

impl BadCollector {
    /// Starts a collector on a free port of 127.0.0.1, which takes all spans until [`next`] says
    /// otherwise.
    ///
    /// # Panics
    /// If there is none.
    ///
    /// [`next`]: BadCollector::next
    pub fn start() -> BadCollector {
        let behind = Collector::start(([127, 0, 0, 1], 0).into(), |_| {}).expect("a collector");
        let address_behind = behind.endpoint()["http://".len()..].parse().expect("an address");
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            requests: AtomicUsize::new(0),
            flooded: AtomicUsize::new(0),
            behind,
            address_behind,
        });
        let for_threads = shared.clone();
        let server = Loopback::start(Loopback::bind().0, move |stream| for_threads.serve(stream));
        BadCollector { server, shared }
    }

    /// Returns its endpoint: `http://127.0.0.1:4318`.
    pub fn endpoint(&self) -> String {
        self.server.origin()
    }

    /// Sets the answers to the next requests. After them, it takes all spans.
    ///
    /// # Panics
    /// If an answer before has panicked.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.shared.answers.lock().expect("no panic") = answers.into_iter().collect();
    }

    /// Returns the number of requests so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of spans that it has taken so far.
    pub fn spans(&self) -> usize {
        self.shared.behind.spans().len()
    }

    /// Returns the number of bytes of floods that clients took so far, or at least their systems.
    pub fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        // Nothing is read of it yet: what lies unread makes the system reset the connection.
        stream.peek(&mut [0])?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.lock().expect("no panic").pop_front().unwrap_or(Answer::Take);
        if let Answer::Reset(bytes) = answer {
            return stream.write_all(&bytes);
        }
        let request = message(&mut stream)?;
        match answer {
            Answer::Take => stream.write_all(&self.take(&request)?)?,
            Answer::TakeAnd(bytes) => {
                self.take(&request)?;
                stream.write_all(&bytes)?;
            }
            Answer::Refuse(bytes) => stream.write_all(&bytes)?,
            Answer::Drip(bytes, slowly, time) => {
                self.take(&request)?;
                stream.write_all(&bytes)?;
                for byte in slowly {
                    std::thread::sleep(time);
                    stream.write_all(&[byte])?;
                }
            }
            Answer::Flood(bytes, count) => {
                self.take(&request)?;
                stream.write_all(&bytes)?;
                flood(&mut stream, count, &self.flooded)?;
            }
            // Until the client has had enough.
            Answer::Silence => _ = stream.read(&mut [0])?,
            Answer::Reset(_) => unreachable!("answered above"),
        }
        stream.shutdown(Shutdown::Write)
    }

    /// Gives a request to the collector behind, and returns its response.
    fn take(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address_behind)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        message(&mut stream)
    }
}

/// Reads a message of HTTP: its head, and the body that it announces.
fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = bytes.windows(END.len()).position(|window| window == END);
        if let Some(head) = head.map(|start| start + END.len()) {
            let length = content_length(&bytes[..head]);
            while bytes.len() < head + length {
                bytes.extend_from_slice(received(stream, &mut buffer)?);
            }
            return Ok(bytes);
        }
        if bytes.len() > MAX_HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
        bytes.extend_from_slice(received(stream, &mut buffer)?);
    }
}

fn received<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    match stream.read(buffer)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        count => Ok(&buffer[..count]),
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
