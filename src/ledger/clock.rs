//! Whose time it is: the system's, or in tests the test's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::time::Timestamp;

#[derive(Clone, Debug, Default)]
pub struct Clock {
    by_hand: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// A clock that only moves when it is told to.
    #[cfg(test)]
    pub fn by_hand(at: Timestamp) -> Self {
        Self { by_hand: Some(Arc::new(AtomicI64::new(at.millis()))) }
    }

    pub fn now(&self) -> Timestamp {
        match &self.by_hand {
            Some(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
            None => {
                let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Does nothing to the system's clock.
    #[cfg(test)]
    pub fn forward(&self, by: std::time::Duration) {
        if let Some(millis) = &self.by_hand {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}
