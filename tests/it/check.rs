//! `bootline check` as an operator meets it: in a network of the test's own, with real rivals and real holders of ports.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent, config, refused};
use crate::broker::{Mosquitto, free_port};
use crate::net::Net;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A station on the bridge of the network.
fn station(folder: &Path, more: &str) {
    fs::create_dir_all(folder.join("bootfiles")).unwrap();
    let text = format!(
        "network: {{interface: br0, address: 10.77.0.1/24, dhcp: {{range: 10.77.0.10-10.77.0.99}}}}\n\
         bus: {{mqtt: embedded}}\n{more}data: {0}/data\nbootfiles: {0}/bootfiles\n",
        folder.display()
    );
    fs::write(folder.join("bootline.yml"), text).unwrap();
}

/// A server that has said that it serves.
fn said(command: &mut Command, word: &str) -> Ended {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let child = Ended(child);
    assert!(lines.any(|line| line.unwrap().contains(word)), "it says {word:?}");
    child
}

/// Exit code, and what was found: `level subject what > advice`.
fn check(mut command: Command, folder: &Path) -> (i32, Vec<String>) {
    let output = command.arg("check").arg("--json").arg("--config").arg(folder.join("bootline.yml")).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let found = report["findings"].as_array().unwrap().iter().map(|finding| {
        assert_eq!(finding["level"] == "ok", finding["advice"].is_null(), "{finding}");
        let [level, subject, what, advice] = ["level", "subject", "what", "advice"].map(|key| text(finding, key));
        format!("{level} {subject} {what} > {advice}")
    });
    (output.status.code().unwrap(), found.collect())
}

fn has(found: &[String], level: &str, subject: &str, what: &str) {
    let start = format!("{level} {subject} ");
    assert!(
        found.iter().any(|line| line.starts_with(&start) && line.contains(what)),
        "no {level} of {subject} with {what:?} in {found:#?}"
    );
}

