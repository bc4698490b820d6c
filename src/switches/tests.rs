//! Against Debian's `snmpd` with the tables of three kinds of switches, and against sockets that answer badly.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use snmp2::v3::{AuthProtocol, Cipher};

use crate::core::device::Mac;
use crate::switches::client::{Access, Client, Login, Value, Why};
use crate::switches::lookup::{describe, find, walked};
use crate::switches::oid::{FDB_PORT, POE_ADMIN, Q_FDB_PORT, of_mac_in, row};
use crate::switches::power::{self, Numbering, Power};

const DEVICE: &str = "e45f01112233";

/// A switch of `tests/vectors/snmp`; gone with the value.
struct Switch {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Switch {
    async fn start(table: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/snmp/agent");
        let mut text = String::new();
        writeln!(text, "agentaddress udp:{address}\nrocommunity public\nrwcommunity private").unwrap();
        writeln!(text, "createUser line SHA-256 \"auth-secret\" AES \"priv-secret\"\nrwuser line priv").unwrap();
        for part in ["1.3.6.1.2.1.17", "1.3.6.1.2.1.2", "1.3.6.1.2.1.31", "1.3.6.1.2.1.105"] {
            writeln!(text, "pass_persist -p 1 .{part} {} {}", agent.display(), table.display()).unwrap();
        }
        std::fs::write(folder.path().join("snmpd.conf"), text).unwrap();
        let child = Command::new("snmpd")
            .args(["-f", "-Lf", "/dev/null", "-C", "-c"])
            .arg(folder.path().join("snmpd.conf"))
            // The tables of this machine are not those of the switch.
            .args(["-I", "-interface,ifTable,ifXTable,at,ip,tcp,udp,etherlike-mib,system_mib,sysORTable"])
            .env("SNMP_PERSISTENT_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("snmpd is installed");
        let switch = Self { child, address, _folder: folder };
        let up = async {
            let mut client = switch.client();
            while client.next(&[1, 3, 6, 1, 2, 1, 17]).await.is_err() {
                client = switch.client();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), up).await.expect("snmpd answers");
        switch
    }

    async fn of(name: &str) -> Self {
        Self::start(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/snmp").join(name)).await
    }

    fn client(&self) -> Client {
        Client::new(access(&self.address, b"public"))
    }
}

fn access(address: &str, community: &[u8]) -> Access {
    Access {
        address: address.to_owned(),
        login: Login::Community(community.to_vec()),
        timeout: Duration::from_millis(800),
        retries: 1,
    }
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

#[tokio::test]
async fn three_layouts_tell_the_port_of_a_device() {
    for (table, ports, number, name, alias) in [
        ("vlans.txt", vec![3], 3, "3", Some("bench 3")),
        ("bridge.txt", vec![5], 5, "Gi1/0/5", None),
        ("sequential.txt", vec![7, 9], 7, "port 7: Gigabit Copper", None),
    ] {
        let switch = Switch::of(table).await;
        let mut client = switch.client();
        let found = find(&mut client, mac(DEVICE)).await.unwrap();
        assert_eq!(found, BTreeSet::from_iter(ports), "{table}");
        let port = describe(&mut client, number).await.unwrap();
        assert_eq!((port.name.as_str(), port.alias.as_deref()), (name, alias), "{table}");
        assert!(find(&mut client, mac("020000000001")).await.unwrap().is_empty(), "{table}: a stranger is nowhere");
        assert!(walked(&mut client).await.unwrap()[&mac(DEVICE)].contains(&number), "{table}");
    }
}

#[tokio::test]
async fn power_is_switched_and_read_back() {
    for (table, number, numbering) in [("vlans.txt", 3, Numbering::Port), ("sequential.txt", 7, Numbering::Interface)] {
        let switch = Switch::of(table).await;
        let port = describe(&mut switch.client(), number).await.unwrap();
        let power = Power { group: 1, numbering };
        let reader = power::switch(&mut switch.client(), power, &port, false).await.unwrap_err();
        assert_eq!(reader.why, Why::Forbidden, "{reader}");
        let mut writer = Client::new(access(&switch.address, b"private"));
        power::switch(&mut writer, power, &port, false).await.unwrap();
        let at = if numbering == Numbering::Port { number } else { port.if_index.unwrap() };
        assert_eq!(writer.get_one(row(POE_ADMIN, [1, at])).await.unwrap(), Value::Number(2));
        power::switch(&mut writer, power, &port, true).await.unwrap();
        assert_eq!(writer.get_one(row(POE_ADMIN, [1, at])).await.unwrap(), Value::Number(1));
    }
}

#[tokio::test]
async fn version_3_signs_and_encrypts() {
    let switch = Switch::of("vlans.txt").await;
    let with = |auth: &[u8], privacy: &[u8]| {
        let login = Login::User {
            name: "line".to_owned(),
            auth: Some((AuthProtocol::Sha256, auth.to_vec())),
            privacy: Some((Cipher::Aes128, privacy.to_vec())),
        };
        Client::new(Access { login, ..access(&switch.address, b"") })
    };
    let mut client = with(b"auth-secret", b"priv-secret");
    assert_eq!(find(&mut client, mac(DEVICE)).await.unwrap(), BTreeSet::from([3]));
    let wrong = find(&mut with(b"wrong-secret", b"priv-secret"), mac(DEVICE)).await.unwrap_err();
    assert_eq!(wrong.why, Why::Login, "{wrong}");
    let wrong = find(&mut with(b"auth-secret", b"wrong-secret"), mac(DEVICE)).await.unwrap_err();
    assert!(matches!(wrong.why, Why::Login | Why::NoAnswer | Why::Malformed(_)), "{wrong}");
    assert!(!format!("{wrong} {:?}", access("x:161", b"hidden")).contains("hidden"), "secrets are not printed");
}

#[tokio::test]
async fn a_wrong_community_is_silence_and_a_closed_port_is_told() {
    let switch = Switch::of("bridge.txt").await;
    let mut client = Client::new(Access { timeout: Duration::from_millis(100), ..access(&switch.address, b"wrong") });
    let fault = find(&mut client, mac(DEVICE)).await.unwrap_err();
    assert_eq!(fault.why, Why::NoAnswer);
    assert!(fault.to_string().contains("does not answer (2 tries)"), "{fault}");
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let fault = find(&mut Client::new(access(&nobody, b"public")), mac(DEVICE)).await.unwrap_err();
    assert!(matches!(fault.why, Why::Unreachable(_) | Why::NoAnswer), "{fault}");
}

/// Stands between the client and the switch: what comes back is what `spoil` makes of it.
fn between(switch: &str, spoil: impl Fn(u32, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> String {
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
    inside.connect(switch).unwrap();
    inside.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    outside.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let address = outside.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_000];
        let mut count = 0;
        while let Ok((length, peer)) = outside.recv_from(&mut buffer) {
            inside.send(&buffer[..length]).unwrap();
            let Ok(length) = inside.recv(&mut buffer) else { continue };
            for packet in spoil(count, buffer[..length].to_vec()) {
                let _ = outside.send_to(&packet, peer);
            }
            count += 1;
        }
    });
    address
}

#[tokio::test]
async fn lost_truncated_and_foreign_answers_cost_a_retry_and_no_more() {
    let switch = Switch::of("vlans.txt").await;
    let lossy = between(&switch.address, |n, packet| if n % 3 == 0 { Vec::new() } else { vec![packet] });
    let mut client =
        Client::new(Access { timeout: Duration::from_millis(200), retries: 2, ..access(&lossy, b"public") });
    assert_eq!(find(&mut client, mac(DEVICE)).await.unwrap(), BTreeSet::from([3]), "every third is lost");

    let cut = between(&switch.address, |_, mut packet| {
        packet.truncate(packet.len() / 2);
        vec![packet]
    });
    let fault = find(&mut Client::new(access(&cut, b"public")), mac(DEVICE)).await.unwrap_err();
    assert!(matches!(fault.why, Why::Malformed(_)), "{fault}");

    // Each answer comes one question late, as from a switch that is asked again too soon.
    let late = std::sync::Mutex::new(None::<Vec<u8>>);
    let behind = between(&switch.address, move |_, packet| late.lock().unwrap().replace(packet).into_iter().collect());
    let mut client = Client::new(Access { timeout: Duration::from_millis(200), ..access(&behind, b"public") });
    let fault = find(&mut client, mac(DEVICE)).await.unwrap_err();
    assert!(matches!(fault.why, Why::Foreign | Why::NoAnswer), "never the row of another question: {fault}");
}

#[tokio::test]
async fn random_answers_are_refused_without_harm() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    let switch = Switch::of("vlans.txt").await;
    let flips = proptest::collection::vec((0_usize..2000, proptest::num::u8::ANY), 1..6);
    let runner = std::sync::Mutex::new(TestRunner::deterministic());
    let spoilt = between(&switch.address, move |_, mut packet| {
        for (at, byte) in flips.new_tree(&mut runner.lock().unwrap()).unwrap().current() {
            let length = packet.len();
            packet[at % length] = byte;
        }
        vec![packet]
    });
    for _ in 0..60 {
        let mut client =
            Client::new(Access { timeout: Duration::from_millis(60), retries: 0, ..access(&spoilt, b"public") });
        match find(&mut client, mac(DEVICE)).await {
            Ok(ports) => assert!(ports.len() <= 64),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
        let _ = client.walk(FDB_PORT).await;
    }
}

#[tokio::test]
async fn a_table_of_ten_thousand_takes_few_packets() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for n in 0..10_000_u64 {
        let [.., a, b, c] = n.to_be_bytes();
        let one = Mac::new([2, 0, 0, a, b, c]);
        let name: Vec<String> = of_mac_in(Q_FDB_PORT, 1, one).iter().map(ToString::to_string).collect();
        writeln!(text, "{} integer {}", name.join("."), n % 48 + 1).unwrap();
    }
    let table = folder.path().join("table.txt");
    std::fs::write(&table, text).unwrap();
    let switch = Switch::start(&table).await;
    let mut client = switch.client();
    let start = std::time::Instant::now();
    let found = find(&mut client, Mac::new([2, 0, 0, 0, 0x1b, 0x58])).await.unwrap();
    println!("one of 10,000 in {:?} and {} packets", start.elapsed(), client.packets());
    assert_eq!(found, BTreeSet::from([7000 % 48 + 1]));
    assert!(client.packets() <= 4, "{} packets", client.packets());
    assert_eq!(walked(&mut client).await.unwrap().len(), 10_000);
}
