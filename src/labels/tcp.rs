//! Raw socket, port 9100: the printer takes bytes and says nothing.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::labels::Fault;

/// Many printers never close, and many close when they have read everything: neither says more than that it was sent.
const GOODBYE: Duration = Duration::from_millis(500);

pub async fn send(address: &str, bytes: &[u8]) -> Result<(), Fault> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    // A printer that throws the label away resets the connection.
    let mut said = [0; 256];
    let closing = async {
        loop {
            match stream.read(&mut said).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    };
    timeout(GOODBYE, closing).await.unwrap_or(Ok(())).map_err(Fault::Io)
}