#[test]
fn a_rival_and_a_taken_port_are_named_and_nothing_is_changed() {
    let Some(net) = Net::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    station(folder.path(), "");
    let bootline = || net.command(env!("CARGO_BIN_EXE_bootline"));

    let (code, found) = check(bootline(), folder.path());
    assert_eq!(code, 1, "no boot files are there: {found:#?}");
    has(&found, "ok", "rights", "");
    has(&found, "ok", "address", "will be set");
    has(&found, "ok", "ports", "every port is free");
    has(&found, "fault", "boot files", "no model is prepared");
    assert!(!folder.path().join("data").exists(), "it changes nothing");

    // Another machine at the other end of a cable.
    let mut other = net.command("unshare").args(["--net", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let pid = other.id().to_string();
    let _hold = other.stdin.take();
    let _other = Ended(other);
    let cable = format!(
        "until [ \"$(readlink /proc/{pid}/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done; \
         ip link add cable type veth peer name rival && ip link set cable master br0 up && ip link set rival netns {pid}"
    );
    assert!(net.command("sh").args(["-c", &cable]).status().unwrap().success());
    let there = format!(
        "ip link set lo up && ip link set rival up && ip address add 10.77.0.2/24 dev rival && exec dnsmasq -d --port=0 \
         --interface=rival --no-ping --conf-file=/dev/null --dhcp-range=10.77.0.200,10.77.0.250 --dhcp-leasefile={}/leases",
        folder.path().display()
    );
    let mut rival = net.command("nsenter");
    let _rival = said(rival.args(["--net", "--target", &pid, "sh", "-c", &there]), "DHCP, IP range");
    let mut holder = net.command("dnsmasq");
    let holder =
        holder.args(["-d", "--port=0", "--interface=br0", "--conf-file=/dev/null", "--enable-tftp", "--tftp-root=/"]);
    let _holder = said(holder, "TFTP root is /");

    let (code, found) = check(bootline(), folder.path());
    assert_eq!(code, 1);
    has(&found, "fault", "dhcp", "10.77.0.2");
    has(&found, "fault", "ports", "is taken by dnsmasq");
}

#[test]
fn a_firewall_that_drops_what_devices_send_is_named() {
    let Some(net) = Net::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    station(folder.path(), "");
    let rules = "nft add table inet filter && nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }' \
                 && nft add rule inet filter input iifname br0 udp dport '{ 67, 68 }' accept";
    assert!(net.command("sh").args(["-c", rules]).status().unwrap().success(), "nft works in a namespace");
    let (_, found) = check(net.command(env!("CARGO_BIN_EXE_bootline")), folder.path());
    has(&found, "fault", "firewall", "TFTP of devices (udp 69 on br0) is dropped by the chain inet filter input");
    assert!(!found.iter().any(|line| line.contains("udp 67")), "{found:#?}");
}

#[test]
fn a_running_agent_is_known_and_its_database_examined() {
    let agent = TestAgent::start("{mqtt: off}");
    let (code, found) = check(Command::new(env!("CARGO_BIN_EXE_bootline")), agent.folder.path());
    has(&found, "ok", "ports", "bootline runs already");
    has(&found, "ok", "database", "is whole");
    has(&found, "note", "dhcp", "mode is off");
    has(&found, "note", "bus", "neither MQTT nor NATS");
    assert_eq!(code, 1, "without boot files nothing boots: {found:#?}");
    agent.finish();
}

#[test]
fn a_broken_file_and_a_table_for_people() {
    let folder = tempfile::tempdir().unwrap();
    station(folder.path(), "htp: {}\n");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
        let output = command.arg("check").arg("--config").arg(folder.path().join("bootline.yml")).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = run();
    assert_eq!(code, 78);
    assert!(said.contains("htp") && said.contains("line"), "{said}");

    station(folder.path(), "");
    let (code, table, _) = run();
    assert_eq!(code, 1);
    for part in ["FAULT    interface      there is no network interface br0", "> set network.interface", "faults,"] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
}

/// A NATS server with this configuration, gone with the test.
fn nats_server(folder: &Path, text: &str) -> (Ended, u16) {
    let port = free_port();
    let config = folder.join("nats.conf");
    fs::write(&config, format!("listen: 127.0.0.1:{port}\n{text}")).unwrap();
    let program = std::env::var("BOOTLINE_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    let child = Command::new(program).arg("-c").arg(&config).stderr(Stdio::null()).spawn();
    let server = Ended(child.expect("nats-server is installed"));
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < PATIENCE, "nats-server does not listen");
        std::thread::yield_now();
    }
    (server, port)
}

/// What `check` says of the buses under this configuration of them.
fn buses(folder: &Path, bus: &str) -> Vec<String> {
    station(folder, "");
    let file = folder.join("bootline.yml");
    let text = fs::read_to_string(&file).unwrap().replace("bus: {mqtt: embedded}", &format!("bus: {bus}"));
    fs::write(&file, text).unwrap();
    let (code, found) = check(Command::new(env!("CARGO_BIN_EXE_bootline")), folder);
    assert_eq!(code, 1, "there is no br0 here: {found:#?}");
    found
}

#[test]
fn a_login_that_mqtt_refuses_is_told_from_a_right_that_lacks_and_from_a_wrong_authority() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let certificate = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (theirs, other) = (certificate(), certificate());
    fs::write(at("server.crt"), theirs.cert.pem()).unwrap();
    fs::write(at("server.key"), theirs.signing_key.serialize_pem()).unwrap();
    fs::write(at("other.crt"), other.cert.pem()).unwrap();
    fs::write(at("users"), "st-01:right\nmute:right\n").unwrap();
    let hashed = Command::new("mosquitto_passwd").args(["-U", &at("users")]).status().expect("mosquitto is installed");
    assert!(hashed.success());
    fs::write(at("acl"), "user st-01\ntopic write bootline/v1/st-01/#\n").unwrap();
    let tls = free_port();
    let broker = Mosquitto::start_with(&format!(
        "password_file {}\nacl_file {}\nlistener {tls} 127.0.0.1\ncertfile {}\nkeyfile {}",
        at("users"),
        at("acl"),
        at("server.crt"),
        at("server.key")
    ));
    fs::write(at("right"), "right\n").unwrap();
    fs::write(at("wrong"), "wrong\n").unwrap();
    let login = |user: &str, password: &str| {
        let url = format!("mqtt://127.0.0.1:{}", broker.port);
        format!("{{mqtt: {{url: '{url}', username: {user}, password_file: {}}}}}", at(password))
    };
    has(
        &buses(folder.path(), &login("st-01", "right")),
        "ok",
        "bus",
        "takes our login, what we send and our subscriptions",
    );
    has(&buses(folder.path(), &login("st-01", "wrong")), "warning", "bus", "the broker refused us: NotAuthorized");
    let mute = buses(folder.path(), &login("mute", "right"));
    has(&mute, "warning", "bus", "not authorized to publish to bootline/v1/st-01/telemetry/check");
    has(&buses(folder.path(), &login("st-01", "missing")), "fault", "bus", "cannot read");

    let secure = |ca: &str| {
        let url = format!("mqtts://127.0.0.1:{tls}");
        format!("{{mqtt: {{url: '{url}', username: st-01, password_file: {}, ca: {}}}}}", at("right"), at(ca))
    };
    has(&buses(folder.path(), &secure("server.crt")), "ok", "bus", "takes our login");
    has(&buses(folder.path(), &secure("other.crt")), "warning", "bus", "certificate");
    let nobody = format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", free_port());
    has(&buses(folder.path(), &nobody), "warning", "bus", "refused");
}

