//! Who may manage: callers on loopback, with an honest Host and Origin. Everyone else is refused, because there is no
//! token yet that could let him in.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::core::refusal::Refusal;
use crate::http::error::Failure;

pub async fn guard(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    match may_manage(peer.ip(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => Failure(refusal).into_response(),
    }
}

fn may_manage(peer: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    if !peer.to_canonical().is_loopback() {
        return Err(Refusal::new(
            403,
            "forbidden",
            format!("management is open to callers on this machine only, not to {peer}"),
        ));
    }
    // A page from elsewhere in the operator's browser reaches loopback too: by a rebound name, or across origins.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host.filter(|host| !is_loopback(host)) {
        return Err(Refusal::new(
            403,
            "forbidden",
            format!("the Host header names {host:?}; call this station by a loopback address or localhost"),
        ));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
    match origin {
        Some(origin) if host.is_none_or(|host| origin != format!("http://{host}")) => {
            Err(Refusal::new(403, "forbidden", format!("calls from pages of {origin:?} are refused")))
        }
        _ => Ok(()),
    }
}

/// `localhost:8080`, `127.0.0.1`, `[::1]:8080`
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(peer: &str, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        may_manage(peer.parse().unwrap(), &headers).is_ok()
    }

    #[test]
    fn only_this_machine_manages() {
        assert!(verdict("127.0.0.1", "localhost:8080", None));
        assert!(verdict("::1", "[::1]:8080", None));
        assert!(verdict("::ffff:127.0.0.1", "127.0.0.1", None));
        assert!(!verdict("192.168.5.7", "localhost:8080", None));
    }

    #[test]
    fn pages_from_elsewhere_are_kept_out() {
        assert!(!verdict("127.0.0.1", "evil.example:8080", None), "a rebound name");
        assert!(!verdict("127.0.0.1", "localhost:8080", Some("http://evil.example")));
        assert!(!verdict("127.0.0.1", "localhost:8080", Some("http://localhost:9999")));
        assert!(verdict("127.0.0.1", "localhost:8080", Some("http://localhost:8080")));
    }
}
