//! The TFTP packet on the wire (RFC 1350, options RFC 2347): bytes in, a value out, and back. Never panics.

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Rrq(Request),
    Wrq(Request),
    Data { block: u16, data: Bytes },
    Ack { block: u16 },
    Error { code: u16, message: String },
    Oack { options: Vec<(String, String)> },
}

/// A request to read or to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub file: String,
    /// Lower case.
    pub mode: String,
    /// Names in lower case, in the order of the packet.
    pub options: Vec<(String, String)>,
}

#[cfg(test)]
impl Request {
    pub fn option(&self, name: &str) -> Option<&str> {
        option(&self.options, name)
    }
}

/// Looks an option up in a request or an OACK.
pub fn option<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

impl Packet {
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((&opcode, rest)) = bytes.split_first_chunk::<2>() else {
            return Err(Malformed::Short);
        };
        let opcode = u16::from_be_bytes(opcode);
        Ok(match opcode {
            RRQ => Self::Rrq(parse_request(rest)?),
            WRQ => Self::Wrq(parse_request(rest)?),
            DATA => {
                let (block, data) = number(rest)?;
                Self::Data { block, data: Bytes::copy_from_slice(data) }
            }
            // Some clients send bytes after the number; they mean nothing.
            ACK => Self::Ack { block: number(rest)?.0 },
            ERROR => {
                // The text is for people only, so it may be without its end, or odd.
                let (code, text) = number(rest)?;
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                Self::Error { code, message: String::from_utf8_lossy(text).replace(char::is_control, " ") }
            }
            OACK => Self::Oack { options: pairs(&strings(rest)?)? },
            _ => return Err(Malformed::Opcode { opcode }),
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Writes the packet in the place of what the buffer holds.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Rrq(request) => encode_request(out, RRQ, request),
            Self::Wrq(request) => encode_request(out, WRQ, request),
            Self::Data { block, data } => encode_data(out, *block, data),
            Self::Ack { block } => {
                out.extend(ACK.to_be_bytes());
                out.extend(block.to_be_bytes());
            }
            Self::Error { code, message } => {
                out.extend(ERROR.to_be_bytes());
                out.extend(code.to_be_bytes());
                out.extend_from_slice(message.as_bytes());
                out.push(0);
            }
            Self::Oack { options } => {
                out.extend(OACK.to_be_bytes());
                write_pairs(out, options);
            }
        }
    }

    pub fn error(code: u16, message: &str) -> Self {
        Self::Error { code, message: message.to_owned() }
    }
}

/// Error codes of RFC 1350 and RFC 2347.
pub mod code {
    pub const UNDEFINED: u16 = 0;
    pub const FILE_NOT_FOUND: u16 = 1;
    pub const ACCESS_VIOLATION: u16 = 2;
    pub const ILLEGAL_OPERATION: u16 = 4;
    pub const UNKNOWN_TRANSFER: u16 = 5;
}

fn parse_request(bytes: &[u8]) -> Result<Request, Malformed> {
    let texts = strings(bytes)?;
    let [file, mode, options @ ..] = texts.as_slice() else {
        return Err(Malformed::Unterminated);
    };
    if file.is_empty() || mode.is_empty() {
        return Err(Malformed::Text);
    }
    Ok(Request { file: (*file).to_owned(), mode: mode.to_ascii_lowercase(), options: pairs(options)? })
}

/// Texts that each end in NUL; printable, because they go to logs and file names.
fn strings(bytes: &[u8]) -> Result<Vec<&str>, Malformed> {
    let Some(body) = bytes.strip_suffix(&[0]) else {
        return if bytes.is_empty() { Ok(Vec::new()) } else { Err(Malformed::Unterminated) };
    };
    body.split(|byte| *byte == 0)
        .map(|text| match std::str::from_utf8(text) {
            Ok(text) if !text.contains(char::is_control) => Ok(text),
            _ => Err(Malformed::Text),
        })
        .collect()
}

fn pairs(texts: &[&str]) -> Result<Vec<(String, String)>, Malformed> {
    let (pairs, rest) = texts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Malformed::Option);
    }
    pairs
        .iter()
        .map(|[name, value]| match name.is_empty() {
            true => Err(Malformed::Option),
            false => Ok((name.to_ascii_lowercase(), (*value).to_owned())),
        })
        .collect()
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk::<2>().ok_or(Malformed::Short)?;
    Ok((u16::from_be_bytes(*number), rest))
}

fn encode_request(out: &mut Vec<u8>, opcode: u16, request: &Request) {
    out.extend(opcode.to_be_bytes());
    for text in [&request.file, &request.mode] {
        out.extend(text.as_bytes());
        out.push(0);
    }
    write_pairs(out, &request.options);
}

/// Writes a DATA packet behind what the buffer holds.
pub fn encode_data(out: &mut Vec<u8>, block: u16, data: &[u8]) {
    out.extend_from_slice(&DATA.to_be_bytes());
    out.extend_from_slice(&block.to_be_bytes());
    out.extend_from_slice(data);
}

