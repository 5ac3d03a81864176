//! The end of a connection: what a client still sends is read and discarded, within bounds.
//!
//! hyper closes a connection when nobody wants the rest of a request's body. A system that gets bytes for
//! a closed connection resets it, and a client that sends all of its body before it reads loses the
//! response. So the writing side is closed first, which tells the client that the response is complete,
//! and the reading side once the client has closed too (RFC 9112, 9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Most bytes that are discarded. The component discards as many itself.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Longest time for it.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Longest pause in it.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A connection that lingers when it is shut down, until its client closes it. It does not linger while
/// the server stops.
pub(crate) struct Lingering {
    stream: TcpStream,
    stopping: CancellationToken,
    /// None until it is shut down.
    rest: Option<Rest>,
}

struct Rest {
    bytes: usize,
    end: Instant,
    pause: Pin<Box<Sleep>>,
}

impl Lingering {
    pub(crate) fn new(stream: TcpStream, stopping: CancellationToken) -> Self {
        Self { stream, stopping, rest: None }
    }
}

impl Rest {
    fn new() -> Self {
        let now = Instant::now();
        Self { bytes: 0, end: now + MAX_TIME, pause: Box::pin(sleep_until(now + MAX_PAUSE)) }
    }

    /// Reads until the client has closed the connection or a bound is reached.
    fn poll_discard(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 16 * 1024];
        while self.bytes < MAX_BYTES {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.bytes += buffer.filled().len();
                    let now = Instant::now();
                    if now >= self.end {
                        return Poll::Ready(());
                    }
                    self.pause.as_mut().reset(self.end.min(now + MAX_PAUSE));
                }
                // The client is done, or gone.
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.pause.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, stopping, rest } = self.get_mut();
        if rest.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        if stopping.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        rest.get_or_insert_with(Rest::new).poll_discard(stream, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Returns a client's and a server's end of a connection.
    async fn connection(stopping: CancellationToken) -> (std::net::TcpStream, Lingering) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (client, Lingering::new(server, stopping))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn client_that_writes_first_reads_the_response() {
        runtime().block_on(async {
            let (mut client, mut server) = connection(CancellationToken::new()).await;
            let client = std::thread::spawn(move || {
                // More than the buffers of both ends hold.
                client.write_all(&vec![0; 32 << 20]).expect("all is read");
                client.shutdown(Shutdown::Write).unwrap();
                let mut response = String::new();
                client.read_to_string(&mut response).expect("no reset");
                response
            });
            server.write_all(b"too large").await.unwrap();
            server.shutdown().await.unwrap();
            drop(server);
            assert_eq!(client.join().unwrap(), "too large");
        });
    }

    #[test]
    fn silent_client_is_left_after_a_pause() {
        runtime().block_on(async {
            let (_client, mut server) = connection(CancellationToken::new()).await;
            let start = Instant::now();
            server.shutdown().await.unwrap();
            assert!(start.elapsed() >= MAX_PAUSE && start.elapsed() < MAX_TIME);
        });
    }

    #[test]
    fn stopping_server_does_not_linger() {
        runtime().block_on(async {
            let stopping = CancellationToken::new();
            let (_client, mut server) = connection(stopping.clone()).await;
            stopping.cancel();
            let start = Instant::now();
            server.shutdown().await.unwrap();
            assert!(start.elapsed() < MAX_PAUSE, "{:?}", start.elapsed());
        });
    }
}
