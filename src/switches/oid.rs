//! The tables of a switch that are asked, as numbers, and how their rows are named.
//!
//! RFC 4188 (BRIDGE-MIB), RFC 4363 (Q-BRIDGE-MIB), RFC 2863 (IF-MIB), RFC 3621 (POWER-ETHERNET-MIB).

use crate::core::device::Mac;

/// The name of an object or row.
pub type Oid = Vec<u64>;

/// `sysName.0`: what the switch calls itself.
pub const SYS_NAME: &[u64] = &[1, 3, 6, 1, 2, 1, 1, 5, 0];
/// `dot1dBasePortIfIndex`: bridge port -> interface.
pub const BASE_PORT_IFINDEX: &[u64] = &[1, 3, 6, 1, 2, 1, 17, 1, 4, 1, 2];
/// `dot1dTpFdbPort`: MAC -> bridge port; without VLANs.
pub const FDB_PORT: &[u64] = &[1, 3, 6, 1, 2, 1, 17, 4, 3, 1, 2];
/// `dot1qTpFdbPort`: filtering database, MAC -> bridge port.
pub const Q_FDB_PORT: &[u64] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1, 2];
/// `ifDescr`
pub const IF_DESCR: &[u64] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 2];
/// `ifName`
pub const IF_NAME: &[u64] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1];
/// `ifAlias`: what the administrator calls it.
pub const IF_ALIAS: &[u64] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18];
/// `pethPsePortAdminEnable`: group, port -> 1 on, 2 off.
pub const POE_ADMIN: &[u64] = &[1, 3, 6, 1, 2, 1, 105, 1, 1, 1, 3];

pub fn row(table: &[u64], index: impl IntoIterator<Item = u64>) -> Oid {
    table.iter().copied().chain(index).collect()
}

/// The row of a MAC in a table that is indexed by it alone.
pub fn of_mac(table: &[u64], mac: Mac) -> Oid {
    row(table, mac.bytes().map(u64::from))
}

/// The row of a MAC in one filtering database.
pub fn of_mac_in(table: &[u64], database: u64, mac: Mac) -> Oid {
    row(table, std::iter::once(database).chain(mac.bytes().map(u64::from)))
}

/// What of a row's name comes after the table; nothing if it is of another table.
pub fn index<'a>(table: &[u64], oid: &'a [u64]) -> Option<&'a [u64]> {
    oid.strip_prefix(table)
}

/// The database and the MAC of a row of `dot1qTpFdbPort`.
pub fn database_and_mac(index: &[u64]) -> Option<(u64, Mac)> {
    let (database, mac) = index.split_first()?;
    Some((*database, mac_of(mac)?))
}

/// The MAC of a row of `dot1dTpFdbPort`.
pub fn mac_of(index: &[u64]) -> Option<Mac> {
    let bytes: Vec<u8> = index.iter().map(|part| u8::try_from(*part).ok()).collect::<Option<_>>()?;
    Some(Mac::new(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_and_read_back() {
        let mac: Mac = "e45f01112233".parse().unwrap();
        let name = of_mac_in(Q_FDB_PORT, 7, mac);
        assert!(name.ends_with(&[7, 0xe4, 0x5f, 1, 0x11, 0x22, 0x33]));
        assert_eq!(database_and_mac(index(Q_FDB_PORT, &name).unwrap()), Some((7, mac)));
        assert_eq!(mac_of(index(FDB_PORT, &of_mac(FDB_PORT, mac)).unwrap()), Some(mac));
        assert_eq!(index(FDB_PORT, &name), None);
        assert_eq!(mac_of(&[1, 2, 3]), None);
        assert_eq!(mac_of(&[1, 2, 3, 4, 5, 256]), None, "no byte");
    }
}
