//! Work that takes long: on threads of its own, with less right to the processor than whoever answers a device.

use tokio::sync::oneshot;

use crate::core::refusal::Refusal;

/// How much it steps back, as `nice` counts.
#[derive(Clone, Copy, Debug)]
pub enum Priority {
    /// Somebody waits for it.
    Low,
    /// Nobody does.
    Idle,
}

/// Threads that it starts, such as those of a decoder, inherit the priority.
pub async fn run<T, F>(name: &str, priority: Priority, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (done, result) = oneshot::channel();
    let nice = match priority {
        Priority::Low => 5,
        Priority::Idle => 15,
    };
    let work = move || {
        // On Linux this is about the calling thread alone.
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tracing::debug!(%error, "work in the background keeps its priority");
        }
        // Whoever asked may have gone.
        let _ = done.send(work());
    };
    let broken = || Refusal::new(500, "internal", "work on an image broke off inside of the station").retryable();
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|_| broken())?;
    result.await.map_err(|_| broken())
}
