//! A server on 127.0.0.1 for the tests' own servers: threads, and an end.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A client that reads or writes nothing for so long has gone.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a flood that are written at once.
const PIECE: usize = 64 * 1024;

/// A server that handles each connection on a thread of its own. It ends when this is dropped.
pub struct Loopback {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Loopback {
    /// Returns a listener on a free port of 127.0.0.1, and its address.
    ///
    /// # Panics
    /// If there is no port.
    pub fn bind() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        (listener, address)
    }

    /// Gives every connection to `serve`, with limits of [`PATIENCE`].
    ///
    /// # Panics
    /// If the listener has no address.
    pub fn start(
        listener: TcpListener,
        serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Loopback {
        let address = listener.local_addr().expect("its address");
        let (stopped, serve) = (Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let for_thread = stopped.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(stream), serve) = (stream, serve.clone()) else { continue };
                // A client that goes away is what some tests are about.
                std::thread::spawn(move || -> std::io::Result<()> {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    serve(stream)
                });
            }
        });
        Loopback { address, stopped }
    }

    /// Returns its origin: `http://127.0.0.1:8080`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // The thread waits for a connection.
        _ = TcpStream::connect(self.address);
    }
}

/// Writes so many bytes, and counts those that the client took, or at least its system.
///
/// # Errors
/// Those of the connection.
pub fn flood(stream: &mut TcpStream, count: usize, taken: &AtomicUsize) -> std::io::Result<()> {
    let piece = vec![b'x'; PIECE];
    for _ in 0..count / PIECE {
        stream.write_all(&piece)?;
        taken.fetch_add(PIECE, Ordering::Relaxed);
    }
    Ok(())
}
