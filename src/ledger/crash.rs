//! Where tests let the process die: between two steps of which both, or neither, must count.

/// Dies as by `kill -9` when `BOOTLINE_CRASH` is `point@n` and this is the n-th time here. A released binary has no
/// such points.
#[cfg(debug_assertions)]
pub fn crash_point(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("BOOTLINE_CRASH").ok()?;
        let (point, n) = text.split_once('@')?;
        Some((point.to_owned(), n.parse().ok()?))
    });
    let Some((_, n)) = wanted.as_ref().filter(|(name, _)| name == point) else { return };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *n {
        // No destructor, no flush, no farewell.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub const fn crash_point(_: &str) {}