/// A mosquitto that takes everything that is sent, gives what these filters name, and says so.
fn hearing(folder: &Path, filters: &[&str]) -> Mosquitto {
    let plugin =
        fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("mosquitto_dynamic_security.so"));
    let plugin = plugin.into_iter().find(|path| path.exists()).expect("mosquitto brings its plugin");
    let rights = |filter: &&str| json!({"acltype": "subscribePattern", "topic": filter, "priority": 0, "allow": true});
    let rules = json!({
        "defaultACLAccess":
            {"publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
        "anonymousGroup": "station",
        "groups": [{"groupname": "station", "roles": [{"rolename": "station"}]}],
        "roles": [{"rolename": "station", "acls": filters.iter().map(rights).collect::<Vec<_>>()}],
        "clients": [],
    });
    let file = folder.join("rights.json");
    fs::write(&file, rules.to_string()).unwrap();
    Mosquitto::start_with(&format!("plugin {}\nplugin_opt_config_file {}", plugin.display(), file.display()))
}

#[test]
fn a_request_that_mqtt_would_not_bring_is_told_with_the_right_that_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let own = ["bootline/v1/st-01/cmd/#", "bootline/v1/st-01/state/#"];
    let both = ["bootline/v1/_all/cmd/#", "$share/bootline/bootline/v1/_any/cmd/#"];
    let found = |filters: &[&str]| {
        let broker = hearing(folder.path(), filters);
        buses(folder.path(), &format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port))
    };
    let whole = found(&[own, both].concat());
    has(&whole, "ok", "bus", "takes our login, what we send and our subscriptions");
    assert!(!whole.iter().any(|line| line.contains("refuses")), "{whole:#?}");

    let alone = found(&own);
    has(&alone, "ok", "bus", "what we send and the one to our requests");
    has(&alone, "note", "bus", "refuses the subscription to bootline/v1/_all/cmd/# (NotAuthorized)");
    has(&alone, "note", "bus", "refuses the subscription to $share/bootline/bootline/v1/_any/cmd/# (NotAuthorized)");
    has(&alone, "note", "bus", "> leave it if that is meant, or allow it: `topic read bootline/v1/_any/cmd/#`");

    let deaf = found(&both);
    has(&deaf, "warning", "bus", "bootline/v1/st-01/cmd/# (NotAuthorized): requests to this station are not heard");
    has(&deaf, "warning", "bus", "> allow it: `topic read bootline/v1/st-01/cmd/#` below the station's user");
    has(&deaf, "note", "bus", "refuses the subscription to bootline/v1/st-01/state/presence");
    assert!(!deaf.iter().any(|line| line.starts_with("ok bus")), "{deaf:#?}");
}

