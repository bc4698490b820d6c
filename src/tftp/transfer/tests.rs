//! A download between the machine and a model of the bootloader's client, in virtual time, over a bad network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use crate::tftp::burst::Burst;
use crate::tftp::packet::{self, Packet, Request};
use crate::tftp::transfer::{End, Transfer};

/// The machine, and its packets as they are read from the bytes that it writes.
struct Server {
    transfer: Transfer,
    burst: Burst,
}

impl Server {
    fn begin(request: &Request, file: Bytes, max_block: usize, now: Instant) -> (Self, Vec<Packet>) {
        let transfer = Transfer::begin(request, file, max_block, now);
        let mut server = Self { transfer, burst: Burst::default() };
        server.transfer.first(&mut server.burst);
        let first = server.packets();
        (server, first)
    }

    fn packets(&self) -> Vec<Packet> {
        self.burst.packets().map(|packet| Packet::parse(packet).unwrap()).collect()
    }

    fn handle(&mut self, packet: &Packet, now: Instant) -> Vec<Packet> {
        self.transfer.handle(packet, now, &mut self.burst);
        self.packets()
    }

    fn ack(&mut self, block: u16, now: Instant) -> Vec<u16> {
        blocks(&self.handle(&Packet::Ack { block }, now))
    }

    fn handle_timeout(&mut self, now: Instant) -> Vec<Packet> {
        self.transfer.handle_timeout(now, &mut self.burst);
        self.packets()
    }

    fn deadline(&self) -> Instant {
        self.transfer.deadline()
    }

    fn end(&self) -> Option<End> {
        self.transfer.end()
    }

    fn bytes(&self) -> u64 {
        self.transfer.bytes()
    }
}

/// The numbers of DATA packets.
fn blocks(packets: &[Packet]) -> Vec<u16> {
    let number = |packet: &Packet| match packet {
        Packet::Data { block, .. } => *block,
        other => panic!("{other:?}"),
    };
    packets.iter().map(number).collect()
}

/// The client of a bootloader: it asks again every two seconds until it is answered, acknowledges what comes in order,
/// and acknowledges a duplicate again.
struct Client {
    block_size: usize,
    window: u64,
    has: Vec<u8>,
    blocks: u64,
    in_window: u64,
    agreed: Option<Vec<(String, String)>>,
    done: bool,
}

impl Client {
    fn new(request: &Request) -> Self {
        let window = request.option("windowsize").map_or(1, |asked| asked.parse().unwrap());
        Self { block_size: 512, window, has: Vec::new(), blocks: 0, in_window: 0, agreed: None, done: false }
    }

    fn handle(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::Oack { options } => {
                if let Some(agreed) = packet::option(&options, "blksize") {
                    self.block_size = agreed.parse().unwrap();
                }
                self.agreed = Some(options);
                Some(Packet::Ack { block: 0 })
            }
            Packet::Data { block, data } => {
                if u64::from(block) != (self.blocks + 1) & 0xffff {
                    // Out of order: what we have, once a window.
                    self.in_window = 0;
                    return Some(Packet::Ack { block: low(self.blocks) });
                }
                self.blocks += 1;
                self.in_window += 1;
                self.done = data.len() < self.block_size;
                self.has.extend(&data);
                if self.done || self.in_window == self.window {
                    self.in_window = 0;
                    return Some(Packet::Ack { block });
                }
                None
            }
            other => panic!("the server sent {other:?}"),
        }
    }
}

/// Server, client and the network between them: each packet is lost, doubled or late as `fates` says, then none is.
struct Pair {
    start: Instant,
    now: Duration,
    server: Server,
    client: Client,
    flight: BTreeMap<(Duration, u32), (bool, Packet)>,
    fates: Vec<u8>,
    sent: u32,
    /// When each packet of the server was sent last.
    data_sent: Vec<(Duration, Packet)>,
}

impl Pair {
    fn begin(request: &Request, file: &Bytes, fates: Vec<u8>) -> Self {
        let start = Instant::now();
        let (server, first) = Server::begin(request, file.clone(), 1468, start);
        let mut pair = Self {
            start,
            now: Duration::ZERO,
            server,
            client: Client::new(request),
            flight: BTreeMap::new(),
            fates,
            sent: 0,
            data_sent: Vec::new(),
        };
        pair.launch(true, first);
        pair
    }

