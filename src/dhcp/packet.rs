//! The DHCP message on the wire (RFC 2131, options RFC 2132, long options RFC 3396): bytes in, a value out, and back.
//!
//! Tolerant of what boot ROMs send: PAD anywhere, a truncated last option, garbage inside an option. Never panics.

use std::net::Ipv4Addr;

use crate::core::device::Mac;

/// What BOOTP calls `op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Request,
    Reply,
}

/// Option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover = 1,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub op: Op,
    pub hops: u8,
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: Mac,
    /// The two fields of BOOTP, up to their first zero; empty if they hold options (option 52).
    pub sname: Vec<u8>,
    pub file: Vec<u8>,
    /// In the order of the wire, each code once.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Message {
    /// A request of a client without an address.
    pub const fn request(xid: u32, chaddr: Mac, options: Vec<(u8, Vec<u8>)>) -> Self {
        Self {
            op: Op::Request,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: Vec::new(),
            file: Vec::new(),
            options,
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((head, options)) = bytes.split_at_checked(OPTIONS) else {
            return Err(Malformed::Short { bytes: bytes.len() });
        };
        if head[FIXED..] != COOKIE {
            return Err(Malformed::Cookie);
        }
        let op = match head[0] {
            1 => Op::Request,
            2 => Op::Reply,
            op => return Err(Malformed::Op { op }),
        };
        let (htype, hlen) = (head[1], head[2]);
        if (htype, hlen) != (ETHERNET, 6) {
            return Err(Malformed::Hardware { htype, hlen });
        }
        let (sname, file) = (&head[SNAME..FILE], &head[FILE..FIXED]);
        let mut options = walk(Vec::new(), options);
        let overloaded = overload(&mut options);
        if overloaded.file {
            options = walk(options, file);
        }
        if overloaded.sname {
            options = walk(options, sname);
        }
        let text = |field: &[u8], is_options| match is_options {
            true => Vec::new(),
            false => field.iter().copied().take_while(|byte| *byte != 0).collect(),
        };
        Ok(Self {
            op,
            hops: head[3],
            xid: u32::from_be_bytes(array(head, 4)),
            secs: u16::from_be_bytes(array(head, 8)),
            flags: u16::from_be_bytes(array(head, 10)),
            ciaddr: Ipv4Addr::from(array::<4>(head, 12)),
            yiaddr: Ipv4Addr::from(array::<4>(head, 16)),
            siaddr: Ipv4Addr::from(array::<4>(head, 20)),
            giaddr: Ipv4Addr::from(array::<4>(head, 24)),
            chaddr: Mac::new(array(head, 28)),
            sname: text(sname, overloaded.sname),
            file: text(file, overloaded.file),
            options,
        })
    }

    /// The message as bytes, options in the order given, at least 300 of them (what BOOTP asks for).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MINIMUM.max(OPTIONS + 80));
        let op = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        out.extend([op, ETHERNET, 6, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr.bytes());
        out.resize(SNAME, 0);
        out.extend(self.sname.iter().take(FILE - SNAME));
        out.resize(FILE, 0);
        out.extend(self.file.iter().take(FIXED - FILE));
        out.resize(FIXED, 0);
        out.extend(COOKIE);
        for (code, value) in &self.options {
            write_option(&mut out, *code, value);
        }
        out.push(END);
        if out.len() < MINIMUM {
            out.resize(MINIMUM, PAD);
        }
        out
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    /// An option that holds one address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.option(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    }

    pub fn kind(&self) -> Option<Kind> {
        Some(match self.option(code::KIND)? {
            [1] => Kind::Discover,
            [2] => Kind::Offer,
            [3] => Kind::Request,
            [4] => Kind::Decline,
            [5] => Kind::Ack,
            [6] => Kind::Nak,
            [7] => Kind::Release,
            [8] => Kind::Inform,
            _ => return None,
        })
    }

    /// The client cannot take unicast before it has an address.
    pub const fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST != 0
    }
}

/// The BROADCAST bit of `flags`.
pub const BROADCAST: u16 = 0x8000;

/// The option codes that we read or write.
pub mod code {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const BROADCAST_ADDRESS: u8 = 28;
    pub const VENDOR_SPECIFIC: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAXIMUM_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY_AGENT: u8 = 82;
    pub const ARCHITECTURE: u8 = 93;
    pub const INTERFACE: u8 = 94;
    pub const MACHINE_ID: u8 = 97;
    /// What iPXE says to its own servers, and they to it.
    pub const IPXE: u8 = 175;
}

/// Reads the list as far as it goes. A code that comes again is the rest of the same option (RFC 3396).
fn walk(mut options: Vec<(u8, Vec<u8>)>, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    while let Some((&code, rest)) = bytes.split_first() {
        bytes = rest;
        match code {
            PAD => continue,
            END => break,
            _ => {}
        }
        let Some((&length, rest)) = bytes.split_first() else {
            break;
        };
        let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else {
            break;
        };
        bytes = rest;
        match options.iter_mut().find(|(known, _)| *known == code) {
            Some((_, earlier)) => earlier.extend(value),
            None => options.push((code, value.to_vec())),
        }
    }
    options
}

/// Which fields of BOOTP hold options.
struct Overload {
    file: bool,
    sname: bool,
}