#[test]
fn a_login_that_nats_refuses_is_told_from_a_right_that_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let hears =
        "['_INBOX.st-01.>', '$SRV.>', 'bootline.v1.st-01.cmd.>', 'bootline.v1.any.cmd.>', 'bootline.v1.all.cmd.>']";
    let user = |name: &str, publish: &str, subscribe: &str| {
        format!("{{user: {name}, password: right, permissions: {{publish: {publish}, subscribe: {subscribe}}}}}\n")
    };
    let sends = "['bootline.v1.st-01.>', '$JS.API.STREAM.INFO.*']";
    let text = format!(
        "jetstream {{store_dir: '{}'}}\naccounts {{FAB {{jetstream: enabled, users: [\n{}{}{}{}{}]}}}}\n",
        at("js"),
        user("st-01", sends, hears),
        user("mute", "'$JS.API.STREAM.INFO.*'", hears),
        user("blind", "'bootline.v1.st-01.>'", hears),
        user("deaf", sends, "'_INBOX.st-01.>'"),
        user("half", sends, "{allow: '>', deny: 'bootline.v1.any.cmd.project.*'}"),
    );
    let (_server, port) = nats_server(folder.path(), &text);
    fs::write(at("right"), "right\n").unwrap();
    fs::write(at("wrong"), "wrong\n").unwrap();
    let login = |user: &str, password: &str, more: &str| {
        let url = format!("nats://127.0.0.1:{port}");
        format!("{{mqtt: off, nats: {{url: '{url}', username: {user}, password_file: {}{more}}}}}", at(password))
    };
    has(&buses(folder.path(), &login("st-01", "right", "")), "ok", "bus", "the stream will be made");
    let wrong = buses(folder.path(), &login("st-01", "wrong", ""));
    has(&wrong, "warning", "bus", "the server refused us");
    let mute = buses(folder.path(), &login("mute", "right", ""));
    has(&mute, "warning", "bus", "not authorized to publish to bootline.v1.st-01.telemetry.check");
    let blind = buses(folder.path(), &login("blind", "right", ""));
    has(&blind, "warning", "bus", "STREAM.INFO.BOOTLINE_EVT");
    let deaf = buses(folder.path(), &login("deaf", "right", ""));
    assert!(!deaf.iter().any(|line| line.starts_with("ok bus")), "{deaf:#?}");
    for group in ["bootline.v1.st-01.cmd.", "bootline.v1.any.cmd.", "bootline.v1.all.cmd.", "$SRV."] {
        has(&deaf, "warning", "bus", &format!("Subscription to \"{group}"));
        has(&deaf, "warning", "bus", &format!("> add \"{group}>\" to what the station's user may subscribe to"));
    }
    let half = buses(folder.path(), &login("half", "right", ""));
    has(&half, "warning", "bus", "requests to several stations are not heard");
    assert_eq!(half.iter().filter(|line| line.starts_with("warning bus")).count(), 1, "{half:#?}");
    let none = buses(folder.path(), &login("st-01", "right", ", manage_streams: false"));
    has(&none, "warning", "bus", "there is no stream BOOTLINE_EVT");
}

#[test]
fn a_switch_that_does_not_answer_and_what_the_configuration_does_not_say_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    station(folder.path(), &format!("switches: [{{name: sw1, address: '{address}', timeout: 1s, retries: 0}}]\n"));
    let (_, found) = check(Command::new(env!("CARGO_BIN_EXE_bootline")), folder.path());
    has(&found, "warning", "switches", "sw1");

    let sample = "cmProvisionServer: {hostIface: br0, serverIp: 192.168.5.1/16, \
                  dhcpRange: '192.168.5.2,192.168.255.255,255.255.0.0'}\nbus: {mqtt: off}\n";
    fs::write(folder.path().join("bootline.yml"), format!("{sample}data: {}/data\n", folder.path().display())).unwrap();
    let (_, found) = check(Command::new(env!("CARGO_BIN_EXE_bootline")), folder.path());
    has(&found, "warning", "configuration", "need no token");
    has(&found, "warning", "configuration", "192.168.255.255");
}

#[test]
fn a_port_that_an_installed_mosquitto_has_is_told_with_what_to_do() {
    let broker = Mosquitto::start();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bootfiles")).unwrap();
    let bus = format!("{{mqtt: embedded, mqtt_listen: '127.0.0.1:{}'}}", broker.port);
    let (code, said) = refused(&config(folder.path(), [0; 3], &bus));
    assert_ne!(code, 0);
    assert!(
        said.contains("taken") && said.contains(&format!("bus.mqtt: {{url: mqtt://127.0.0.1:{}}}", broker.port)),
        "{said}"
    );
    let (_, found) = check(Command::new(env!("CARGO_BIN_EXE_bootline")), folder.path());
    has(&found, "fault", "ports", "mosquitto");
}
