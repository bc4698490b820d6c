//! The relay against a fake broker in memory that can cut, refuse, and forget.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::bus::transport::Terms;
use crate::core::time::Timestamp;

/// What the fake broker does with an event.
#[derive(Clone, Copy, Debug)]
enum Act {
    Take,
    /// Never answers.
    Hold,
    /// Is gone; what came after is gone too.
    Cut,
    Refuse,
    Unfit,
}

/// Acts by rule: (connection, sequence) -> act; connections count from 1.
struct Fake<F> {
    rule: F,
    window: usize,
    connections: u32,
    down_until: u32,
    /// What the broker has seen, in order.
    seen: mpsc::UnboundedSender<u64>,
    answers: VecDeque<(u64, Act)>,
    most_on_the_way: watch::Sender<usize>,
}

impl<F: FnMut(u32, u64) -> Act + Send> Transport for Fake<F> {
    async fn connect(&mut self) -> Result<Terms, Lost> {
        self.connections += 1;
        if self.connections <= self.down_until {
            return Err(Lost("nobody listens".to_owned()));
        }
        Ok(Terms { window: self.window })
    }

    async fn publish(&mut self, event: &Recorded) -> Result<(), Lost> {
        let act = (self.rule)(self.connections, event.seq);
        if !self.answers.iter().any(|(_, act)| matches!(act, Act::Cut)) {
            self.seen.send(event.seq).unwrap();
        }
        self.answers.push_back((event.seq, act));
        self.most_on_the_way.send_modify(|most| *most = (*most).max(self.answers.len()));
        Ok(())
    }

    async fn verdict(&mut self) -> Result<Verdict, Lost> {
        let Some(&(seq, act)) = self.answers.front() else {
            return std::future::pending().await;
        };
        let fate = match act {
            Act::Take => Fate::Taken,
            Act::Refuse => Fate::Refused("NotAuthorized".to_owned()),
            Act::Unfit => Fate::Unfit("too large".to_owned()),
            Act::Cut => return Err(Lost("cut".to_owned())),
            Act::Hold => return std::future::pending().await,
        };
        self.answers.pop_front();
        Ok(Verdict { seq, fate })
    }

    async fn close(&mut self) {
        self.answers.clear();
    }
}

fn event(seq: u64, size: usize) -> Recorded {
    Recorded {
        seq,
        id: Uuid::from_u128(u128::from(seq)),
        name: "device.failed".to_owned(),
        kind: "device".to_owned(),
        subject: format!("dca63200000{}", seq % 3),
        occurred: Timestamp::from_millis(0),
        body: Bytes::from(vec![b'x'; size]),
    }
}

/// A journal of `count` events of which some have an unusual size.
fn journal(count: u64, sizes: BTreeMap<u64, usize>) -> Journal {
    Journal {
        follow: Box::new(move |after| {
            let events: Vec<Recorded> =
                (after + 1..=count).map(|seq| event(seq, sizes.get(&seq).copied().unwrap_or(100))).collect();
            let batches: Vec<_> = events.chunks(7).map(|batch| Ok(batch.to_vec())).collect();
            stream::iter(batches).chain(stream::pending()).boxed()
        }),
        newest: Box::new(move || count),
        select: Box::new(move |after, replay| {
            let from = after.max(replay.from - 1) + 1;
            async move { Ok((from..=replay.to).take(PAGE as usize).map(|seq| event(seq, 100)).collect()) }.boxed()
        }),
        tell: Box::new(|_| async { Ok(()) }.boxed()),
    }
}

/// What came of it.
struct Story {
    seen: Vec<u64>,
    /// What had to be written down before the line went on.
    written: Vec<Observation>,
    alarms: Vec<Observation>,
    most_on_the_way: usize,
    took: Duration,
}

impl Story {
    /// No new event may come after a later one.
    fn assert_order(&self, count: u64) {
        let mut newest = 0;
        for &seq in &self.seen {
            assert!(seq <= newest + 1, "{seq} came before {}: {:?}", newest + 1, self.seen);
            newest = newest.max(seq);
        }
        assert_eq!(newest, count);
    }

    fn raised(&self) -> Vec<&str> {
        self.alarms
            .iter()
            .map(|alarm| match alarm {
                Observation::AlarmRaised { code, .. } | Observation::AlarmCleared { code } => code.as_str(),
                other => panic!("not an alarm: {other:?}"),
            })
            .collect()
    }
}

fn relay<T: Transport>(
    journal: Journal,
    transport: T,
    position: watch::Sender<u64>,
    alarms: mpsc::Sender<Observation>,
    replays: watch::Receiver<Arc<Vec<Job>>>,
) -> Relay<T> {
    Relay {
        sink: "fake",
        journal,
        transport,
        position,
        state: watch::Sender::new(State::default()),
        alarms,
        replays,
        catch_up: CatchUp::new(None),
        standing: Standing::Welcome,
    }
}

