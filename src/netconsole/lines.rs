//! Fragments of text become lines. A packet may hold part of a line or many, nothing says where one ends but its line
//! feed, and a board that hangs leaves its last words without one.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::device::Mac;
use crate::core::observation::ConsoleLine;
use crate::core::time::Timestamp;

/// What was heard and not yet told.
#[derive(Debug, Default)]
pub struct Lines {
    boards: HashMap<Mac, Board>,
    /// Whole lines of all boards.
    waiting: usize,
}

#[derive(Debug, Default)]
struct Board {
    /// The line under way, when it began, and when it last grew.
    begun: Vec<u8>,
    since: Timestamp,
    grown: Timestamp,
    whole: Vec<ConsoleLine>,
}

impl Lines {
    /// Takes a fragment. Says how many lines, or fragments of boards without a place, were dropped for lack of room.
    pub fn hear(&mut self, mac: Mac, text: &[u8], at: Timestamp) -> usize {
        if text.is_empty() {
            return 0;
        }
        if self.boards.len() >= MOST_BOARDS && !self.boards.contains_key(&mac) {
            return 1;
        }
        let board = self.boards.entry(mac).or_default();
        let mut dropped = 0;
        for byte in text {
            if board.begun.is_empty() {
                board.since = at;
            }
            if *byte != b'\n' {
                board.begun.push(*byte);
            }
            if *byte == b'\n' || board.begun.len() == LONGEST {
                dropped += board.end_line(&mut self.waiting);
            }
        }
        board.grown = at;
        dropped
    }

    /// The whole lines of each board; a line that has not grown for a while ends where it is.
    pub fn collect(&mut self, now: Timestamp) -> Vec<(Mac, Vec<ConsoleLine>)> {
        self.end_lines(|board| now.since(board.grown) >= IDLE)
    }

    /// Everything: no more will be heard.
    pub fn close(mut self) -> Vec<(Mac, Vec<ConsoleLine>)> {
        self.end_lines(|_| true)
    }

    fn end_lines(&mut self, is_over: impl Fn(&Board) -> bool) -> Vec<(Mac, Vec<ConsoleLine>)> {
        self.waiting = 0;
        let mut told = Vec::new();
        self.boards.retain(|mac, board| {
            if is_over(board) {
                board.end_line(&mut 0);
            }
            if !board.whole.is_empty() {
                told.push((*mac, std::mem::take(&mut board.whole)));
            }
            !board.begun.is_empty()
        });
        told
    }
}

impl Board {
    /// Blank lines tell nothing.
    fn end_line(&mut self, waiting: &mut usize) -> usize {
        let text = printable(&self.begun);
        self.begun.clear();
        if text.is_empty() {
            return 0;
        }
        if *waiting >= MOST_LINES {
            return 1;
        }
        *waiting += 1;
        self.whole.push(ConsoleLine { at: self.since, text });
        0
    }
}

/// Text that a terminal or a page can show as one line: it does not move the cursor or turn the reading direction.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end().replace(|c: char| c.is_control() || is_format(c), " ");
    text.trim_end().to_owned()
}

const fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Bytes of a line; what is longer goes on in the next.
pub const LONGEST: usize = 512;
/// A bootloader writes a line at once, or hangs.
const IDLE: Duration = Duration::from_secs(1);
/// Lines, of all boards, that wait for their second: some 100 times what a line of boards says.
const MOST_LINES: usize = 8192;
/// Boards with a line under way. MACs cost a flooder nothing.
const MOST_BOARDS: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOARD: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn texts(told: &[(Mac, Vec<ConsoleLine>)], mac: Mac) -> Vec<&str> {
        let of = told.iter().filter(|(of, _)| *of == mac).flat_map(|(_, lines)| lines);
        of.map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn fragments_of_two_boards_become_the_lines_of_each() {
        let mut lines = Lines::default();
        lines.hear(BOARD, b"Boot mode: NET", at(5));
        lines.hear(OTHER, b"RPi: BOOTLOADER\r\nrelease\n\n", at(6));
        lines.hear(BOARD, b"WORK (02)\nDHCP src", at(7));
        let told = lines.collect(at(8));
        assert_eq!(texts(&told, BOARD), ["Boot mode: NETWORK (02)"]);
        assert_eq!(texts(&told, OTHER), ["RPi: BOOTLOADER", "release"]);
        assert_eq!(told.iter().find(|(mac, _)| *mac == BOARD).unwrap().1[0].at, at(5), "when the line began");
        assert_eq!(lines.collect(at(9)), []);
    }

    #[test]
    fn the_last_words_of_a_board_that_hangs_are_a_line_after_a_second() {
        let mut lines = Lines::default();
        lines.hear(BOARD, b"waiting for link", at(0));
        assert_eq!(lines.collect(at(999)), []);
        assert_eq!(texts(&lines.collect(at(1000)), BOARD), ["waiting for link"]);
        lines.hear(BOARD, b"up", at(1001));
        assert_eq!(texts(&lines.close(), BOARD), ["up"]);
    }

    #[test]
    fn what_would_move_a_cursor_or_turn_the_text_is_blanked() {
        let mut lines = Lines::default();
        lines.hear(BOARD, "\x1b[2Ja\x08b\x00\u{202e}c\u{85}é\n".as_bytes(), at(0));
        lines.hear(BOARD, b"\xff\xfe\n\x1b\n", at(0));
        assert_eq!(texts(&lines.collect(at(0)), BOARD), [" [2Ja b  c é", "\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn a_line_without_an_end_and_a_flood_are_bounded() {
        let mut lines = Lines::default();
        lines.hear(BOARD, &[b'x'; 1300], at(0));
        let cut: Vec<usize> = texts(&lines.collect(at(0)), BOARD).iter().map(|text| text.len()).collect();
        assert_eq!(cut, [LONGEST, LONGEST]);
        let flood = "x\n".repeat(MOST_LINES + 5);
        assert_eq!(lines.hear(OTHER, flood.as_bytes(), at(0)), 5);
        assert_eq!(texts(&lines.collect(at(0)), OTHER).len(), MOST_LINES);
        let mac = |n: usize| {
            let [.., c, d] = n.to_be_bytes();
            Mac::new([2, 1, 0, 0, c, d])
        };
        let refused: usize = (0..MOST_BOARDS + 9).map(|n| lines.hear(mac(n), b"x", at(0))).sum();
        assert_eq!(refused, 10, "one place was taken");
    }

    proptest! {
        #[test]
        fn how_a_text_is_cut_into_fragments_does_not_matter(
            text in "[a-z \\n\\r]{0,200}", cuts in proptest::collection::vec(1usize..20, 1..40),
        ) {
            let (mut whole, mut cut) = (Lines::default(), Lines::default());
            whole.hear(BOARD, text.as_bytes(), at(0));
            let (mut rest, mut sizes) = (text.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (fragment, next) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                cut.hear(BOARD, fragment, at(0));
                rest = next;
            }
            let told = whole.close();
            prop_assert_eq!(&told, &cut.close());
            let text = text.replace('\r', " ");
            let expected: Vec<&str> = text.split('\n').map(str::trim_end).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(texts(&told, BOARD), expected);
        }
    }
}
