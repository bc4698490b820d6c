//! The predecessor's configuration, as it is: the block `cmProvisionServer` becomes keys of ours.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Deserializer, de};

use crate::config::file::{File, Prefixed, Range};
use crate::config::{ConfigError, wrong};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CmProvisionServer {
    host_iface: String,
    server_ip: Prefixed,
    dhcp_range: DhcpRange,
    #[serde(default = "http_port")]
    rest_api_port: u16,
}

const fn http_port() -> u16 {
    80
}

/// `192.168.5.2,192.168.255.255,255.255.0.0`, as dnsmasq reads it; a lease time may follow.
#[derive(Clone, Debug)]
struct DhcpRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
    mask: Option<Ipv4Addr>,
}

impl<'de> Deserialize<'de> for DhcpRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format!("not FIRST,LAST or FIRST,LAST,NETMASK: {text:?}"));
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (&[first, last], rest) = parts.split_first_chunk::<2>().ok_or_else(wrong)?;
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        let mask = match rest {
            [] => None,
            [mask] | [mask, _] => Some(mask.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        if first > last { Err(wrong()) } else { Ok(Self { first, last, mask }) }
    }
}

impl File {
    pub const fn is_legacy(&self) -> bool {
        self.cm_provision_server.is_some()
    }

    /// Puts what the block says in the place of our own keys. What was changed for it, or is to be known, is told.
    pub fn with_legacy(mut self) -> Result<(Self, Vec<String>), ConfigError> {
        let Some(block) = self.cm_provision_server.clone() else { return Ok((self, Vec::new())) };
        let Prefixed { address: server, prefix_len } = block.server_ip;
        let mut warnings = vec![format!(
            "cmProvisionServer: the predecessor's routes on port {} need no token, except from the network of the \
             devices; see http.legacy_open and conf/manual/operations.md for how to close them",
            block.rest_api_port
        )];
        let mask = Ipv4Addr::from(u32::MAX << (32 - u32::from(prefix_len)));
        if let Some(told) = block.dhcp_range.mask.filter(|told| *told != mask) {
            warnings.push(format!(
                "cmProvisionServer.dhcpRange: the netmask {told} is not that of serverIp, {mask}; {mask} is used"
            ));
        }
        self.network.interface = block.host_iface;
        self.network.address = block.server_ip;
        self.network.dhcp.range = Some(clipped(&block.dhcp_range, server, mask, &mut warnings)?);
        self.http.devices = Some(SocketAddrV4::new(server, block.rest_api_port));
        self.http.operators = SocketAddr::from((Ipv4Addr::UNSPECIFIED, block.rest_api_port));
        Ok((self, warnings))
    }
}

/// dnsmasq hands out what it is told to; an address of the network itself or of everyone in it is no device's.
fn clipped(
    range: &DhcpRange,
    server: Ipv4Addr,
    mask: Ipv4Addr,
    warnings: &mut Vec<String>,
) -> Result<Range, ConfigError> {
    let network = server & mask;
    let broadcast = network | !mask;
    let outside = |address: &Ipv4Addr| address & mask != network;
    if let Some(address) = [range.first, range.last].into_iter().find(outside) {
        return Err(wrong(
            "cmProvisionServer.dhcpRange",
            format!("{address} is not in the network of serverIp, {network} with netmask {mask}"),
        ));
    }
    let first = range.first.max(Ipv4Addr::from(u32::from(network) + 1));
    let last = range.last.min(Ipv4Addr::from(u32::from(broadcast) - 1));
    if (first, last) != (range.first, range.last) {
        warnings.push(format!(
            "cmProvisionServer.dhcpRange: {}-{} touches the address of the network or of all in it; {first}-{last} is used",
            range.first, range.last
        ));
    }
    if first > last {
        return Err(wrong("cmProvisionServer.dhcpRange", "no address is left in it".to_owned()));
    }
    Ok(Range { first, last })
}
