//! Which addresses have an owner, as runs of neighbours: what was never used costs nothing, however wide the pool is,
//! and the next free one is found in one look.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The first and the last address of each run; two runs never touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    runs: BTreeMap<u32, u32>,
}

impl Taken {
    pub fn take(&mut self, address: Ipv4Addr) {
        let at = u32::from(address);
        if self.run_around(at).is_some() {
            return;
        }
        let left = at.checked_sub(1).and_then(|before| self.run_around(before));
        let right = at.checked_add(1).and_then(|after| self.run_around(after));
        if let Some((first, _)) = right {
            self.runs.remove(&first);
        }
        self.runs.insert(left.map_or(at, |(first, _)| first), right.map_or(at, |(_, last)| last));
    }

    pub fn give_back(&mut self, address: Ipv4Addr) {
        let at = u32::from(address);
        let Some((first, last)) = self.run_around(at) else { return };
        self.runs.remove(&first);
        if first < at {
            self.runs.insert(first, at - 1);
        }
        if at < last {
            self.runs.insert(at + 1, last);
        }
    }

    /// The first free address from here on; nothing if all of them up to the last there is are taken.
    pub fn next_free(&self, from: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.run_around(u32::from(from)) {
            None => Some(from),
            Some((_, last)) => last.checked_add(1).map(Ipv4Addr::from),
        }
    }

    fn run_around(&self, at: u32) -> Option<(u32, u32)> {
        #[cfg(test)]
        looks::count();
        self.runs.range(..=at).next_back().map(|(first, last)| (*first, *last)).filter(|(_, last)| *last >= at)
    }
}

/// How often the runs were looked at, for the test that holds the cost of a choice.
#[cfg(test)]
pub mod looks {
    use std::cell::Cell;

    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    pub fn count() {
        LOOKS.set(LOOKS.get() + 1);
    }

    pub fn during<T>(deed: impl FnOnce() -> T) -> (T, u64) {
        LOOKS.set(0);
        let done = deed();
        (done, LOOKS.get())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_address_space_are_addresses_too() {
        let mut taken = Taken::default();
        let (lowest, highest) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        taken.take(highest);
        assert_eq!((taken.next_free(highest), taken.next_free(lowest)), (None, Some(lowest)));
        taken.take(lowest);
        assert_eq!(taken.next_free(lowest), Some(Ipv4Addr::new(0, 0, 0, 1)));
        taken.give_back(highest);
        assert_eq!(taken.next_free(highest), Some(highest));
    }

    proptest! {
        #[test]
        fn the_runs_say_the_same_as_a_set(steps in prop::collection::vec((any::<bool>(), 0u32..40), 0..200)) {
            let (mut taken, mut set) = (Taken::default(), BTreeSet::new());
            for (takes, at) in steps {
                if takes {
                    taken.take(at.into());
                    set.insert(at);
                } else {
                    taken.give_back(at.into());
                    set.remove(&at);
                }
                for from in 0..42u32 {
                    let free = (from..).find(|at| !set.contains(at)).map(Ipv4Addr::from);
                    prop_assert_eq!(taken.next_free(from.into()), free);
                }
                let touching = taken.runs.iter().zip(taken.runs.keys().skip(1)).any(|((_, last), next)| last + 1 >= *next);
                prop_assert!(!touching, "{:?}", taken.runs);
            }
        }
    }
}