/// Runs a relay until everything is delivered.
async fn tell(mut journal: Journal, window: usize, down_until: u32, rule: impl FnMut(u32, u64) -> Act + Send) -> Story {
    let start = Instant::now();
    let (write, mut written_by) = mpsc::unbounded_channel();
    journal.tell = Box::new(move |observation| {
        write.send(observation).unwrap();
        async { Ok(()) }.boxed()
    });
    let count = (journal.newest)();
    let (seen, mut seen_by) = mpsc::unbounded_channel();
    let (alarms, mut alarms_by) = mpsc::channel(64);
    let (position, mut reached) = watch::channel(0);
    let most_on_the_way = watch::Sender::new(0);
    let most = most_on_the_way.subscribe();
    let transport = Fake { rule, window, connections: 0, down_until, seen, answers: VecDeque::new(), most_on_the_way };
    let (_replays, replays) = watch::channel(Arc::default());
    let relay = relay(journal, transport, position, alarms, replays);
    let stop = CancellationToken::new();
    tokio::join!(relay.run(stop.clone()), async {
        reached.wait_for(|position| *position == count).await.unwrap();
        stop.cancel();
    });
    let mut story = Story {
        seen: Vec::new(),
        written: Vec::new(),
        alarms: Vec::new(),
        most_on_the_way: *most.borrow(),
        took: start.elapsed(),
    };
    while let Ok(written) = written_by.try_recv() {
        story.written.push(written);
    }
    while let Ok(seq) = seen_by.try_recv() {
        story.seen.push(seq);
    }
    while let Ok(alarm) = alarms_by.try_recv() {
        story.alarms.push(alarm);
    }
    story
}

