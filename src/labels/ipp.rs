//! IPP (RFC 8010, RFC 8011): one `Print-Job`, by HTTP or HTTPS (RFC 7472).

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::labels::{Fault, Ipp, Security, tls};

const PRINT_JOB: u16 = 0x0002;
const OPERATION: u8 = 0x01;
const END: u8 = 0x03;
const TEXT: u8 = 0x41;
const NAME: u8 = 0x42;
const URI: u8 = 0x45;
const CHARSET: u8 = 0x47;
const LANGUAGE: u8 = 0x48;
const MEDIA: u8 = 0x49;
/// An answer has so many bytes at most.
const LONGEST: usize = 64 << 10;

pub async fn send(ipp: &Ipp, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let stream = TcpStream::connect(&ipp.address).await?;
    match &ipp.security {
        Security::Plain => exchange(stream, ipp, name, bytes).await,
        Security::Tls { ca } => exchange(tls::wrap(stream, &ipp.address, ca.as_deref()).await?, ipp, name, bytes).await,
    }
}

async fn exchange<S>(stream: S, ipp: &Ipp, name: &str, bytes: &[u8]) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let refused = |error: hyper::Error| Fault::Refused(format!("no HTTP: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(refused)?;
    let request = Request::post(&ipp.path)
        .header(header::HOST, &ipp.address)
        .header(header::CONTENT_TYPE, "application/ipp")
        .body(Full::new(Bytes::from(request(ipp, name, bytes))))
        .map_err(|error| Fault::Refused(error.to_string()))?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(refused)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Fault::Refused(format!("HTTP status {status}")));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        Ok(body.map_err(|error| Fault::Refused(error.to_string()))?.to_bytes())
    };
    tokio::pin!(asking);
    let body = tokio::select! {
        body = &mut asking => body?,
        // The connection may end with the answer on its way.
        _ = connection => asking.await?,
    };
    judge(&body)
}

fn request(ipp: &Ipp, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![1, 1];
    message.extend(PRINT_JOB.to_be_bytes());
    message.extend(1_u32.to_be_bytes());
    message.push(OPERATION);
    for (tag, key, value) in [
        (CHARSET, "attributes-charset", "utf-8"),
        (LANGUAGE, "attributes-natural-language", "en"),
        (URI, "printer-uri", ipp.uri.as_str()),
        (NAME, "requesting-user-name", "bootline"),
        (NAME, "job-name", name),
        (MEDIA, "document-format", ipp.format.as_str()),
    ] {
        message.push(tag);
        for part in [key, value] {
            message.extend(u16::try_from(part.len()).unwrap_or(0).to_be_bytes());
            message.extend(part.as_bytes());
        }
    }
    message.push(END);
    message.extend(bytes);
    message
}

/// Status codes below 256 are good news.
fn judge(answer: &[u8]) -> Result<(), Fault> {
    match answer {
        [_, _, 0, _, ..] if answer.len() >= 8 => Ok(()),
        [_, _, high, low, ..] => {
            let status = u16::from_be_bytes([*high, *low]);
            let why = message(answer).unwrap_or_default();
            Err(Fault::Refused(format!("IPP status 0x{status:04x} {why}").trim_end().to_owned()))
        }
        _ => Err(Fault::Refused("the answer is no IPP".to_owned())),
    }
}

/// `status-message` of an answer.
fn message(answer: &[u8]) -> Option<String> {
    let mut rest = answer.get(8..)?;
    loop {
        let (&tag, after) = rest.split_first()?;
        match tag {
            END => return None,
            0x00..=0x0f => rest = after,
            _ => {
                let (key, after) = counted(after)?;
                let (value, after) = counted(after)?;
                if tag == TEXT && key == b"status-message" {
                    let text = String::from_utf8_lossy(value);
                    return Some(text.chars().filter(|c| !c.is_control()).take(200).collect());
                }
                rest = after;
            }
        }
    }
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_printer() {
        let mut answer = vec![1, 1, 0x04, 0x0a, 0, 0, 0, 1, OPERATION, TEXT, 0, 14];
        answer.extend(b"status-message\0\x09no format");
        answer.push(END);
        assert_eq!(judge(&answer).unwrap_err().to_string(), "IPP status 0x040a no format");
        for cut in 4..answer.len() {
            assert!(judge(&answer[..cut]).is_err(), "{cut}");
        }
        assert!(judge(&[1, 1, 0, 1, 0, 0, 0, 1, END]).is_ok());
        assert!(judge(&[1, 1, 0, 0]).is_err() && judge(b"").is_err());
    }
}
