//! Which part of a file a request wants (RFC 9110 §14): one range of bytes; anything else is answered with all of it.

use axum::http::{HeaderMap, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// From the first to behind the last.
    Part(u64, u64),
    /// It lies behind the end.
    Beyond,
}

pub fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let Some(text) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else { return Wanted::All };
    parse(text, size).unwrap_or(Wanted::All)
}

fn parse(text: &str, size: u64) -> Option<Wanted> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (first.trim(), last.trim()) {
        ("", suffix) => match suffix.parse::<u64>().ok()? {
            0 => return Some(Wanted::Beyond),
            suffix => (size.saturating_sub(suffix), size),
        },
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some(if from < size { Wanted::Part(from, to) } else { Wanted::Beyond })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_writes_them() {
        for (text, expected) in [
            ("bytes=0-0", Some(Wanted::Part(0, 1))),
            ("bytes=10-", Some(Wanted::Part(10, 100))),
            ("bytes=10-999", Some(Wanted::Part(10, 100))),
            ("bytes=-10", Some(Wanted::Part(90, 100))),
            ("bytes=-999", Some(Wanted::Part(0, 100))),
            ("bytes=100-", Some(Wanted::Beyond)),
            ("bytes=-0", Some(Wanted::Beyond)),
            ("bytes=5-4", None),
            ("bytes=1-2,4-5", None),
            ("lines=1-2", None),
            ("bytes=x-", None),
        ] {
            assert_eq!(parse(text, 100), expected, "{text}");
        }
    }
}