#[tokio::test(start_paused = true)]
async fn every_event_goes_out_once_and_in_order_when_nothing_goes_wrong() {
    let story = tell(journal(100, BTreeMap::new()), 16, 0, |_, _| Act::Take).await;
    assert_eq!(story.seen, (1..=100).collect::<Vec<_>>());
    assert!(story.most_on_the_way <= 16);
    assert!(story.alarms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_allows_one_at_a_time_gets_one_at_a_time() {
    let story = tell(journal(20, BTreeMap::new()), 1, 0, |_, _| Act::Take).await;
    assert_eq!(story.most_on_the_way, 1);
    story.assert_order(20);
}

#[tokio::test(start_paused = true)]
async fn after_each_cut_the_line_goes_on_behind_the_last_acknowledgement() {
    // Every connection takes ten events and is then cut in the middle of a window.
    let mut taken = (0, 0);
    let story = tell(journal(100, BTreeMap::new()), 16, 0, move |connection, _| {
        if taken.0 != connection {
            taken = (connection, 0);
        }
        taken.1 += 1;
        if taken.1 <= 10 { Act::Take } else { Act::Cut }
    })
    .await;
    story.assert_order(100);
    assert!(story.seen.len() > 100, "what was on the way is sent again");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_asked_again_ever_more_slowly() {
    let story = tell(journal(3, BTreeMap::new()), 16, 12, |_, _| Act::Take).await;
    assert_eq!(story.seen, [1, 2, 3]);
    assert!(story.took > Duration::from_secs(60) && story.took < Duration::from_secs(145), "{:?}", story.took);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_acknowledges_is_left_after_half_a_minute() {
    let story =
        tell(
            journal(5, BTreeMap::new()),
            16,
            0,
            |connection, seq| {
                if connection == 1 && seq == 3 { Act::Hold } else { Act::Take }
            },
        )
        .await;
    assert_eq!(story.seen, [1, 2, 3, 4, 5, 3, 4, 5]);
    assert!(story.took >= PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_sent_is_left_out_with_a_word_and_holds_up_nobody() {
    let sizes = BTreeMap::from([(4, MAX_EVENT + 1), (5, MAX_EVENT)]);
    let story = tell(journal(9, sizes), 4, 0, |_, seq| if seq == 7 { Act::Unfit } else { Act::Take }).await;
    assert_eq!(story.seen, [1, 2, 3, 5, 6, 7, 8, 9]);
    let dead: Vec<u64> = story
        .written
        .iter()
        .map(|written| match written {
            Observation::DeadLettered { sink, seq, name, .. } if sink == "fake" && name == "device.failed" => *seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(dead, [4, 7]);
    assert!(story.alarms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_stops_the_line_and_is_raised_once_and_cleared() {
    let story =
        tell(
            journal(8, BTreeMap::new()),
            4,
            0,
            |connection, seq| {
                if connection <= 3 && seq == 5 { Act::Refuse } else { Act::Take }
            },
        )
        .await;
    story.assert_order(8);
    assert_eq!(story.raised(), ["bus.refused.fake", "bus.refused.fake"]);
    assert!(matches!(story.alarms[1], Observation::AlarmCleared { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_station_sends_what_is_left_but_not_for_ever() {
    for (act, expected) in [(Act::Take, 50), (Act::Hold, 0)] {
        let (seen, _seen_by) = mpsc::unbounded_channel();
        let (alarms, _alarms_by) = mpsc::channel(1);
        let (position, reached) = watch::channel(0);
        let transport = Fake {
            rule: move |_, _| act,
            window: 16,
            connections: 0,
            down_until: 0,
            seen,
            answers: VecDeque::new(),
            most_on_the_way: watch::Sender::new(0),
        };
        let journal = journal(50, BTreeMap::new());
        let mut relay = relay(journal, transport, position, alarms, watch::Sender::new(Arc::default()).subscribe());
        let start = Instant::now();
        let stop = CancellationToken::new();
        stop.cancel();
        relay.serve(16, &stop).await;
        assert_eq!(*reached.borrow(), expected, "{act:?}");
        assert!(start.elapsed() <= LAST_CALL);
    }
}

/// A relay with replays, until `until` sequences were seen; the order in which they were.
async fn repeat(replays: Vec<Job>, count: u64, seen_count: usize) -> (Vec<u64>, Vec<Observation>, Duration) {
    let start = Instant::now();
    let (seen, mut seen_by) = mpsc::unbounded_channel();
    let (alarms, _alarms_by) = mpsc::channel(64);
    let (position, _reached) = watch::channel(count);
    let (write, mut written_by) = mpsc::unbounded_channel();
    let (open, replays) = watch::channel(Arc::new(replays));
    let mut journal = journal(count, BTreeMap::new());
    journal.tell = Box::new(move |observation| {
        if let Observation::ReplayEnded { job, .. } = &observation {
            open.send_modify(|jobs| Arc::make_mut(jobs).retain(|open| open.id != *job));
        }
        write.send(observation).unwrap();
        async { Ok(()) }.boxed()
    });
    let transport = Fake {
        rule: |_, _| Act::Take,
        window: 16,
        connections: 0,
        down_until: 0,
        seen,
        answers: VecDeque::new(),
        most_on_the_way: watch::Sender::new(0),
    };
    let stop = CancellationToken::new();
    let relay = relay(journal, transport, position, alarms, replays);
    let mut heard = Vec::new();
    let mut written = Vec::new();
    tokio::join!(relay.run(stop.clone()), async {
        while heard.len() < seen_count {
            heard.push(seen_by.recv().await.unwrap());
        }
        written.push(written_by.recv().await.unwrap());
        stop.cancel();
    });
    (heard, written, start.elapsed())
}

fn replay(id: &str, sink: &str, (from, to): (u64, u64), rate: u32) -> Job {
    serde_json::from_value(serde_json::json!({
        "id": id, "kind": "events.replay", "name": sink, "state": "running", "started_at": "2026-11-24T00:00:00Z",
        "replay": {"sink": sink, "from": from, "to": to, "rate": rate},
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_replay_sends_its_range_again_at_its_rate_and_says_when_it_is_over() {
    let jobs = vec![replay("replay-other", "nats", (1, 9), 1000), replay("replay-mine", "fake", (101, 400), 100)];
    let (heard, written, took) = repeat(jobs, 500, 300).await;
    assert_eq!(heard, (101..=400).collect::<Vec<_>>());
    assert!(took >= Duration::from_millis(2900) && took < Duration::from_secs(4), "{took:?}");
    let [Observation::ReplayEnded { job, sent }] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!((job.as_str(), *sent), ("replay-mine", 300));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_drains_at_its_limit_and_the_last_hundred_at_once() {
    let (seen, mut seen_by) = mpsc::unbounded_channel();
    let (alarms, _alarms_by) = mpsc::channel(64);
    let (position, mut reached) = watch::channel(0);
    let transport = Fake {
        rule: |_, _| Act::Take,
        window: 16,
        connections: 0,
        down_until: 0,
        seen,
        answers: VecDeque::new(),
        most_on_the_way: watch::Sender::new(0),
    };
    let mut relay = relay(
        journal(5100, BTreeMap::new()),
        transport,
        position,
        alarms,
        watch::Sender::new(Arc::default()).subscribe(),
    );
    relay.catch_up = CatchUp::new(Some(200));
    let (start, stop) = (Instant::now(), CancellationToken::new());
    tokio::join!(relay.run(stop.clone()), async {
        reached.wait_for(|position| *position == 5100).await.unwrap();
        stop.cancel();
    });
    let took = start.elapsed();
    assert!((24_000..26_000).contains(&took.as_millis()), "{took:?}");
    let mut newest = 0;
    while let Ok(seq) = seen_by.try_recv() {
        assert_eq!(seq, newest + 1);
        newest = seq;
    }
    assert_eq!(newest, 5100);
}
