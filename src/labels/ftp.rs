//! FTP, as label printers speak it (RFC 959, RFC 2428): log in, passive mode, store one file.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::labels::{Fault, Ftp};

/// A reply has so many bytes at most; a peer that says more is none.
const LONGEST: u64 = 64 << 10;

struct Control {
    stream: BufReader<TcpStream>,
}

struct Reply {
    code: u16,
    text: String,
}

pub async fn send(ftp: &Ftp, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let stream = TcpStream::connect(&ftp.address).await?;
    let peer = stream.peer_addr()?;
    let mut control = Control { stream: BufReader::new(stream) };
    control.reply().await?.good("the greeting", 2)?;
    let login = control.say("USER", &ftp.username).await?;
    match login.code {
        200..=299 => {}
        300..=399 => {
            control.say("PASS", &ftp.password).await?.good("PASS", 2)?;
        }
        _ => return Err(login.refused("USER")),
    }
    control.say("TYPE", "I").await?.good("TYPE I", 2)?;
    let data = control.passive(peer).await?;
    let mut data = TcpStream::connect(data).await?;
    let path = if ftp.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", ftp.folder) };
    control.say("STOR", &path).await?.good("STOR", 1)?;
    data.write_all(bytes).await?;
    data.shutdown().await?;
    drop(data);
    control.reply().await?.good("STOR", 2)?;
    // It has the file; how it takes leave is its own affair.
    let _ = control.stream.get_mut().write_all(b"QUIT\r\n").await;
    Ok(())
}

impl Control {
    async fn say(&mut self, verb: &str, argument: &str) -> Result<Reply, Fault> {
        let space = if argument.is_empty() { "" } else { " " };
        self.stream.get_mut().write_all(format!("{verb}{space}{argument}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// The last line of a reply begins with the code and a space.
    async fn reply(&mut self) -> Result<Reply, Fault> {
        let mut lines = (&mut self.stream).take(LONGEST);
        let mut code = None;
        loop {
            let mut line = Vec::new();
            if lines.read_until(b'\n', &mut line).await? == 0 {
                return Err(Fault::Refused("the FTP server has closed the connection".to_owned()));
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let number = line.get(..3).and_then(|number| number.parse::<u16>().ok());
            let last = matches!(line.as_bytes().get(3), None | Some(b' '));
            match (code, number) {
                (None, None) => return Err(Fault::Refused(format!("not FTP: {line:?}"))),
                (None, Some(number)) if last => return Ok(Reply { code: number, text: line }),
                (None, Some(number)) => code = Some(number),
                (Some(begun), Some(number)) if begun == number && last => return Ok(Reply { code: begun, text: line }),
                _ => {}
            }
        }
    }

    /// The port for the file. The address in an answer to PASV is not believed: it is that of the control connection.
    async fn passive(&mut self, peer: SocketAddr) -> Result<SocketAddr, Fault> {
        let extended = self.say("EPSV", "").await?;
        let port = if extended.code == 229 {
            extended_port(&extended.text)
        } else {
            let plain = self.say("PASV", "").await?.good("PASV", 2)?;
            plain_port(&plain.text)
        };
        let port = port.ok_or_else(|| Fault::Refused("the FTP server names no port for the file".to_owned()))?;
        Ok(SocketAddr::new(peer.ip(), port))
    }
}

impl Reply {
    fn good(self, what: &str, class: u16) -> Result<Self, Fault> {
        if self.code / 100 == class { Ok(self) } else { Err(self.refused(what)) }
    }

    fn refused(&self, what: &str) -> Fault {
        let text: String = self.text.chars().filter(|c| !c.is_control()).take(200).collect();
        Fault::Refused(format!("{what}: {text}"))
    }
}

/// `229 Entering Extended Passive Mode (|||6446|)`
fn extended_port(text: &str) -> Option<u16> {
    text.split_once("(|||")?.1.split_once("|)")?.0.parse().ok()
}

/// `227 Entering Passive Mode (127,0,0,1,25,46).`
fn plain_port(text: &str) -> Option<u16> {
    let numbers = text.get(3..)?.trim_start_matches(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u8> =
        numbers.split(|c: char| !c.is_ascii_digit()).take(6).map(str::parse).collect::<Result<_, _>>().ok()?;
    match numbers.as_slice() {
        [_, _, _, _, high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_passive_answer() {
        assert_eq!(extended_port("229 Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(plain_port("227 Entering Passive Mode (127,0,0,1,25,46)."), Some(6446));
        assert_eq!(plain_port("227 =10,0,0,1,25,46"), Some(6446));
        for wrong in ["227", "227 (1,2,3,4,5)", "227 (300,0,0,1,2,3)", "229 (||||)", ""] {
            assert_eq!((extended_port(wrong), plain_port(wrong)), (None, None), "{wrong}");
        }
    }
}