    fn launch(&mut self, to_client: bool, packets: impl IntoIterator<Item = Packet>) {
        for packet in packets {
            if to_client {
                self.data_sent.push((self.now, packet.clone()));
            }
            let delays: &[u64] = match self.fates.pop().unwrap_or(0) {
                0 => &[1],
                1 => &[],
                2 => &[1, 3],
                _ => &[40],
            };
            for delay in delays {
                self.sent += 1;
                let arrival = self.now + Duration::from_millis(*delay);
                self.flight.insert((arrival, self.sent), (to_client, packet.clone()));
            }
        }
    }

    fn run(&mut self) -> End {
        for _ in 0..1_000_000 {
            if let Some(end) = self.server.end() {
                return end;
            }
            let deadline = self.server.deadline() - self.start;
            match self.flight.first_key_value() {
                Some((&(arrival, _), _)) if arrival <= deadline => {
                    let ((arrival, _), (to_client, packet)) = self.flight.pop_first().unwrap();
                    self.now = arrival;
                    if to_client {
                        let reply = self.client.handle(packet);
                        self.launch(false, reply);
                    } else {
                        let next = self.server.handle(&packet, self.start + self.now);
                        self.launch(true, next);
                    }
                }
                _ => {
                    self.now = deadline;
                    let again = self.server.handle_timeout(self.start + self.now);
                    self.launch(true, again);
                }
            }
        }
        panic!("the download does not end");
    }
}

fn request(options: &[(&str, &str)]) -> Request {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { file: "kernel8.img".to_owned(), mode: "octet".to_owned(), options }
}

