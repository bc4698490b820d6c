//! The threads of the server: who starts them, and who waits for their end.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bootfiles::BootFiles;
use crate::tftp::bell::Bell;
use crate::tftp::counter::{Active, Counter, Key, Seat};
use crate::tftp::desk::Desk;
use crate::tftp::reader::read;
use crate::tftp::worker::Worker;

pub struct Crew {
    halt: Halt,
    /// The end of each thread.
    ends: JoinSet<Result<(), Fault>>,
}

/// Makes every thread end, also when it is dropped: a thread must not outlive its server.
#[derive(Default)]
struct Halt {
    token: CancellationToken,
    bells: Vec<Bell>,
}

impl Halt {
    fn bell(&mut self) -> Result<Bell, Fault> {
        let bell = Bell::new().map_err(|source| Fault::Start { source })?;
        self.bells.push(bell.clone());
        Ok(bell)
    }
}

impl Drop for Halt {
    fn drop(&mut self) {
        self.token.cancel();
        self.bells.iter().for_each(Bell::ring);
    }
}

impl Crew {
    pub fn start(inbox: UdpSocket, files: Arc<BootFiles>, desk: Arc<Desk>, workers: usize) -> Result<Self, Fault> {
        let mut crew = Self { halt: Halt::default(), ends: JoinSet::new() };
        let (ended, told) = channel();
        let seats = (0..workers).map(|_| crew.worker(&ended, &desk)).collect::<Result<Vec<_>, _>>()?;
        let (unread, waiting) = channel();
        let of_reader = Arc::clone(&desk);
        crew.thread("tftp-read", move || {
            read(&waiting, &ended, &of_reader);
            Ok(())
        })?;
        let counter = Counter {
            inbox,
            bell: crew.halt.bell()?,
            halt: crew.halt.token.clone(),
            files,
            desk,
            seats,
            unread,
            ended: told,
            active: Active::new(workers),
        };
        crew.thread("tftp-requests", || counter.run().map_err(|source| Fault::Receive { source }))?;
        Ok(crew)
    }

    /// Until `stop`, or until a thread ends unasked.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Fault> {
        let Self { halt, mut ends } = self;
        let mut end = tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(end) = ends.join_next() => end.unwrap_or(Err(Fault::Lost)),
        };
        drop(halt);
        while let Some(last) = ends.join_next().await {
            let last = last.unwrap_or(Err(Fault::Lost));
            end = end.and(last);
        }
        end
    }

    fn worker(&mut self, ended: &Sender<Key>, desk: &Arc<Desk>) -> Result<Seat, Fault> {
        let (orders, taken) = channel();
        let bell = self.halt.bell()?;
        let worker = Worker::new(taken, ended.clone(), bell.clone(), Arc::clone(desk), self.halt.token.clone());
        let worker = worker.map_err(|source| Fault::Start { source })?;
        self.thread("tftp-download", || worker.run().map_err(|source| Fault::Wait { source }))?;
        Ok(Seat { orders, bell })
    }

    fn thread(&mut self, name: &str, work: impl FnOnce() -> Result<(), Fault> + Send + 'static) -> Result<(), Fault> {
        let (sender, end) = oneshot::channel();
        let work = move || {
            // Nobody waits any more when the server was dropped.
            let _ = sender.send(work());
        };
        Builder::new().name(name.to_owned()).spawn(work).map_err(|source| Fault::Start { source })?;
        self.ends.spawn(async { end.await.unwrap_or(Err(Fault::Lost)) });
        Ok(())
    }
}

/// Why the server has ended.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot start the tftp server's threads")]
    Start { source: io::Error },
    #[error("cannot receive tftp requests")]
    Receive { source: io::Error },
    #[error("cannot wait for tftp downloads")]
    Wait { source: io::Error },
    /// A bug: it has panicked.
    #[error("a thread of the tftp server has ended early")]
    Lost,
}
