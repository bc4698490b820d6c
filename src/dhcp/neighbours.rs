//! Who is who on the link, told to the kernel beside the replies: no client waits for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::core::device::Mac;
use crate::dhcp::interface::Interface;

/// A boot client that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    pub address: Ipv4Addr,
    pub mac: Mac,
    /// The boot ROM of Pi 3 stops answering ARP once a download has begun: its entry must not age for so long.
    pub pinned: Option<Duration>,
}

/// Introductions that wait; beyond them the kernel asks by ARP, as ever.
pub const WAITING: usize = 256;

/// Writes neighbour entries until `stop`; then those that were pinned age like any other.
pub async fn run(interface: Interface, mut told: mpsc::Receiver<Neighbour>, stop: CancellationToken) {
    let mut pinned: BTreeMap<Ipv4Addr, (Mac, Instant)> = BTreeMap::new();
    loop {
        let next = pinned.values().map(|(_, until)| *until).min();
        tokio::select! {
            () = stop.cancelled() => break,
            Some(neighbour) = told.recv() => {
                let state = match neighbour.pinned {
                    Some(time) => {
                        pinned.insert(neighbour.address, (neighbour.mac, Instant::now() + time));
                        NeighbourState::Permanent
                    }
                    None => NeighbourState::Reachable,
                };
                set(&interface, neighbour.address, neighbour.mac, state).await;
            }
            () = async { tokio::time::sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {
                let now = Instant::now();
                let over: Vec<_> = pinned.iter().filter(|(_, (_, until))| *until <= now).map(|(a, (m, _))| (*a, *m)).collect();
                for (address, mac) in over {
                    pinned.remove(&address);
                    set(&interface, address, mac, NeighbourState::Stale).await;
                }
            }
        }
    }
    for (address, (mac, _)) in pinned {
        set(&interface, address, mac, NeighbourState::Stale).await;
    }
    interface.close().await;
}

async fn set(interface: &Interface, address: Ipv4Addr, mac: Mac, state: NeighbourState) {
    if let Err(error) = interface.introduce(address, mac, state).await {
        warn!(%mac, %address, error = &error as &dyn std::error::Error, "the kernel does not take a neighbour");
    }
}
