//! HTTP/1.1 over a plain socket: requests that no library would send, and clients that read late.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A read or a write that takes longer fails.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest head of a response.
const MAX_HEAD: usize = 64 * 1024;

/// A connection.
pub struct Connection {
    stream: TcpStream,
    /// Bytes that were read and belong to the next response.
    ahead: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Interim responses (1xx) before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// Returns a header's value; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// True if the server closes the connection after this.
    pub fn closes(&self) -> bool {
        self.header("connection").eq_ignore_ascii_case("close")
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, ahead: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Waits for a response and reads it.
    ///
    /// # Errors
    /// Those of the socket, and bytes that are no response.
    pub fn receive(&mut self) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let (status, headers) = self.head()?;
            if status < 200 {
                interim.push(status);
                continue;
            }
            let mut response = Response { status, headers, body: Vec::new(), interim };
            let length = match response.header("content-length").parse() {
                Ok(length) => Some(length),
                // RFC 9110: these have no body.
                Err(_) if matches!(status, 204 | 304) => Some(0),
                Err(_) => None,
            };
            while length.is_none_or(|length| self.ahead.len() < length) {
                if !self.read()? {
                    break;
                }
            }
            let length = length.unwrap_or(self.ahead.len());
            if self.ahead.len() < length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let rest = self.ahead.split_off(length);
            response.body = std::mem::replace(&mut self.ahead, rest);
            return Ok(response);
        }
    }

    /// Reads until the server has closed the connection. Returns false if it has reset it.
    pub fn is_closed_in_order(&mut self) -> bool {
        while let Ok(more) = self.read() {
            if !more {
                return true;
            }
        }
        false
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(end) = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            if self.ahead.len() > MAX_HEAD || !self.read()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let rest = self.ahead.split_off(end + 4);
        let head = std::mem::replace(&mut self.ahead, rest);
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or(ErrorKind::InvalidData)?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok((status, headers))
    }

    /// Reads some bytes. Returns false at the end.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.ahead.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }
}

/// Returns a body in chunks of a size.
pub fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / size.max(1) * 8 + 16);
    for chunk in body.chunks(size.max(1)) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn responses_are_read_one_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut connection = Connection::open(listener.local_addr().expect("it")).expect("it");
        let (mut server, _) = listener.accept().expect("a connection");
        server
            .write_all(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\n\
                  oneHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 Oh\r\nConnection: Close\r\n\r\nend",
            )
            .expect("sent");
        drop(server);
        let first = connection.receive().expect("a response");
        assert_eq!((first.status, first.body, first.interim), (413, b"one".to_vec(), vec![100]));
        assert_eq!(connection.receive().expect("a response").status, 204);
        let last = connection.receive().expect("a response");
        assert!(last.closes());
        assert_eq!((last.status, last.body), (500, b"end".to_vec()));
        assert!(connection.receive().is_err() && connection.is_closed_in_order());
    }

    #[test]
    fn body_is_divided_into_chunks() {
        assert_eq!(in_chunks(b"abc", 2), b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
        assert_eq!(in_chunks(b"", 2), b"0\r\n\r\n");
    }
}