fn file(size: usize) -> Bytes {
    (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn low(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap()
}

fn begin(options: &[(&str, &str)], size: usize) -> (Server, Vec<Packet>, Instant) {
    let now = Instant::now();
    let (transfer, first) = Server::begin(&request(options), file(size), 1468, now);
    (transfer, first, now)
}

fn oack(options: &[(&str, &str)], size: usize) -> Vec<(String, String)> {
    match begin(options, size).1.as_slice() {
        [Packet::Oack { options }] => options.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_oack_holds_what_was_asked_and_nothing_more() {
    let golden =
        Packet::parse(&crate::tftp::tests::bytes(include_str!("../../../tests/vectors/tftp/oack.hex"))).unwrap();
    assert_eq!(begin(&[("tsize", "0"), ("blksize", "1468")], 1234).1, [golden]);
    assert_eq!(oack(&[("tsize", "0")], 7), [("tsize".to_owned(), "7".to_owned())]);
    assert_eq!(oack(&[("blksize", "9000"), ("blksize", "512")], 7), [("blksize".to_owned(), "1468".to_owned())]);
    let odd = [("blksize", "7"), ("timeout", "0"), ("windowsize", "0"), ("rollover", "0"), ("tsize", "0")];
    assert_eq!(oack(&odd, 7), [("tsize".to_owned(), "7".to_owned())]);
}

/// What is agreed to, in the order of the request.
fn agreed(options: &[(&str, &str)], max_block: usize) -> Vec<String> {
    let (_, first) = Server::begin(&request(options), file(7), max_block, Instant::now());
    match first.as_slice() {
        [Packet::Oack { options }] => options.iter().map(|(_, value)| value.clone()).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_is_agreed_to_as_asked_is_said_as_it_was_asked() {
    for value in ["1468", "01468", "8"] {
        assert_eq!(agreed(&[("blksize", value)], 1468), [value]);
    }
    assert_eq!(agreed(&[("timeout", "005"), ("windowsize", "04"), ("tsize", "7")], 1468), ["005", "04", "7"]);
    assert_eq!(agreed(&[("blksize", "01469"), ("windowsize", "0064"), ("tsize", "007")], 1468), ["1468", "32", "007"]);
    for value in ["+1468", "-1", " 1468", "1468 ", "0x5bc", "", "99999999999999999999999"] {
        assert!(agreed(&[("blksize", value), ("windowsize", value), ("timeout", value)], 1468).is_empty(), "{value:?}");
    }
}

#[test]
fn what_we_do_not_know_is_not_agreed_to() {
    let unknown = [("utimeout", "500000"), ("rollover", "0"), ("multicast", ""), ("srr", "1")];
    assert!(agreed(&unknown, 1468).is_empty());
    assert!(agreed(&[("timeout", "11"), ("blksize", "65465"), ("windowsize", "65536")], 1468).is_empty());
}

#[test]
fn what_real_clients_ask_for_is_agreed_to() {
    for (asked, answer) in [
        // Pi 4 and 5; iPXE; U-Boot; EDK2, first and second request; curl; atftp
        (&[("tsize", "0"), ("blksize", "1468")][..], &["7", "1468"][..]),
        (&[("blksize", "1432"), ("tsize", "0")], &["1432", "7"]),
        (&[("timeout", "5"), ("blksize", "1468")], &["5", "1468"]),
        (&[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")], &["7", "1468", "4"]),
        (&[("blksize", "1468"), ("windowsize", "4")], &["1468", "4"]),
        (&[("tsize", "0"), ("blksize", "512"), ("timeout", "6")], &["7", "512", "6"]),
        (&[("blksize", "1468"), ("windowsize", "8")], &["1468", "8"]),
    ] {
        assert_eq!(agreed(asked, 1468), answer, "{asked:?}");
    }
}

#[test]
fn a_packet_is_never_larger_than_the_interface_takes() {
    for (max_block, size) in [(1468, "1468"), (544, "544"), (268, "268"), (36, "36"), (0, "8")] {
        assert_eq!(agreed(&[("blksize", "65464")], max_block), [size]);
    }
    // Who does not ask gets the 512 that the protocol has.
    let (_, first) = Server::begin(&request(&[]), file(600), 268, Instant::now());
    assert_eq!(first, [Packet::Data { block: 1, data: file(512) }]);
}

#[test]
fn a_window_fits_in_what_the_kernel_cuts() {
    for (block, window) in [("512", "32"), ("1468", "32"), ("8968", "7"), ("65464", "1")] {
        assert_eq!(agreed(&[("windowsize", "32"), ("blksize", block)], 65_464), [window, block]);
    }
}

#[test]
fn without_options_the_first_packet_is_data() {
    let (_, first, _) = begin(&[], 600);
    assert_eq!(first, [Packet::Data { block: 1, data: file(600).slice(..512) }]);
    let (_, first, _) = begin(&[("blksize", "none")], 0);
    assert_eq!(first, [Packet::Data { block: 1, data: Bytes::new() }]);
}

#[test]
fn a_duplicate_ack_is_never_answered() {
    let (mut transfer, _, now) = begin(&[], 5000);
    assert_eq!(transfer.handle(&Packet::Ack { block: 1 }, now).len(), 1);
    for block in [1, 0, 3, 65535] {
        assert_eq!(transfer.handle(&Packet::Ack { block }, now), []);
    }
    assert_eq!(transfer.handle(&Packet::Ack { block: 2 }, now).len(), 1);
}

#[test]
fn a_second_ack_of_the_oack_is_never_answered() {
    let (mut transfer, _, now) = begin(&[("tsize", "0")], 5000);
    assert_eq!(transfer.handle(&Packet::Ack { block: 1 }, now), []);
    assert_eq!(transfer.handle(&Packet::Ack { block: 0 }, now).len(), 1);
    assert_eq!(transfer.handle(&Packet::Ack { block: 0 }, now), []);
}

/// After its first window of four blocks; the file has a hundred.
fn four_at_a_time() -> (Server, Instant) {
    let (mut transfer, _, now) = begin(&[("blksize", "1468"), ("windowsize", "4")], 1468 * 99);
    assert_eq!(transfer.ack(0, now), [1, 2, 3, 4]);
    (transfer, now)
}

#[test]
fn an_ack_within_the_window_moves_the_window() {
    let (mut transfer, now) = four_at_a_time();
    assert_eq!(transfer.ack(2, now), [3, 4, 5, 6]);
    assert_eq!(transfer.ack(6, now), [7, 8, 9, 10]);
    for old in [2, 5, 65_535, 11] {
        assert!(transfer.ack(old, now).is_empty());
    }
    assert_eq!(transfer.ack(10, now), [11, 12, 13, 14]);
}

#[test]
fn a_window_whose_first_block_was_lost_is_sent_again_once() {
    let (mut transfer, now) = four_at_a_time();
    assert_eq!(transfer.ack(0, now), [1, 2, 3, 4]);
    assert!(transfer.ack(0, now).is_empty());
    assert_eq!(transfer.ack(4, now), [5, 6, 7, 8]);
    // Blocks 1 to 4 went out twice, so this may be their echo.
    assert!(transfer.ack(4, now).is_empty());
    assert_eq!(transfer.ack(8, now), [9, 10, 11, 12]);
    assert_eq!(transfer.ack(8, now), [9, 10, 11, 12]);
    assert!(transfer.ack(8, now).is_empty());
    // The timer is there for the rest.
    assert_eq!(blocks(&transfer.handle_timeout(now + Duration::from_secs(1))), [9, 10, 11, 12]);
}

#[test]
fn a_client_that_acknowledges_each_packet_behind_a_gap_is_answered_once() {
    let (mut transfer, now) = four_at_a_time();
    // Block 2 was lost; 3 and 4 make it say so twice.
    assert_eq!(transfer.ack(1, now), [2, 3, 4, 5]);
    assert!(transfer.ack(1, now).is_empty());
    assert_eq!(transfer.ack(5, now), [6, 7, 8, 9]);
}

#[test]
fn an_oack_sent_again_does_not_double_the_first_window() {
    let (mut transfer, first, now) = begin(&[("blksize", "1468"), ("windowsize", "4")], 20_000);
    let later = now + Duration::from_secs(1);
    assert_eq!(transfer.handle_timeout(later), first);
    assert_eq!(transfer.ack(0, later), [1, 2, 3, 4]);
    assert!(transfer.ack(0, later).is_empty());
}

#[test]
fn an_ack_that_comes_twice_does_not_double_the_rest_of_the_file() {
    // The client acknowledges each duplicate, so answering each would never end.
    for windows in [&[("blksize", "8"), ("windowsize", "4")][..], &[("blksize", "8")]] {
        let mut fates = vec![0; 100];
        fates[80] = 2;
        let mut pair = Pair::begin(&request(windows), &file(8 * 400), fates);
        assert_eq!(pair.run(), End::Sent);
        assert_eq!(pair.client.has, file(8 * 400));
        assert!(pair.data_sent.len() <= 1 + 401 + 4, "{}", pair.data_sent.len());
    }
}

#[test]
fn a_block_lost_within_a_window_costs_no_second() {
    // After the OACK, its ACK and whole windows of four with theirs.
    for lost in 2..12 {
        let mut fates = vec![0; 13];
        fates[12 - lost] = 1;
        let options = [("blksize", "1468"), ("windowsize", "4")];
        let mut pair = Pair::begin(&request(&options), &file(1468 * 40), fates);
        assert_eq!(pair.run(), End::Sent);
        assert_eq!(pair.client.has, file(1468 * 40));
        // Only a window's last block, and an ACK, is missed by nobody but the clock.
        let unnoticed = [5, 6, 10, 11].contains(&lost);
        assert_eq!(pair.now >= Duration::from_secs(1), unnoticed, "{lost}: {:?}", pair.now);
    }
}

#[test]
fn edk2_asks_for_the_size_and_then_reads_by_windows_of_four() {
    let both = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    let (mut probe, first, now) = begin(&both, 100_000);
    assert!(matches!(first.as_slice(), [Packet::Oack { .. }]));
    let bye = include_str!("../../../tests/vectors/tftp/edk2-user-aborted.hex");
    assert_eq!(probe.handle(&Packet::parse(&crate::tftp::tests::bytes(bye)).unwrap(), now), []);
    assert_eq!((probe.end(), probe.bytes()), (Some(End::Probed), 0));

    let mut pair = Pair::begin(&request(&both[1..]), &file(100_000), vec![]);
    assert_eq!(pair.run(), End::Sent);
    assert_eq!(pair.client.has, file(100_000));
    assert_eq!(pair.data_sent.len(), 1 + 100_000 / 1468 + 1);
}

#[test]
fn a_client_that_was_restarted_has_begun_and_fallen_silent() {
    let second = Duration::from_secs(1);
    for (options, acks) in [(&[("tsize", "0")][..], 0..=0), (&[], 1..=1)] {
        let (mut transfer, _, now) = begin(options, 5000);
        transfer.handle_timeout(now + second);
        // It has heard nothing yet: it is the same request sent again.
        assert!(!transfer.transfer.is_forsaken());
        acks.for_each(|block| drop(transfer.ack(block, now + second)));
        assert!(!transfer.transfer.is_forsaken());
        transfer.handle_timeout(now + 2 * second);
        assert!(transfer.transfer.is_forsaken());
    }
}

#[test]
fn the_interval_that_was_asked_for_is_kept() {
    let (mut transfer, first, now) = begin(&[("timeout", "3")], 5000);
    assert_eq!(transfer.handle_timeout(now + Duration::from_millis(2999)), []);
    assert_eq!(transfer.handle_timeout(now + Duration::from_secs(3)), first);
}

#[test]
fn what_is_no_business_of_a_download_changes_nothing() {
    let (mut transfer, _, now) = begin(&[], 5000);
    let deadline = transfer.deadline();
    let other = request(&[]);
    for packet in [
        Packet::Rrq(other.clone()),
        Packet::Wrq(other),
        Packet::Data { block: 1, data: Bytes::new() },
        Packet::Oack { options: Vec::new() },
    ] {
        assert_eq!(transfer.handle(&packet, now + Duration::from_millis(500)), []);
    }
    assert_eq!((transfer.deadline(), transfer.end()), (deadline, None));
}

#[test]
fn nothing_is_sent_again_within_a_second() {
    let (mut transfer, first, now) = begin(&[], 5000);
    assert_eq!(transfer.handle_timeout(now + Duration::from_millis(999)), []);
    assert_eq!(transfer.handle_timeout(now + Duration::from_secs(1)), first);
    assert_eq!(transfer.deadline(), now + Duration::from_secs(3));
}

#[test]
fn a_client_that_vanishes_is_given_up_after_31_seconds() {
    let (mut transfer, _, now) = begin(&[], 5000);
    while transfer.end().is_none() {
        transfer.handle_timeout(transfer.deadline());
    }
    assert_eq!((transfer.end(), transfer.deadline()), (Some(End::Aborted), now + Duration::from_secs(31)));
}

#[test]
fn a_missing_last_ack_is_no_failure() {
    let (mut transfer, _, _) = begin(&[], 100);
    while transfer.end().is_none() {
        transfer.handle_timeout(transfer.deadline());
    }
    assert_eq!(transfer.end(), Some(End::Sent));
}

#[test]
fn hanging_up_early_is_a_probe_and_later_an_abort() {
    let bye = Packet::error(0, "Early terminate");
    for (acks, end) in [(0..0, End::Probed), (0..1, End::Probed), (0..2, End::Aborted)] {
        let (mut transfer, _, now) = begin(&[("tsize", "0")], 5000);
        for block in acks {
            transfer.handle(&Packet::Ack { block }, now);
        }
        assert_eq!(transfer.handle(&bye, now), []);
        assert_eq!(transfer.end(), Some(end));
    }
}

#[test]
fn the_block_counter_rolls_over_to_zero() {
    let size = 8 * 70_000 + 3;
    let mut pair = Pair::begin(&request(&[("blksize", "8")]), &file(size), vec![]);
    assert_eq!(pair.run(), End::Sent);
    assert_eq!(pair.client.has, file(size));
    assert_eq!(pair.server.bytes(), u64::try_from(size).unwrap());
    let after = pair.data_sent.iter().skip_while(|(_, packet)| !is_block(packet, 65_535)).nth(1);
    assert!(after.is_some_and(|(_, packet)| is_block(packet, 0)));
}

fn is_block(packet: &Packet, number: u16) -> bool {
    matches!(packet, Packet::Data { block, .. } if *block == number)
}

#[test]
fn the_block_counter_rolls_over_within_a_window() {
    let size = 8 * 66_000 + 3;
    for window in ["7", "16"] {
        // Somewhere around the end of the counter, everything that can happen does.
        let mut fates = vec![0; 65_530 + 65_530 / if window == "7" { 7 } else { 16 }];
        fates.splice(0..0, [3, 0, 1, 0, 0, 2, 0, 1, 3, 2, 0, 0]);
        let mut pair = Pair::begin(&request(&[("blksize", "8"), ("windowsize", window)]), &file(size), fates);
        assert_eq!(pair.run(), End::Sent);
        assert_eq!(pair.client.has, file(size));
    }
}

#[test]
fn a_file_that_fills_its_last_block_ends_with_an_empty_one() {
    let mut pair = Pair::begin(&request(&[("tsize", "0"), ("blksize", "1468")]), &file(2 * 1468), vec![]);
    assert_eq!(pair.run(), End::Sent);
    assert_eq!(pair.data_sent.last().unwrap().1, Packet::Data { block: 3, data: Bytes::new() });
    assert!(pair.client.done);
}

proptest! {
    /// The one that hangs on a second OACK and on a block that comes twice: as long as nothing is lost it gets neither,
    /// though the network doubles and delays what it says.
    #[test]
    fn a_bootloader_is_sent_nothing_twice(
        size in 0usize..40_000, fates in proptest::collection::vec(prop_oneof![Just(0u8), Just(2), Just(3)], 0..60),
    ) {
        let request = request(&[("tsize", "0"), ("blksize", "1468")]);
        let mut pair = Pair::begin(&request, &file(size), fates);
        prop_assert_eq!(pair.run(), End::Sent);
        prop_assert_eq!(&pair.client.has[..], &file(size)[..]);
        prop_assert_eq!(pair.data_sent.len(), 1 + size / 1468 + 1);
    }

    #[test]
    fn a_file_arrives_whole_over_a_network_that_loses_doubles_and_delays(
        size in 0usize..12_000, window in 1u8..17, options in 0usize..4, mut fates in proptest::collection::vec(0u8..4, 0..40),
    ) {
        // The machine gives up after five losses in a row, and a loss can be on either way.
        let mut losses = 0;
        fates.iter_mut().for_each(|fate| {
            losses += u8::from(*fate == 1);
            if losses > 4 && *fate == 1 { *fate = 0 }
        });
        let window = window.to_string();
        let all = [("tsize", "0"), ("blksize", "1468"), ("windowsize", window.as_str())];
        let request = request(&all[..options]);
        let mut pair = Pair::begin(&request, &file(size), fates);
        prop_assert_eq!(pair.run(), End::Sent);
        prop_assert!(pair.client.done);
        prop_assert_eq!(&pair.client.has[..], &file(size)[..]);
        if options < 3 {
            for (index, (at, packet)) in pair.data_sent.iter().enumerate() {
                let before = pair.data_sent[..index].iter().rev().find(|(_, other)| other == packet);
                let long_enough = before.is_none_or(|(earlier, _)| *at >= *earlier + Duration::from_secs(1));
                prop_assert!(long_enough, "sent again too early: {:?}", packet);
            }
        }
    }

    #[test]
    fn any_packets_at_any_time_leave_the_machine_sane(
        size in 0usize..3000, events in proptest::collection::vec((any::<u8>(), any::<u16>(), 0u64..3000), 0..60),
    ) {
        let (mut transfer, _, mut now) = begin(&[("tsize", "0"), ("windowsize", "3")], size);
        for (kind, number, millis) in events {
            now += Duration::from_millis(millis);
            let sent = match kind % 4 {
                0 => transfer.handle(&Packet::Ack { block: number }, now),
                1 => transfer.handle(&Packet::Ack { block: number % 8 }, now),
                2 => transfer.handle(&Packet::Data { block: number, data: Bytes::new() }, now),
                _ => transfer.handle_timeout(now),
            };
            prop_assert!(sent.len() <= 3);
            prop_assert!(transfer.bytes() <= u64::try_from(size).unwrap());
        }
    }
}
