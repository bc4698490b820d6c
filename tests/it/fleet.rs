//! A line of simulated devices that boot for real (DHCP, TFTP, HTTP, the served script in a shell), while the agent is
//! killed at random moments and its broker is stopped and started.

use std::process::Child;
use std::sync::mpsc::Receiver;

use serde_json::Value;

use crate::agent::sequence;
use crate::broker::{Mosquitto, Subscriber};
use crate::line::Line;
use crate::net::Net;
use crate::restart::{Dice, check, hear};

const DEVICES: usize = 20;
const KILLS: usize = 5;
const FIRST: &str = "02:00:00:10:00:00";

/// The same devices each time.
fn power(line: &Line) -> (Child, Receiver<String>) {
    line.power(&["--devices", &DEVICES.to_string(), "--first", FIRST])
}

/// Cuts the power of the agent, and of the broker now and then, while the devices boot.
fn disturb(line: &mut Line, broker: &mut Mosquitto, subscriber: &Subscriber, heard: &mut Vec<Value>) {
    let mut dice = Dice::new();
    for round in 0..KILLS {
        hear(subscriber, heard, 1 + dice.throw(25));
        if round % 2 == 0 {
            broker.stop();
        }
        line.kill();
        if round % 2 == 0 {
            broker.resume();
        }
        line.start();
    }
}

#[test]
fn a_fleet_that_boots_through_power_cuts_leaves_a_whole_history() {
    let Some(net) = Net::make() else { return };
    let mut broker = Mosquitto::start_by(net.door());
    let subscriber = broker.subscribe("bootline/v1/st-test/evt/#");
    let files = ["start4.elf", "fixup4.dat", "kernel.img", "scriptexecute.img", "bcm2711-rpi-cm4.dtb"];
    let mut line = Line::new(net, &format!("{{url: 'mqtt://127.0.0.1:{}'}}", broker.port), &files);
    line.start();
    line.project();

    let mut heard = Vec::new();
    let (mut disturbed, _) = power(&line);
    disturb(&mut line, &mut broker, &subscriber, &mut heard);
    // Some of them may have failed: then they say so, and the next power-on mends it.
    disturbed.wait().unwrap();
    let (mut calm, lines) = power(&line);
    let result: Value = serde_json::from_str(&lines.iter().last().unwrap()).unwrap();
    assert!(calm.wait().unwrap().success(), "{result}");

    let journal = line.curl(&[], "/api/v1/events?limit=1000")["events"].as_array().unwrap().clone();
    assert!(journal.len() < 1000, "one page holds it all");
    let newest = sequence(journal.last().unwrap());
    while heard.iter().map(sequence).max() != Some(newest) {
        heard.push(subscriber.next());
    }
    check(&journal, &heard, DEVICES);
    for session in line.curl(&[], "/api/v1/sessions?limit=1000")["sessions"].as_array().unwrap() {
        assert!(!session["outcome"].is_null(), "a session without an outcome: {session}");
    }
}
