//! The provisioning interface: the station's address on it, and its neighbours (rtnetlink).

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use nix::net::if_::{if_nameindex, if_nametoindex};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkUnspec};
use tokio::task::JoinHandle;

use crate::core::device::Mac;

/// One network interface of this machine. Close it, so that its netlink task is waited for.
pub struct Interface {
    name: String,
    index: u32,
    handle: Handle,
    connection: JoinHandle<()>,
}

/// The station's address as it was taken; give it back at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub address: Ipv4Addr,
    pub prefix_len: u8,
    /// It was not there before.
    pub added: bool,
}

impl Interface {
    /// Must be called inside the runtime.
    pub fn open(name: &str) -> Result<Self, InterfaceError> {
        let index =
            if_nametoindex(name).map_err(|_| InterfaceError::Missing { name: name.to_owned(), others: others() })?;
        let (connection, handle, _) = rtnetlink::new_connection().map_err(InterfaceError::Netlink)?;
        Ok(Self { name: name.to_owned(), index, handle, connection: tokio::spawn(connection) })
    }

    /// Puts the station's address on the interface if it is not there, and brings the link up.
    pub async fn claim(&self, address: Ipv4Addr, prefix_len: u8) -> Result<Claim, InterfaceError> {
        self.bring_up().await.map_err(|fault| self.fault("bring up", fault))?;
        let found = self.holder(address).await.map_err(|fault| self.fault("read the addresses of", fault))?;
        match found {
            Some(index) if index == self.index => {
                return Ok(Claim { address, prefix_len, added: false });
            }
            Some(index) => {
                let holder = name_of(index).unwrap_or_else(|| format!("interface {index}"));
                return Err(InterfaceError::Elsewhere { name: self.name.clone(), address, holder });
            }
            None => {}
        }
        self.handle
            .address()
            .add(self.index, IpAddr::V4(address), prefix_len)
            .execute()
            .await
            .map_err(|fault| self.fault("set the address of", fault))?;
        Ok(Claim { address, prefix_len, added: true })
    }

    /// Takes the station's address away again if `claim` has set it.
    pub async fn give_back(&self, claim: Claim) -> Result<(), InterfaceError> {
        if !claim.added {
            return Ok(());
        }
        let remove = async {
            let own = self.handle.address().get().set_link_index_filter(self.index);
            let mut own = own.set_address_filter(IpAddr::V4(claim.address)).execute();
            while let Some(message) = own.try_next().await? {
                self.handle.address().del(message).execute().await?;
            }
            Ok(())
        };
        remove.await.map_err(|fault| self.fault("remove the address of", fault))
    }

    /// The largest IP packet that the link takes whole.
    pub async fn mtu(&self) -> Result<u16, InterfaceError> {
        let mut links = self.handle.link().get().match_index(self.index).execute();
        let link = links.try_next().await.map_err(|fault| self.fault("read", fault))?;
        let mtu = link.into_iter().flat_map(|link| link.attributes).find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        });
        Ok(mtu.map_or(ETHERNET_MTU, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX)))
    }

    /// Tells the kernel whose address it is, so that the first packet to it does not wait for ARP.
    pub async fn introduce(&self, address: Ipv4Addr, mac: Mac, state: NeighbourState) -> Result<(), InterfaceError> {
        self.handle
            .neighbours()
            .add(self.index, IpAddr::V4(address))
            .link_layer_address(&mac.bytes())
            .state(state)
            .replace()
            .execute()
            .await
            .map_err(|fault| self.fault("add a neighbour on", fault))
    }

    /// Ends the netlink task and waits for it.
    pub async fn close(self) {
        drop(self.handle);
        // The task ends once the last handle is gone; a panic in it changes nothing for us any more.
        let _ = self.connection.await;
    }

    async fn bring_up(&self) -> Result<(), rtnetlink::Error> {
        let message = LinkUnspec::new_with_index(self.index).up().build();
        self.handle.link().set(message).execute().await
    }

    /// The interface that has the address.
    async fn holder(&self, address: Ipv4Addr) -> Result<Option<u32>, rtnetlink::Error> {
        let mut all = self.handle.address().get().execute();
        while let Some(message) = all.try_next().await? {
            let local = AddressAttribute::Local(IpAddr::V4(address));
            if message.attributes.contains(&local) {
                return Ok(Some(message.header.index));
            }
        }
        Ok(None)
    }

    fn fault(&self, deed: &'static str, fault: rtnetlink::Error) -> InterfaceError {
        let name = self.name.clone();
        match fault {
            rtnetlink::Error::NetlinkError(answer) => {
                let source = answer.to_io();
                if source.kind() == io::ErrorKind::PermissionDenied {
                    return InterfaceError::Denied { deed, name };
                }
                InterfaceError::Refused { deed, name, source }
            }
            other => InterfaceError::Refused { deed, name, source: io::Error::other(other) },
        }
    }
}

fn others() -> String {
    let names: Vec<String> = if_nameindex()
        .map(|all| all.iter().map(|one| one.name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.join(", ")
}

fn name_of(index: u32) -> Option<String> {
    let all = if_nameindex().ok()?;
    let found = all.iter().find(|one| one.index() == index)?;
    Some(found.name().to_string_lossy().into_owned())
}

const ETHERNET_MTU: u16 = 1500;

/// Why the interface cannot be had as configured.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    #[error("there is no network interface {name}; this machine has {others}")]
    Missing { name: String, others: String },
    #[error("cannot open a netlink socket")]
    Netlink(#[source] io::Error),
    #[error("no permission to {deed} {name}: needs root or CAP_NET_ADMIN")]
    Denied { deed: &'static str, name: String },
    #[error("the address {address} wanted on {name} is already on {holder}")]
    Elsewhere { name: String, address: Ipv4Addr, holder: String },
    #[error("cannot {deed} {name}")]
    Refused { deed: &'static str, name: String, source: io::Error },
}
