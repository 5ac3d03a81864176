//! The log of host and guests, line by line.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes after which a guest's line is cut, so that one without an end cannot fill the memory.
const MAX_LINE: usize = 64 * 1024;

/// The origin of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This host.
    Host,
    /// Standard output of the instance with this number.
    Stdout(u64),
    /// Standard error of the instance with this number.
    Stderr(u64),
}

/// One line of the log, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its origin.
    pub source: Source,
    /// Its text. Bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl fmt::Display for LogLine {
    /// Writes `host: …`, `guest[3] out: …` or `guest[3] err: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Host => write!(f, "host: {}", self.text),
            Source::Stdout(instance) => write!(f, "guest[{instance}] out: {}", self.text),
            Source::Stderr(instance) => write!(f, "guest[{instance}] err: {}", self.text),
        }
    }
}

/// Takes the lines of the log. It is called on the threads that run guests, so it must not block.
#[derive(Clone)]
pub struct LogSink(Arc<dyn Fn(LogLine) + Send + Sync>);

impl LogSink {
    /// Passes every line to `take`.
    pub fn new(take: impl Fn(LogLine) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Writes every line to standard error.
    pub fn stderr() -> Self {
        Self::new(|line| eprintln!("{line}"))
    }

    /// Logs `text` as the host, line by line.
    pub fn host(&self, text: impl fmt::Display) {
        for line in text.to_string().lines() {
            self.line(Source::Host, line.to_owned());
        }
    }

    fn line(&self, source: Source, text: String) {
        (self.0)(LogLine { source, text });
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

/// A standard stream of a guest, cut into lines. Clones write to the same line. A last line without
/// end is logged when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct GuestStream(Arc<Lines>);

struct Lines {
    sink: LogSink,
    source: Source,
    /// The line whose end has not been written yet.
    pending: Mutex<Vec<u8>>,
}

impl GuestStream {
    pub(crate) fn new(sink: LogSink, source: Source) -> Self {
        Self(Arc::new(Lines { sink, source, pending: Mutex::default() }))
    }

    fn write_bytes(&self, mut bytes: &[u8]) {
        let Lines { sink, source, pending } = &*self.0;
        let mut pending = pending.lock().unwrap_or_else(|e| e.into_inner());
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            pending.extend_from_slice(&bytes[..end]);
            sink.line(*source, take_line(&mut pending));
            bytes = &bytes[end + 1..];
        }
        pending.extend_from_slice(bytes);
        if pending.len() >= MAX_LINE {
            sink.line(*source, take_line(&mut pending));
        }
    }
}

fn take_line(pending: &mut Vec<u8>) -> String {
    let line = String::from_utf8_lossy(pending);
    let line = line.trim_end_matches('\r').to_owned();
    pending.clear();
    line
}

impl Drop for Lines {
    fn drop(&mut self) {
        let pending = self.pending.get_mut().unwrap_or_else(|e| e.into_inner());
        if !pending.is_empty() {
            self.sink.line(self.source, take_line(pending));
        }
    }
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_bytes(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_bytes(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> (LogSink, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = lines.clone();
        let sink = LogSink::new(move |line| taken.lock().unwrap().push(line.to_string()));
        (sink, lines)
    }

    #[test]
    fn stream_is_cut_into_lines() {
        let (sink, lines) = sink();
        let stream = GuestStream::new(sink, Source::Stderr(7));
        let other = stream.clone();
        stream.write_bytes(b"one\ntw");
        other.write_bytes(b"o\r\n\nthree \xff");
        drop(stream);
        assert_eq!(lines.lock().unwrap().len(), 3);
        drop(other);
        assert_eq!(
            *lines.lock().unwrap(),
            [
                "guest[7] err: one",
                "guest[7] err: two",
                "guest[7] err: ",
                "guest[7] err: three \u{fffd}"
            ]
        );
    }

    #[test]
    fn line_without_end_is_cut() {
        let (sink, lines) = sink();
        let stream = GuestStream::new(sink, Source::Stdout(1));
        for _ in 0..3 * MAX_LINE / 1024 {
            stream.write_bytes(&[b'x'; 1024]);
        }
        assert_eq!(lines.lock().unwrap().len(), 3);
    }

    #[test]
    fn host_text_is_logged_line_by_line() {
        let (sink, lines) = sink();
        sink.host("one\ntwo");
        assert_eq!(*lines.lock().unwrap(), ["host: one", "host: two"]);
    }
}