fn write_pairs(out: &mut Vec<u8>, pairs: &[(String, String)]) {
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(text.as_bytes());
        out.push(0);
    }
}

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Bytes that are no TFTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("too short for a tftp packet")]
    Short,
    #[error("unknown tftp opcode {opcode}")]
    Opcode { opcode: u16 },
    #[error("a text without its end")]
    Unterminated,
    #[error("a text that is empty or not printable")]
    Text,
    #[error("an option without a name or a value")]
    Option,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_read_with_names_in_any_case() {
        let read = Packet::parse(b"\0\x01c0ffee12/config.txt\0Octet\0TSIZE\x000\0blksize\x001468\0").unwrap();
        let Packet::Rrq(request) = read else { panic!("{read:?}") };
        assert_eq!((request.file.as_str(), request.mode.as_str()), ("c0ffee12/config.txt", "octet"));
        assert_eq!((request.option("tsize"), request.option("blksize")), (Some("0"), Some("1468")));
        assert_eq!(request.option("windowsize"), None);
    }

    #[test]
    fn a_text_without_its_end_or_with_control_characters_is_refused() {
        for (bytes, why) in [
            (&b"\0\x01config.txt\0octet"[..], Malformed::Unterminated),
            (b"\0\x01config.txt\0", Malformed::Unterminated),
            (b"\0\x01", Malformed::Unterminated),
            (b"\0\x01\0octet\0", Malformed::Text),
            (b"\0\x01a\nb\0octet\0", Malformed::Text),
            (b"\0\x01\xff\xfe\0octet\0", Malformed::Text),
            (b"\0\x01a\0octet\0tsize\0", Malformed::Option),
            (b"\0\x01a\0octet\0\x000\0", Malformed::Option),
            (b"\0\x09", Malformed::Opcode { opcode: 9 }),
            (b"\0\x04\0", Malformed::Short),
            (b"\0", Malformed::Short),
        ] {
            assert_eq!(Packet::parse(bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn the_text_of_an_error_may_be_odd() {
        for bytes in [&b"\0\x05\0\0Early terminate\0"[..], b"\0\x05\0\0Early terminate"] {
            assert_eq!(Packet::parse(bytes), Ok(Packet::error(0, "Early terminate")));
        }
    }

    #[test]
    fn the_packets_of_the_field_are_read_and_written_byte_for_byte() {
        let read = |text| {
            let bytes = crate::tftp::tests::bytes(text);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.encode(), bytes);
            packet
        };
        let rrq = |file: &str, options: &[(&str, &str)]| {
            let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Packet::Rrq(Request { file: file.to_owned(), mode: "octet".to_owned(), options })
        };
        assert_eq!(read(include_str!("../../tests/vectors/tftp/pi3-rom-rrq.hex")), rrq("bootcode.bin", &[]));
        let pi5 = [("tsize", "0"), ("blksize", "1468")];
        assert_eq!(read(include_str!("../../tests/vectors/tftp/pi5-config-rrq.hex")), rrq("c0ffee12/config.txt", &pi5));
        let edk2 = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
        assert_eq!(read(include_str!("../../tests/vectors/tftp/edk2-rrq.hex")), rrq("bootaa64.efi", &edk2));
        assert_eq!(
            read(include_str!("../../tests/vectors/tftp/edk2-user-aborted.hex")),
            Packet::error(8, "User aborted the transfer")
        );
        assert_eq!(
            read(include_str!("../../tests/vectors/tftp/early-terminate.hex")),
            Packet::error(0, "Early terminate")
        );
        assert_eq!(read(include_str!("../../tests/vectors/tftp/not-found.hex")), Packet::error(1, "File not found"));
    }

    fn packets() -> impl Strategy<Value = Packet> {
        let options = || proptest::collection::vec(("[a-z]{1,8}", "[ -~]{0,8}"), 0..4);
        let request = || {
            ("[ -~é]{1,40}", "[a-z]{1,8}", options()).prop_map(|(file, mode, options)| Request { file, mode, options })
        };
        prop_oneof![
            request().prop_map(Packet::Rrq),
            request().prop_map(Packet::Wrq),
            (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..1500))
                .prop_map(|(block, data)| Packet::Data { block, data: data.into() }),
            any::<u16>().prop_map(|block| Packet::Ack { block }),
            (any::<u16>(), "[ -~]{0,40}").prop_map(|(code, message)| Packet::Error { code, message }),
            options().prop_map(|options| Packet::Oack { options }),
        ]
    }

    proptest! {
        #[test]
        fn a_packet_survives_the_wire(packet in packets()) {
            prop_assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(opcode in 0u8..8, tail in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = vec![0, opcode];
            bytes.extend(tail);
            let _ = Packet::parse(&bytes);
        }
    }
}
