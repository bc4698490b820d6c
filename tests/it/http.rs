//! Just enough of an HTTP client: one request a connection, as `curl` in a script does it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::agent::PATIENCE;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{extra}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // The station may answer and hang up before it has read everything.
    let sent = stream.write_all(body);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if answer.is_empty() => return Err(error),
        Err(_) => {}
    }
    if answer.is_empty() {
        sent?;
    }
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "an answer that breaks off"))
}

/// None when the body is shorter than announced.
fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length = headers
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|text| text.parse::<usize>().ok());
    match length {
        Some(length) if body.len() < length => None,
        None if headers.contains("transfer-encoding: chunked") => {
            Some(Answer { status, body: unchunked(body)?, headers })
        }
        _ => Some(Answer { status, body: body.to_vec(), headers }),
    }
}

/// RFC 9112 §7.1; None when the last chunk is missing.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        let rest = &body[end + 2..];
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(..length)?);
        body = rest.get(length + 2..)?;
    }
}
