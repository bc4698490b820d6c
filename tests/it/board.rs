//! A device as far as HTTP sees it: asks for its script, takes its image, reports, and may die anywhere.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

use crate::http::{self, Answer};

#[derive(Clone)]
pub struct FakeBoard {
    pub station: SocketAddr,
    pub mac: String,
    pub serial: String,
}

/// What the script tells its device.
pub struct Orders {
    values: BTreeMap<String, String>,
}

impl FakeBoard {
    pub fn new(station: SocketAddr, n: u32) -> Self {
        Self { station, mac: format!("0200{n:08x}"), serial: format!("10000000{n:08x}") }
    }

    /// `size` in bytes.
    pub fn ask(&self, size: u64) -> io::Result<Answer> {
        let path = format!(
            "/scriptexecute?serial={}&model=Raspberry+Pi+Compute+Module+4&storagesize={}&mac={}&inversejumper=&memorysize=&temp=42.0'C&cid=&csd=&bootmode=2&simulated=1",
            self.serial,
            size / 512,
            self.mac
        );
        http::call(self.station, "GET", &path, &[], b"")
    }

    pub fn report(&self, orders: &Orders, form: &str) -> io::Result<Answer> {
        let token = format!("Bearer {}", orders.value("TOKEN"));
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        http::call(
            self.station,
            "POST",
            &orders.path("REPORT_URL"),
            &[("Authorization", &token), kind],
            form.as_bytes(),
        )
    }

    pub fn image(&self, orders: &Orders) -> io::Result<Answer> {
        let token = format!("Bearer {}", orders.value("TOKEN"));
        http::call(self.station, "GET", &orders.path("IMAGE_URL"), &[("Authorization", &token)], b"")
    }

    /// The whole journey with a raw image; the medium is what was downloaded.
    pub fn provision(&self, size: u64) -> io::Result<Answer> {
        self.provision_telling(size, |_| ())
    }

    /// `last` is called with the MAC just before the last report leaves.
    pub fn provision_telling(&self, size: u64, last: impl FnOnce(&str)) -> io::Result<Answer> {
        let orders = Orders::read(&self.ask(size)?.text());
        self.report(&orders, "step=write&state=started")?;
        let image = self.image(&orders)?;
        self.report(&orders, &format!("step=write&state=completed&bytes={}", image.body.len()))?;
        self.report(&orders, "step=verify&state=started")?;
        let sum = sha256(&image.body);
        self.report(
            &orders,
            &format!("step=verify&state=completed&bytes={}&sha256={sum}&cache=not_dropped", image.body.len()),
        )?;
        last(&self.mac);
        self.report(&orders, "state=finished")
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Orders {
    /// The script opens with lines `NAME='value'`.
    pub fn read(script: &str) -> Self {
        let values = script
            .lines()
            .filter_map(|line| line.split_once("='"))
            .filter_map(|(name, rest)| Some((name.to_owned(), rest.strip_suffix('\'')?.to_owned())))
            .collect();
        Self { values }
    }

    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).unwrap_or_else(|| panic!("the script has no {name}: {:?}", self.values.keys()))
    }

    pub fn path(&self, name: &str) -> String {
        let url = self.value(name);
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not a url: {url}"));
        format!("/{}", rest.split_once('/').unwrap_or_else(|| panic!("no path: {url}")).1)
    }
}
