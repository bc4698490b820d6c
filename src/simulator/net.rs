//! Links and addresses over netlink: the parent's bridge and wires, the device's own `eth0`.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode, State,
};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection,
};
use tokio::task::JoinHandle;

use crate::core::device::Mac;

/// A conversation with the kernel about the links of this process's network namespace.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    talk: JoinHandle<()>,
}

/// Where devices can be plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Each gets a veth whose near end is a port of it.
    Bridge { index: u32 },
    /// Each gets a macvlan on it; such devices do not see the host's own address on that interface.
    Plain { index: u32 },
}

impl Links {
    /// Needs a running tokio.
    pub fn open() -> Result<Self, NetError> {
        let (connection, handle, _) = new_connection().map_err(NetError::Open)?;
        Ok(Self { handle, talk: tokio::spawn(connection) })
    }

    /// A bridge with an address of its own. By default it takes the lowest one of its ports, so that it changes when a
    /// device leaves, and the others then talk to nobody until their ARP entries expire (up to a minute was seen).
    pub async fn add_bridge(&self, name: &str, mac: Mac) -> Result<(), NetError> {
        let bridge = LinkBridge::new(name).address(mac.bytes().to_vec()).up().build();
        self.handle.link().add(bridge).execute().await.map_err(|error| NetError::at("add bridge", name, error))
    }

    pub async fn set_up(&self, name: &str) -> Result<(), NetError> {
        let link = LinkUnspec::new_with_name(name).up().build();
        self.handle.link().set(link).execute().await.map_err(|error| NetError::at("set up", name, error))
    }

    /// Waits for the cable. A frame that is sent before the kernel knows of the carrier is lost without a word.
    pub async fn carrier(&self, name: &str) -> Result<(), NetError> {
        for _ in 0..CARRIER_LOOKS {
            let link = self.find(name).await?;
            if link.attributes.contains(&LinkAttribute::OperState(State::Up)) {
                return Ok(());
            }
            tokio::time::sleep(CARRIER_PAUSE).await;
        }
        Err(NetError::NoCarrier(name.to_owned()))
    }

    /// How devices are plugged in at this interface.
    pub async fn socket(&self, name: &str) -> Result<Socket, NetError> {
        let link = self.find(name).await?;
        let index = link.header.index;
        let is_bridge = link.attributes.iter().any(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
            _ => false,
        });
        Ok(if is_bridge { Socket::Bridge { index } } else { Socket::Plain { index } })
    }

    /// Gives the namespaces of process `pid` an `eth0` with this address, on the segment of `socket`.
    pub async fn plug_in(&self, socket: Socket, pid: u32, mac: Mac) -> Result<(), NetError> {
        let address = mac.bytes().to_vec();
        let near = near_name(mac);
        let message = match socket {
            Socket::Bridge { index } => {
                let far = LinkUnspec::new_with_name("eth0").address(address).setns_by_pid(pid).build();
                LinkMessageBuilder::<LinkVeth>::new(&near, "eth0")
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
                    // The highest there is, so that no bridge takes it for its own (libvirt does the same).
                    .address(near_address(mac))
                    .controller(index)
                    .up()
                    .build()
            }
            Socket::Plain { index } => {
                LinkMacVlan::new("eth0", index, MacVlanMode::Bridge).address(address).setns_by_pid(pid).build()
            }
        };
        self.handle.link().add(message).execute().await.map_err(|error| NetError::at("plug in", &near, error))
    }

    pub async fn add_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<(), NetError> {
        let index = self.find(name).await?.header.index;
        let request = self.handle.address().add(index, address.into(), prefix);
        request.execute().await.map_err(|error| NetError::at("set an address on", name, error))
    }

    pub async fn drop_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<(), NetError> {
        let index = self.find(name).await?.header.index;
        let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        self.handle
            .address()
            .del(message)
            .execute()
            .await
            .map_err(|error| NetError::at("remove an address from", name, error))
    }

    async fn find(&self, name: &str) -> Result<LinkMessage, NetError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found {
            Ok(Some(link)) => Ok(link),
            Ok(None) => Err(NetError::Missing(name.to_owned())),
            Err(error) if is_missing(&error) => Err(NetError::Missing(name.to_owned())),
            Err(error) => Err(NetError::at("look at", name, error)),
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.talk.abort();
    }
}

/// The bridge's end of a device's wire; at most 15 letters.
fn near_name(mac: Mac) -> String {
    let [_, _, a, b, c, d] = mac.bytes();
    format!("sim{a:02x}{b:02x}{c:02x}{d:02x}")
}

fn near_address(mac: Mac) -> Vec<u8> {
    let [_, rest @ ..] = mac.bytes();
    [&[0xfe], rest.as_slice()].concat()
}

fn is_missing(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.raw_code() == -nix::libc::ENODEV)
}

/// The kernel tells of a carrier within milliseconds, or within a second when many change.
const CARRIER_PAUSE: Duration = Duration::from_millis(5);
const CARRIER_LOOKS: u32 = 2000;

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot talk to the kernel about links")]
    Open(#[source] io::Error),
    #[error("no cable at {0} for 10 s")]
    NoCarrier(String),
    #[error("there is no interface {0}")]
    Missing(String),
    #[error("cannot {deed} {name}")]
    Refused { deed: &'static str, name: String, source: rtnetlink::Error },
}

impl NetError {
    fn at(deed: &'static str, name: &str, source: rtnetlink::Error) -> Self {
        Self::Refused { deed, name: name.to_owned(), source }
    }

    /// The caller lacks the right (`CAP_NET_ADMIN`) rather than the thing.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Refused { source: rtnetlink::Error::NetlinkError(message), .. }
            if message.raw_code() == -nix::libc::EPERM)
    }
}
