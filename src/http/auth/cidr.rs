//! A network: `192.168.5.0/16`, `fd00::/8`, or one address.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    pub const fn v4(address: Ipv4Addr, prefix_len: u8) -> Self {
        Self { address: IpAddr::V4(address), prefix_len }
    }

    pub fn contains(&self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let rest = bits - u32::from(self.prefix_len).min(bits);
            a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(u128::from(a), u128::from(b), 128),
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a network such as 10.1.0.0/16: {text:?}");
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix_len.unwrap_or(most);
        if prefix_len > most { Err(wrong()) } else { Ok(Self { address, prefix_len }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let inside = |network: &str, address: &str| network.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
        assert!(inside("192.168.5.1/16", "192.168.255.255") && !inside("192.168.5.1/16", "192.169.0.1"));
        assert!(inside("10.0.0.7", "10.0.0.7") && !inside("10.0.0.7", "10.0.0.6"));
        assert!(inside("0.0.0.0/0", "1.2.3.4") && !inside("0.0.0.0/0", "::1"));
        assert!(inside("::/0", "fe80::1") && inside("fd00::/8", "fd12::3") && !inside("fd00::/8", "fe00::3"));
        assert!(inside("10.0.0.0/8", "::ffff:10.1.1.1"), "an IPv4 caller of an IPv6 socket");
        for wrong in ["", "10.0.0.0/33", "x/8", "10.0.0.0/", "10.0.0/8", "::/129"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
