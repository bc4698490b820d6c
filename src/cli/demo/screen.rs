//! Where the demo shows itself: progress bars below moving lines on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::core::device::Mac;

/// Lines go to standard output, or to standard error where that is for the machine.
#[derive(Debug)]
pub struct Screen {
    bars: Option<MultiProgress>,
    by_device: BTreeMap<Mac, ProgressBar>,
    to_errors: bool,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let terminal = stderr().is_terminal() && (json || stdout().is_terminal());
        Self { bars: terminal.then(MultiProgress::new), by_device: BTreeMap::new(), to_errors: json }
    }

    pub fn line(&self, text: &str) {
        match &self.bars {
            // A line that cannot be shown is no reason to stop.
            Some(bars) => drop(bars.println(text)),
            None if self.to_errors => eprintln!("{text}"),
            None => println!("{text}"),
        }
    }

    /// One more bar for each device.
    pub fn expect(&mut self, devices: impl Iterator<Item = Mac>) {
        let Some(bars) = &self.bars else {
            return;
        };
        let style = ProgressStyle::with_template("{prefix}  {bar:32} {percent:>3}%  {wide_msg}")
            .expect("the template is a constant");
        for mac in devices {
            let bar = bars.add(ProgressBar::new(100).with_style(style.clone()).with_prefix(mac.to_string()));
            bar.set_message("waits");
            self.by_device.insert(mac, bar);
        }
    }

    pub fn progress(&self, mac: Mac, percent: u64, what: &str) {
        if let Some(bar) = self.by_device.get(&mac) {
            bar.set_position(percent);
            bar.set_message(what.to_owned());
        }
    }

    pub fn stage(&self, mac: Mac, what: &str) {
        if let Some(bar) = self.by_device.get(&mac) {
            bar.set_message(what.to_owned());
        }
    }

    /// The bars go; what is printed now stays.
    pub fn close(&mut self) {
        for bar in self.by_device.values() {
            bar.finish_and_clear();
        }
        self.by_device.clear();
        self.bars = None;
    }
}
