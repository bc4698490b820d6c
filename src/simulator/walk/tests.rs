//! A station in a list, for the walks of all models; and the laws that all of them share.

use super::*;
use crate::core::device::{Mac, Serial};
use crate::simulator::board::Model;

/// A station with these files, as `name` or `name=text`; what was asked for.
pub fn visit(
    model: Model,
    has: &[&str],
    walk: fn(&mut Walk<'_>) -> Result<(), Unbootable>,
) -> (Vec<String>, Result<Booted, Unbootable>) {
    let board = Board {
        model,
        mac: Mac::new([2, 0, 0, 0, 0, 1]),
        serial: Serial(0x1000_0000_be91_0eb2),
        revision: model.revision(),
    };
    let mut asked = Vec::new();
    let mut get = |file: &str, wish: Wish| {
        asked.push(file.to_owned());
        let bare = file.strip_prefix("be910eb2/").unwrap_or(file);
        let found = has.iter().map(|file| file.split_once('=').unwrap_or((file, "")));
        let text = found.filter(|(name, _)| *name == bare || *name == file).map(|(_, text)| text).next();
        Ok(match (text, wish) {
            (None, _) => Fetched::Missing,
            (Some(_), Wish::Probe) => Fetched::Seen,
            (Some(text), _) => Fetched::Whole { bytes: 10, head: text.as_bytes().to_vec() },
        })
    };
    let mut walked = Walk::begin(board, &mut get);
    let end = walk(&mut walked).map(|()| walked.booted.clone());
    (asked, end)
}

fn slow(needed: bool) -> (Vec<String>, Result<(), Unbootable>) {
    let board = Board {
        model: Model::Cm4,
        mac: Mac::new([2, 0, 0, 0, 0, 1]),
        serial: Serial(1),
        revision: Model::Cm4.revision(),
    };
    let mut get = |file: &str, _: Wish| Err(Lost { file: file.to_owned(), why: Upset::Timeout });
    let mut walk = Walk::begin(board, &mut get);
    let end = if needed { walk.need("a").map(drop) } else { walk.want("a").map(drop) };
    (walk.booted.cut, end)
}

#[test]
fn a_file_that_takes_too_long_counts_as_absent() {
    let (cut, end) = slow(false);
    assert_eq!(cut, ["00000001/a"]);
    assert!(end.is_ok(), "the board goes on without it");
    assert!(matches!(slow(true).1, Err(Unbootable::TooSlow(name)) if name == "00000001/a"));
}
