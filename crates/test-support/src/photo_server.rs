//! A server of photos for the tests of photos by URL, byte by byte: one that is slow, breaks off, or redirects.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::loopback::{Loopback, flood};

/// The answer to a path.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes: a [`response`](crate::bad_collector::response), or the start of one.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing until the client has gone.
    Stall(Vec<u8>),
    /// These bytes, then so many others.
    Flood(Vec<u8>, usize),
}

/// A server on threads of its own. It ends when this is dropped.
pub struct PhotoServer {
    server: Loopback,
    shared: Arc<Shared>,
}

struct Shared {
    replies: HashMap<&'static str, Reply>,
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
    /// Bytes of floods that clients took, or at least their systems.
    flooded: AtomicUsize,
}

impl PhotoServer {
    /// Starts a server on a free port of 127.0.0.1. `replies` gets its origin and returns the answers by path;
    /// any other path is answered with 404.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start(replies: impl FnOnce(&str) -> Vec<(&'static str, Reply)>) -> PhotoServer {
        let (listener, address) = Loopback::bind();
        let replies = replies(&format!("http://{address}")).into_iter().collect();
        let shared =
            Arc::new(Shared { replies, heads: Mutex::default(), flooded: AtomicUsize::new(0) });
        let for_threads = shared.clone();
        let server = Loopback::start(listener, move |stream| for_threads.serve(stream));
        PhotoServer { server, shared }
    }

    /// Returns its origin: `http://127.0.0.1:8080`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// Returns the heads of all requests so far, in lower case.
    ///
    /// # Panics
    /// If an answer has panicked.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("no panic").clone()
    }

    /// Returns the number of bytes of floods that clients took so far, or at least their systems.
    pub fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = String::new();
        let mut lines = BufReader::new(&stream);
        while lines.read_line(&mut head)? > 2 {}
        let head = head.to_ascii_lowercase();
        let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        self.heads.lock().expect("no panic").push(head);
        match self.replies.get(path.as_str()) {
            None => stream.write_all(&crate::bad_collector::response("404 Not Found", &[], b""))?,
            Some(Reply::Bytes(bytes)) => stream.write_all(bytes)?,
            Some(Reply::Stall(bytes)) => {
                stream.write_all(bytes)?;
                _ = stream.read(&mut [0])?;
            }
            Some(Reply::Flood(bytes, count)) => {
                stream.write_all(bytes)?;
                flood(&mut stream, *count, &self.flooded)?;
            }
        }
        stream.shutdown(Shutdown::Write)
    }
}
