//! Devices whose word about themselves is at odds with what is known of them: told by an alarm, which ends with the last
//! of them.
//!
//! A doubt is over when the device shows itself as it is known, or when somebody has looked at it and says so
//! (`device.authorize`).

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::core::device::{Mac, Serial, Serial8};
use crate::core::floor::{Fact, Floor, Note};

/// So many are told apart; an alarm is raised for the others too.
const MOST: usize = 1000;

/// What is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// A serial shows at another MAC, or a MAC shows another serial.
    Serial,
    /// It calls from an address that is leased to another.
    Address,
}

impl Doubt {
    const ALL: [Self; 2] = [Self::Serial, Self::Address];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Address => "address",
        }
    }

    /// Of the alarm.
    fn code(self) -> String {
        format!("identity.{}", self.as_str())
    }
}

impl FromStr for Doubt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|doubt| doubt.as_str() == text).ok_or_else(|| format!("not a doubt: {text:?}"))
    }
}

/// The devices that are in doubt.
pub(super) type Doubts = BTreeSet<(Doubt, Mac)>;

impl Floor {
    pub fn learn_doubt(&mut self, doubt: Doubt, mac: Mac) {
        self.doubts.insert((doubt, mac));
    }

    pub(super) fn forget_doubt(&mut self, doubt: Doubt, mac: Mac) {
        self.doubts.remove(&(doubt, mac));
    }

    pub(super) fn doubted(&self, doubt: Doubt, mac: Mac, detail: &str) -> Vec<Fact> {
        let mut facts = self.alarm(&doubt.code(), detail);
        if !self.doubts.contains(&(doubt, mac)) && self.doubts.len() < MOST {
            facts.push(Note::Doubted { doubt, mac }.into());
        }
        facts
    }

    /// This doubt about the device is over.
    pub(super) fn trusted(&self, doubt: Doubt, mac: Mac) -> Option<Fact> {
        self.doubts.contains(&(doubt, mac)).then(|| Note::Trusted { doubt, mac }.into())
    }

    /// Somebody has looked at the device.
    pub(super) fn looked_at(&self, mac: Mac) -> impl Iterator<Item = Fact> {
        Doubt::ALL.into_iter().filter_map(move |doubt| self.trusted(doubt, mac))
    }

    /// The bootloader tells the end of the serial.
    pub(super) fn booted_as_known(&self, mac: Mac, told: Option<Serial8>) -> Option<Fact> {
        let known = self.devices.get(&mac)?.serial?;
        if told? == known.low() { self.trusted(Doubt::Serial, mac) } else { None }
    }

    /// The Linux stage tells all of it.
    pub(super) fn asked_as_known(&self, mac: Mac, told: Serial) -> Option<Fact> {
        let is_known = self.devices.get(&mac)?.serial == Some(told) && self.serials.get(&told) == Some(&mac);
        if is_known { self.trusted(Doubt::Serial, mac) } else { None }
    }

    /// What is over by now, looked at once a second.
    pub(super) fn doubts_settled(&self) -> Vec<Fact> {
        let open = |doubt: Doubt| self.doubts.iter().any(|(of, _)| *of == doubt);
        Doubt::ALL.into_iter().filter(|doubt| !open(*doubt)).flat_map(|doubt| self.cleared(&doubt.code())).collect()
    }
}