/// Takes option 52 out of the list, for it says something of these bytes and not of the message.
fn overload(options: &mut Vec<(u8, Vec<u8>)>) -> Overload {
    let at = options.iter().position(|(code, _)| *code == code::OVERLOAD);
    let fields = at.map(|at| options.remove(at).1);
    let fields = match fields.as_deref() {
        Some([fields @ 1..=3]) => *fields,
        _ => 0,
    };
    Overload { file: fields & 1 != 0, sname: fields & 2 != 0 }
}

fn write_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if value.is_empty() {
        out.extend([code, 0]);
    }
    for part in value.chunks(usize::from(u8::MAX)) {
        out.push(code);
        out.push(u8::try_from(part.len()).expect("chunks of 255 at most"));
        out.extend(part);
    }
}

/// `N` bytes at `at`, which must lie inside.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

const ETHERNET: u8 = 1;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Where the two fields begin.
const SNAME: usize = 44;
const FILE: usize = SNAME + 64;
/// The BOOTP header without its vendor area.
const FIXED: usize = 236;
const OPTIONS: usize = FIXED + COOKIE.len();
const MINIMUM: usize = 300;
const PAD: u8 = 0;
const END: u8 = 255;

/// Bytes that are no DHCP message of an Ethernet client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{bytes} bytes are too few for a dhcp message")]
    Short { bytes: usize },
    #[error("no dhcp magic cookie")]
    Cookie,
    #[error("unknown bootp op {op}")]
    Op { op: u8 },
    #[error("hardware type {htype} with addresses of {hlen} bytes is not ethernet")]
    Hardware { htype: u8, hlen: u8 },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(options: Vec<(u8, Vec<u8>)>) -> Message {
        Message::request(7, Mac::new([0xe4, 0x5f, 1, 2, 3, 4]), options)
    }

    #[test]
    fn a_message_survives_the_wire_with_its_options_in_order() {
        let sent = message(vec![(53, vec![1]), (97, vec![0; 17]), (43, vec![9; 600]), (60, vec![]), (1, vec![255; 4])]);
        assert_eq!(Message::parse(&sent.encode()), Ok(sent));
    }

    #[test]
    fn a_short_message_is_padded_to_300_bytes() {
        assert_eq!(message(vec![(53, vec![1])]).encode().len(), 300);
    }

    #[test]
    fn a_truncated_last_option_keeps_what_came_before() {
        let mut bytes = message(vec![]).encode();
        bytes.truncate(OPTIONS);
        bytes.extend([53, 1, 1, 0, 0, 55, 3, 1, 0xeb, 0, 60, 9, b'P']);
        let read = Message::parse(&bytes).unwrap();
        assert_eq!(read.kind(), Some(Kind::Discover));
        assert_eq!(read.option(code::PARAMETERS), Some(&[1, 0xeb, 0][..]));
        assert_eq!(read.option(code::VENDOR_CLASS), None);
    }

    #[test]
    fn what_is_not_dhcp_over_ethernet_is_refused() {
        let good = message(vec![(53, vec![1])]).encode();
        assert_eq!(Message::parse(&good[..239]), Err(Malformed::Short { bytes: 239 }));
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            Message::parse(&bytes)
        };
        assert_eq!(changed(236, 0), Err(Malformed::Cookie));
        assert_eq!(changed(0, 3), Err(Malformed::Op { op: 3 }));
        assert_eq!(changed(2, 16), Err(Malformed::Hardware { htype: 1, hlen: 16 }));
    }

    #[test]
    fn the_two_fields_of_bootp_are_read_and_written() {
        let mut sent = message(vec![(53, vec![2])]);
        sent.sname = b"station".to_vec();
        sent.file = b"bootaa64.efi".to_vec();
        let bytes = sent.encode();
        assert_eq!((&bytes[44..52], &bytes[108..121]), (&b"station\0"[..], &b"bootaa64.efi\0"[..]));
        assert_eq!(Message::parse(&bytes), Ok(sent.clone()));
        sent.file = vec![b'x'; 200];
        assert_eq!(Message::parse(&sent.encode()).unwrap().file, vec![b'x'; 128], "no further than its field");
    }

    #[test]
    fn a_list_that_goes_on_in_file_and_sname_is_read_there() {
        let mut sent = message(vec![(53, vec![1]), (60, b"PXE".to_vec()), (52, vec![3])]);
        sent.file = vec![60, 6, b'C', b'l', b'i', b'e', b'n', b't', 93, 2, 0xaa, 7, 255, 77, 1, 1];
        sent.sname = vec![12, 200, 1];
        let read = Message::parse(&sent.encode()).unwrap();
        assert_eq!(read.options, [(53, vec![1]), (60, b"PXEClient".to_vec()), (93, vec![0xaa, 7])]);
        assert_eq!((read.file.len(), read.sname.len()), (0, 0));
        assert_eq!(Message::parse(&read.encode()), Ok(read));
        for odd in [vec![0], vec![4], vec![1, 1], vec![]] {
            sent.options[2].1 = odd;
            assert_eq!(Message::parse(&sent.encode()).unwrap().options.len(), 2, "not believed");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..900,
        ) {
            let mut bytes = message(vec![]).encode();
            bytes.truncate(OPTIONS);
            bytes.extend(tail);
            bytes.truncate(cut);
            if let Ok(read) = Message::parse(&bytes) {
                prop_assert_eq!(Message::parse(&read.encode()), Ok(read));
            }
        }
    }
}
