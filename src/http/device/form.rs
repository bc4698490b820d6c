//! `a=1&b=2` as curl and the stock initramfs write it. More tolerant than a parser of forms: the initramfs escapes
//! nothing but the spaces of the model, and a stray `%` is a `%`.

/// Names and values in their order; an empty text has none.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let split = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => (decoded(name), decoded(value)),
        None => (decoded(pair), String::new()),
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        bytes.push(match (first, hex(others)) {
            (b'+', _) => b' ',
            (b'%', Some(byte)) => {
                rest = &others[2..];
                byte
            }
            _ => *first,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// What a device says of itself ends up in events and on screens: one line, of a bounded length.
pub fn tidy(text: &str, longest: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        pairs(text)
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn spaces_escapes_and_what_is_none_are_read() {
        let text = "model=Raspberry+Pi+CM4&temp=42.0'C&cid=&x&&a%20b=%41%4&c=100%&d=%zz";
        let read = read(text);
        let pairs = [
            ("model", "Raspberry Pi CM4"),
            ("temp", "42.0'C"),
            ("cid", ""),
            ("x", ""),
            ("a b", "A%4"),
            ("c", "100%"),
            ("d", "%zz"),
        ];
        assert_eq!(read, expected(&pairs));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(read("a=%ff%00"), expected(&[("a", "\u{fffd}\0")]));
        assert_eq!(tidy(" a\0b\n ", 10), "a b");
        assert_eq!(tidy("äöü", 2), "äö");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            pairs(&text);
        }
    }
}
