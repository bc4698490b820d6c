//! A page from elsewhere in the operator's browser reaches this station too: by a name that was bound anew to its
//! address, or across origins. Its Host or its Origin gives it away.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use crate::core::refusal::Refusal;
use crate::http::auth::{Access, is_loopback};

pub fn check(access: &Access, peer: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    let refused = |why: String| Err(Refusal::new(403, "forbidden", why));
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if let Some(host) = host.filter(|host| !is_ours(access, peer, host)) {
        return refused(format!(
            "the Host header names {host:?}; call this station by its address, or list the name in http.hosts"
        ));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
    match origin {
        Some(origin) if host.is_none_or(|host| origin != format!("{}://{host}", access.scheme.as_str())) => {
            refused(format!("calls from pages of {origin:?} are refused"))
        }
        _ => Ok(()),
    }
}

/// An address as such cannot be bound anew; a name can, so only known ones are taken.
fn is_ours(access: &Access, peer: IpAddr, host: &str) -> bool {
    let name = without_port(host);
    match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if is_loopback(address) => is_loopback(peer),
        Ok(address) => access.listen.is_unspecified() || address == access.listen,
        Err(_) => {
            (name.eq_ignore_ascii_case("localhost") && is_loopback(peer))
                || access.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
        }
    }
}

/// `localhost:8080`, `127.0.0.1`, `[::1]:8080`
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::auth::{Legacy, Loopback, Scheme};

    fn verdict(listen: &str, peer: &str, host: &str, origin: Option<&str>) -> bool {
        let access = Access {
            loopback: Loopback::Open,
            hosts: vec!["station-1.factory.example".to_owned()],
            listen: listen.parse().unwrap(),
            scheme: Scheme::Http,
            legacy: Legacy::From(Vec::new()),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check(&access, peer.parse().unwrap(), &headers).is_ok()
    }

    #[test]
    fn a_station_is_called_by_its_address_or_by_a_name_that_is_listed() {
        assert!(verdict("127.0.0.1", "127.0.0.1", "localhost:8080", None));
        assert!(verdict("::1", "::1", "[::1]:8080", None));
        assert!(verdict("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1", None));
        assert!(verdict("10.0.0.5", "10.0.0.9", "10.0.0.5:8080", None));
        assert!(verdict("0.0.0.0", "10.0.0.9", "10.0.0.5:8080", None));
        assert!(verdict("0.0.0.0", "10.0.0.9", "Station-1.Factory.example:8080", None));
        assert!(!verdict("10.0.0.5", "10.0.0.9", "10.0.0.6:8080", None));
        assert!(!verdict("0.0.0.0", "10.0.0.9", "localhost:8080", None));
        assert!(!verdict("127.0.0.1", "127.0.0.1", "evil.example:8080", None), "a name that was bound anew");
    }

    #[test]
    fn pages_from_elsewhere_are_kept_out() {
        let from = |origin| verdict("127.0.0.1", "127.0.0.1", "localhost:8080", Some(origin));
        assert!(!from("http://evil.example") && !from("http://localhost:9999") && !from("null"));
        assert!(!from("https://localhost:8080"), "this one speaks http");
        assert!(from("http://localhost:8080"));
    }
}
