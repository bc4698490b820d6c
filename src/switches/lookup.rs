//! At which port of a switch a MAC is, in few packets, and what that port is called.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::device::Mac;
use crate::switches::client::{Client, Fault, Value};
use crate::switches::oid::{
    BASE_PORT_IFINDEX, FDB_PORT, IF_ALIAS, IF_DESCR, IF_NAME, Q_FDB_PORT, database_and_mac, index, mac_of, of_mac,
    of_mac_in, row,
};

/// A port of a switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `dot1dBasePort`
    pub number: u64,
    /// Of the interface, where the switch tells it.
    pub if_index: Option<u64>,
    /// `ifName`, or `ifDescr`, or the number.
    pub name: String,
    /// `ifAlias`, where somebody has written one.
    pub alias: Option<String>,
}

/// Filtering databases (VLANs) that are asked for one MAC; a switch with more is walked.
const MOST_DATABASES: usize = 64;

/// The numbers of the ports where the switch has learnt this MAC: none, one, or one in each of several VLANs.
pub async fn find(client: &mut Client, mac: Mac) -> Result<BTreeSet<u64>, Fault> {
    let (mut ports, databases) = in_databases(client, mac).await?;
    if databases == 0 {
        // No Q-BRIDGE: the older table.
        ports.extend(port(&client.get_one(of_mac(FDB_PORT, mac)).await?));
    }
    Ok(ports)
}

/// Asks each filtering database for the MAC: two packets each, however many MACs it holds.
async fn in_databases(client: &mut Client, mac: Mac) -> Result<(BTreeSet<u64>, usize), Fault> {
    let (mut ports, mut after, mut seen) = (BTreeSet::new(), Q_FDB_PORT.to_vec(), 0);
    while let Some((name, _)) = client.next(&after).await? {
        let Some((database, _)) = index(Q_FDB_PORT, &name).and_then(database_and_mac) else { break };
        ports.extend(port(&client.get_one(of_mac_in(Q_FDB_PORT, database, mac)).await?));
        seen += 1;
        if seen == MOST_DATABASES {
            ports.extend(walked(client).await?.get(&mac).into_iter().flatten());
            break;
        }
        // Past the last MAC that this database can hold.
        after = of_mac_in(Q_FDB_PORT, database, Mac::new([0xff; 6]));
    }
    Ok((ports, seen))
}

/// Where each MAC is, by reading the whole table: for uplinks, and for people.
pub async fn walked(client: &mut Client) -> Result<BTreeMap<Mac, BTreeSet<u64>>, Fault> {
    let mut found: BTreeMap<Mac, BTreeSet<u64>> = BTreeMap::new();
    for (name, value) in client.walk(Q_FDB_PORT).await? {
        if let (Some((_, mac)), Some(port)) = (index(Q_FDB_PORT, &name).and_then(database_and_mac), port(&value)) {
            found.entry(mac).or_default().insert(port);
        }
    }
    if found.is_empty() {
        for (name, value) in client.walk(FDB_PORT).await? {
            if let (Some(mac), Some(port)) = (index(FDB_PORT, &name).and_then(mac_of), port(&value)) {
                found.entry(mac).or_default().insert(port);
            }
        }
    }
    Ok(found)
}

/// Port 0 says that the switch knows the MAC and not where it is.
fn port(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => u64::try_from(*number).ok().filter(|number| *number > 0),
        _ => None,
    }
}

/// What the port is called.
pub async fn describe(client: &mut Client, number: u64) -> Result<Port, Fault> {
    let if_index = port(&client.get_one(row(BASE_PORT_IFINDEX, [number])).await?);
    // Without that table, ports are numbered like interfaces on every switch that was seen.
    let at = if_index.unwrap_or(number);
    let names = client.get(&[row(IF_NAME, [at]), row(IF_ALIAS, [at]), row(IF_DESCR, [at])]).await?;
    let mut texts = names.iter().map(text);
    let mut next = || texts.next().flatten();
    let (name, alias, described) = (next(), next(), next());
    Ok(Port { number, if_index, name: name.or(described).unwrap_or_else(|| number.to_string()), alias })
}

/// Printable, short, and not empty: it goes into events and onto pages.
fn text(value: &Value) -> Option<String> {
    const LONGEST: usize = 64;
    let Value::Text(bytes) = value else { return None };
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The numbers of all bridge ports.
pub async fn numbers(client: &mut Client) -> Result<Vec<u64>, Fault> {
    let rows = client.walk(BASE_PORT_IFINDEX).await?;
    Ok(rows.iter().filter_map(|(name, _)| index(BASE_PORT_IFINDEX, name)?.first().copied()).collect())
}
