//! Image bytes go from the page cache to the socket without passing through this process. The body of a response is
//! slices of a map (`images::mapped`); a connection that is handed such a slice by the HTTP library lets the kernel send
//! the file's own pages instead, and so never touches the map.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use nix::sys::sendfile::sendfile64;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::images::{Mapped, Mappings};

/// Accepts connections that know the files which go out.
pub struct Files {
    pub socket: TcpListener,
    pub mappings: Mappings,
}

impl Listener for Files {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The one of axum waits a little where the process has too many files open.
        let (stream, peer) = Listener::accept(&mut self.socket).await;
        (Connection { stream, mappings: self.mappings.clone() }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

pub struct Connection {
    stream: TcpStream,
    mappings: Mappings,
}

impl Connection {
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    /// The first byte that comes, left where it is.
    pub async fn peek_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.stream.peek(&mut byte).await? == 1).then_some(byte[0]))
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        mapped: &Mapped,
        at: usize,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = i64::try_from(at).map_err(io::Error::other)?;
                Ok(sendfile64(&self.stream, mapped.file(), Some(&mut offset), length)?)
            });
            match sent {
                // The file is shorter than it was.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.mappings.find(bytes) {
            Some((mapped, at)) => self.poll_send(context, &mapped, at, bytes.len()),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    /// Heads and chunks of a body come together: up to the first slice of a file they go out as they are.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = &slices[slices.iter().take_while(|slice| slice.is_empty()).count()..];
        let Some(first) = slices.first() else { return Poll::Ready(Ok(0)) };
        if let Some((mapped, at)) = self.mappings.find(first) {
            return self.poll_send(context, &mapped, at, first.len());
        }
        let plain = slices.iter().take_while(|slice| self.mappings.find(slice).is_none()).count();
        Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..plain])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use axum::serve::ListenerExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_a_client_gets_is_the_file_to_its_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mappings = Mappings::default();
        let mapped = mappings.open(&path).unwrap();
        let body = move || {
            let mapped = mapped.clone();
            async move { Body::from_stream(crate::images::stream(mapped, 5, 9_000_001)) }
        };
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let files = Files { socket, mappings }.tap_io(|connection| connection.set_nodelay().unwrap());
        tokio::spawn(async { axum::serve(files, Router::new().route("/", get(body))).await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(answer[head..] == bytes[5..]);
    }
}
