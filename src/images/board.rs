//! How far the work on images is, for those who ask: counters in memory.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::floor::Progress;
use crate::images::decode::Meter;

/// A handle. A std mutex around a few counters, never held across a wait.
#[derive(Clone, Debug, Default)]
pub struct Board {
    meters: Arc<Mutex<HashMap<String, Arc<Meter>>>>,
}

impl Board {
    fn meters(&self) -> MutexGuard<'_, HashMap<String, Arc<Meter>>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work begins; `key` is the id of its job or of its image.
    pub fn begin(&self, key: &str, total: u64) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        meter.total.store(total, Ordering::Relaxed);
        self.meters().insert(key.to_owned(), Arc::clone(&meter));
        meter
    }

    pub fn end(&self, key: &str) {
        self.meters().remove(key);
    }

    pub fn progress(&self, key: &str) -> Option<Progress> {
        self.meters().get(key).map(|meter| read(meter))
    }
}

pub fn read(meter: &Meter) -> Progress {
    Progress { done: meter.done.load(Ordering::Relaxed), total: meter.total.load(Ordering::Relaxed) }
}
