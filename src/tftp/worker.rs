//! A thread that carries downloads: it waits for all their sockets at once, and per block it makes two system calls, one
//! that takes the ACK and one that sends the next block.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::core::observation::FileResult;
use crate::tftp::bell::Bell;
use crate::tftp::counter::Key;
use crate::tftp::desk::Desk;
use crate::tftp::download::{Download, Order, Tray};
use crate::tftp::transfer::End;

pub struct Worker {
    epoll: Epoll,
    bell: Bell,
    orders: Receiver<Order>,
    /// Told of every order once, when nothing is left of it.
    ended: Sender<Key>,
    desk: Arc<Desk>,
    halt: CancellationToken,
    /// By a number that is never given twice, so that what is late finds nobody.
    downloads: HashMap<u64, Download>,
    last: u64,
    /// At least one for each download; those whose download has another alarm or is gone mean nothing.
    alarms: BinaryHeap<Reverse<(Instant, u64)>>,
    tray: Tray,
}

impl Worker {
    pub fn new(
        orders: Receiver<Order>,
        ended: Sender<Key>,
        bell: Bell,
        desk: Arc<Desk>,
        halt: CancellationToken,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self {
            epoll,
            bell,
            orders,
            ended,
            desk,
            halt,
            downloads: HashMap::new(),
            last: BELL,
            alarms: BinaryHeap::new(),
            tray: Tray::default(),
        })
    }

    /// Works until it is halted; then lets downloads end, for a few seconds.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut last_moment = None;
        while last_moment.is_none_or(|last| !self.downloads.is_empty() && Instant::now() < last) {
            let ready = match self.epoll.wait(&mut events, self.patience(last_moment)) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..ready] {
                match event.data() {
                    BELL if self.halt.is_cancelled() => {
                        self.bell.hush();
                        last_moment = Some(Instant::now() + GRACE);
                    }
                    BELL => self.take_orders(),
                    number if number & OTHERS != 0 => {
                        self.downloads.get(&(number & !OTHERS)).inspect(|download| download.turn_away());
                    }
                    number => self.hear(number),
                }
            }
            self.wake();
        }
        let left: Vec<u64> = self.downloads.keys().copied().collect();
        left.into_iter().for_each(|number| self.close(number, FileResult::Aborted));
        Ok(())
    }

    fn patience(&self, last_moment: Option<Instant>) -> EpollTimeout {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        let Some(next) = [alarm, last_moment].into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        // A millisecond too late is better than one too early, which would be a turn for nothing.
        let millis = next.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
    }

    fn take_orders(&mut self) {
        self.bell.hush();
        while let Ok(order) = self.orders.try_recv() {
            self.take(order);
        }
    }

    fn take(&mut self, order: Order) {
        let of_same = |download: &Download| download.peer() == order.peer && download.file() == order.request.file;
        let same = self.downloads.iter().find(|(_, download)| of_same(download)).map(|(number, _)| *number);
        match same {
            Some(number) if self.downloads.get(&number).is_some_and(Download::is_forsaken) => {
                self.close(number, FileResult::Aborted);
            }
            // A client that has heard nothing yet asks again from the same port. The download that runs sends again by
            // itself, and a second one would confuse the client.
            Some(_) => return self.done((order.peer, order.request.file)),
            None => {}
        }
        let key = (order.peer, order.request.file.clone());
        let began = Download::begin(order, &self.desk, &mut self.tray).and_then(|download| self.keep(download));
        if let Err(error) = began {
            self.desk.drop_request(&error);
            self.done(key);
        }
    }

    fn keep(&mut self, download: Download) -> io::Result<()> {
        self.last += 1;
        // As long as there is something to read it is told again, so that no call is spent on finding nothing.
        self.epoll.add(&download, EpollEvent::new(EpollFlags::EPOLLIN, self.last))?;
        self.epoll.add(download.others(), EpollEvent::new(EpollFlags::EPOLLIN, self.last | OTHERS))?;
        self.alarms.push(Reverse((download.alarm, self.last)));
        self.downloads.insert(self.last, download);
        Ok(())
    }

    fn hear(&mut self, number: u64) {
        let Some(download) = self.downloads.get_mut(&number) else {
            return;
        };
        if let Err(error) = download.hear(&mut self.tray) {
            warn!(peer = %download.peer(), file = download.file(), %error, "boot file cannot be sent");
            self.close(number, FileResult::Aborted);
        } else if let Some(end) = download.end() {
            self.close(number, result(end));
        } else if download.deadline() < download.alarm {
            // After long pauses an ACK has made them short again.
            download.alarm = download.deadline();
            self.alarms.push(Reverse((download.alarm, number)));
        }
    }

    /// Each packet moves the deadline of its download, and only an alarm that has gone off asks where it is now.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, number))) = self.alarms.peek() {
            if at > now {
                break;
            }
            self.alarms.pop();
            let Some(download) = self.downloads.get_mut(&number).filter(|download| download.alarm == at) else {
                continue;
            };
            download.wake(now, &mut self.tray);
            if let Some(end) = download.end() {
                self.close(number, result(end));
            } else {
                download.alarm = download.deadline();
                self.alarms.push(Reverse((download.alarm, number)));
            }
        }
    }

    /// Notes how it went; the socket is closed, which takes it out of the wait.
    fn close(&mut self, number: u64, result: FileResult) {
        let Some(download) = self.downloads.remove(&number) else {
            return;
        };
        let (peer, file, bytes) = (download.peer(), download.file(), download.bytes());
        match result {
            FileResult::Aborted => warn!(%peer, file, bytes, "boot file was cut off"),
            _ => debug!(%peer, file, bytes, result = result.as_str(), "boot file"),
        }
        self.desk.note(peer, file, bytes, result);
        self.done((peer, file.to_owned()));
    }

    fn done(&self, key: Key) {
        // Nobody counts any more when the server has been halted.
        let _ = self.ended.send(key);
    }
}

const fn result(end: End) -> FileResult {
    match end {
        End::Sent => FileResult::Sent,
        End::Probed => FileResult::Probed,
        End::Aborted => FileResult::Aborted,
    }
}

/// The bell's number; downloads have greater ones.
const BELL: u64 = 0;
/// Beside a download's number: somebody else has sent to its port.
const OTHERS: u64 = 1 << 63;
/// Heard of in one call.
const EVENTS: usize = 256;
const GRACE: Duration = Duration::from_secs(3);
