//! Labels and printers: a socket as the printer, Debian's `vsftpd` as one that is fed by FTP, `ippeveprinter` of CUPS, and
//! programs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent};
use crate::board::{FakeBoard, Orders};

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent with these printers.
fn agent(printers: &str) -> TestAgent {
    let mut agent = TestAgent::start("{mqtt: off}");
    assert!(agent.stop().success());
    let path = agent.folder.path().join("bootline.yml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}printers:\n{printers}\n")).unwrap();
    agent.restart();
    agent
}

/// Data of the events of this type, once there are so many.
fn await_events(agent: &TestAgent, name: &str, count: usize) -> Vec<Value> {
    let wanted = format!("io.bootline.{name}.v1");
    let end = Instant::now() + PATIENCE;
    loop {
        let events = agent.events();
        let met = events.iter().filter(|event| event["type"] == wanted.as_str());
        let met: Vec<Value> = met.map(|event| event["data"].clone()).collect();
        if met.len() >= count {
            return met;
        }
        assert!(Instant::now() < end, "no {count} {name} in {events:#?}");
    }
}

/// Everything that comes to a printer, connection by connection.
fn sink(listener: TcpListener) -> Receiver<String> {
    let (tell, labels) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut label = String::new();
            stream.unwrap().read_to_string(&mut label).unwrap();
            if tell.send(label).is_err() {
                return;
            }
        }
    });
    labels
}

fn label(agent: &TestAgent, name: &str, text: &str) {
    let answer = agent.post("/api/v1/labels", &json!({"name": name, "text": text}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// An active project with these labels.
fn project(agent: &TestAgent, labels: &Value) {
    let image = agent.image("first.img", &[7; 4096]);
    let wanted = json!({"name": "Gateway", "image": image, "active": true, "labels": labels});
    let answer = agent.post("/api/v1/projects", &wanted);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn a_device_that_has_passed_gets_its_label_and_a_preview_shows_it_before() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let labels = sink(listener);
    let agent = agent(&format!("- {{name: zebra, tcp: '{address}'}}"));
    let text = "^XA{{ device.mac | upper | groups }} {{ device.serial }} {{ variables.ORDER | default('-') | zpl }} \
                {{ project }}{% if reprint %} COPY{% endif %}^XZ\n";
    label(&agent, "Type plate", text);
    project(&agent, &json!([{"label": "type-plate", "on": "passed", "printer": "zebra"}]));
    let board = FakeBoard::new(agent.devices, 1);
    let assign = json!({"variables": {"ORDER": "4711^"}, "secrets": {"KEY": "hunter2"}});
    agent.post(&format!("/api/v1/devices/{}/assign", board.mac), &assign);
    assert_eq!(board.provision(4096).unwrap().status, 200);

    let serial = &board.serial;
    assert_eq!(labels.recv_timeout(PATIENCE).unwrap(), format!("^XA02:00:00:00:00:01 {serial} 4711_5e gateway^XZ\n"));
    let printed = await_events(&agent, "label.printed", 1).remove(0);
    assert_eq!(
        (&printed["job"], &printed["printer"], &printed["mac"]),
        (&json!(1), &json!("zebra"), &json!(board.mac))
    );

    let preview = agent.post("/api/v1/labels/type-plate/preview", &json!({"device": board.mac, "reprint": true}));
    assert!(preview.headers.to_lowercase().contains("text/plain"), "{}", preview.headers);
    let copy = format!("^XA02:00:00:00:00:01 {serial} 4711_5e gateway COPY^XZ\n");
    assert_eq!((preview.status, preview.text()), (200, copy.clone()));
    let wanted = json!({"session": printed["session"], "printer": "zebra", "reprint": true});
    let answer = agent.post("/api/v1/labels/type-plate/print", &wanted);
    assert_eq!(answer.json()["job"], 2, "{}", answer.text());
    assert_eq!(labels.recv_timeout(PATIENCE).unwrap(), copy);

    label(&agent, "Secret", "{{ variables.KEY }}");
    let refused = agent.post("/api/v1/labels/secret/preview", &json!({"device": board.mac}));
    assert_eq!((refused.status, refused.code()), (422, "label.template".to_owned()), "{}", refused.text());
    let wrong = agent.post("/api/v1/labels", &json!({"name": "x", "text": "one\n{{ station | nope }}"}));
    assert!(wrong.status == 400 && wrong.text().contains("line 2"), "{}", wrong.text());
    let missing = agent.post("/api/v1/labels/none/preview", &json!({"device": board.mac}));
    assert_eq!(missing.status, 404);
    let shown = agent.get("/api/v1/labels/type-plate").json();
    assert_eq!(shown["label"]["text"], text);

    let tried = Command::new(env!("CARGO_BIN_EXE_bootline"))
        .args(["label", "test", "zebra", "--config"])
        .arg(agent.folder.path().join("bootline.yml"))
        .output()
        .unwrap();
    assert!(tried.status.success(), "{tried:?}");
    assert!(labels.recv_timeout(PATIENCE).unwrap().contains("bootline st-test"));
    await_events(&agent, "label.printed", 2);
    agent.finish();
}

#[test]
fn a_queue_survives_the_death_of_the_agent_and_a_printer_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut agent = agent(&format!("- {{name: zebra, tcp: '{address}', timeout: 2s}}"));
    label(&agent, "Plate", "{{ device.mac }}\n");
    project(&agent, &json!([{"label": "plate", "on": "passed", "printer": "zebra"}]));
    for n in 1..=3 {
        assert_eq!(FakeBoard::new(agent.devices, n).provision(4096).unwrap().status, 200);
    }
    let alarm = await_events(&agent, "station.alarm.raised", 1).remove(0);
    assert_eq!(alarm["code"], "printer.zebra");
    assert!(alarm["detail"].as_str().unwrap().contains("refused"), "{alarm}");
    // Put again after they were queued: those that wait keep their text.
    label(&agent, "Plate", "other\n");
    agent.kill();

    let labels = sink(TcpListener::bind(address).unwrap());
    agent.restart();
    for n in 1..=3 {
        assert_eq!(labels.recv_timeout(PATIENCE).unwrap(), format!("0200{n:08x}\n"));
    }
    await_events(&agent, "label.printed", 3);
    await_events(&agent, "station.alarm.cleared", 1);
    agent.finish();
}

#[test]
fn a_printer_that_hangs_delays_no_device_and_no_other_printer() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let agent = agent(&format!(
        "- {{name: hung, command: [sleep, '1000'], timeout: 1h}}\n\
         - {{name: deaf, tcp: '{}'}}\n\
         - {{name: file, command: [cp, '{{file}}', '{}']}}\n\
         - {{name: late, command: [sh, -c, 'echo out of paper >&2; exit 1'], expire: 2s}}",
        held.local_addr().unwrap(),
        out.display()
    ));
    label(&agent, "Plate", "{{ device.mac }}");
    let on = |printer: &str| json!({"label": "plate", "on": "preinstall", "printer": printer});
    project(&agent, &json!([on("hung"), on("deaf"), on("file"), on("late")]));
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    await_events(&agent, "device.provisioned", 1);
    let printed = await_events(&agent, "label.printed", 2);
    assert!(printed.iter().all(|label| label["printer"] == "file" || label["printer"] == "deaf"), "{printed:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), board.mac);
    let failed = await_events(&agent, "label.failed", 1).remove(0);
    assert_eq!((&failed["printer"], &failed["code"]), (&json!("late"), &json!("label.expired")));
    assert!(failed["detail"].as_str().unwrap().contains("out of paper"), "{failed}");
    // A stop does not wait for the printer.
    agent.finish();
}

#[test]
fn a_session_fails_for_its_label_where_the_project_says_so() {
    let agent = agent("- {name: broken, command: ['false'], expire: 1s}");
    label(&agent, "Plate", "{{ device.mac }}");
    project(&agent, &json!([{"label": "plate", "on": "preinstall", "printer": "broken", "on_failure": "fail"}]));
    let board = FakeBoard::new(agent.devices, 1);
    let orders = Orders::read(&board.ask(4096).unwrap().text());
    let failed = await_events(&agent, "device.failed", 1).remove(0);
    assert_eq!((&failed["code"], &failed["mac"]), (&json!("label.failed"), &json!(board.mac)));
    assert_eq!(board.report(&orders, "step=write&state=started").unwrap().status, 409);
    agent.finish();
}

#[test]
fn a_label_goes_by_ftp() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, mode) in [("root", 0o755), ("root/labels", 0o777), ("empty", 0o755)] {
        fs::create_dir_all(at(name)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
         anon_upload_enable=YES\nwrite_enable=YES\nanon_root={}\nsecure_chroot_dir={}\nseccomp_sandbox=NO\nanon_umask=022\n",
        at("root").display(),
        at("empty").display()
    );
    fs::write(at("vsftpd.conf"), text).unwrap();
    let mut server = Command::new("vsftpd");
    server.arg(at("vsftpd.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Until it is there, the label waits.
    let agent = agent(&format!("- {{name: cab, ftp: {{url: 'ftp://127.0.0.1:{port}/labels'}}}}"));
    label(&agent, "Plate", "{{ device.mac }}\n");
    project(&agent, &json!([{"label": "plate", "on": "passed", "printer": "cab"}]));
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    await_events(&agent, "station.alarm.raised", 1);
    let _server = Ended(server.spawn().expect("vsftpd is installed"));
    await_events(&agent, "label.printed", 1);
    let file = at("root/labels").join(format!("plate-{}-1", board.mac));
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{}\n", board.mac));
    agent.finish();
}

/// CUPS' own printer, which keeps what it has printed in `spool`, and its certificate in `keys`. It insists on a bus that its announcements could go to:
/// one of its own, where nobody announces anything.
fn ipp_printer(folder: &Path, formats: &str) -> (String, [Ended; 2]) {
    for name in ["spool", "keys"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let address = format!("unix:path={}", folder.join("bus").display());
    let mut bus = Command::new("dbus-daemon");
    bus.args(["--session", "--nofork", "--print-address", "--address", &address]);
    bus.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut bus = Ended(bus.spawn().expect("dbus-daemon is installed"));
    let mut said = String::new();
    BufReader::new(bus.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with(&address), "the bus is there: {said:?}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut printer = Command::new("ippeveprinter");
    printer.args([
        "-p",
        &port.to_string(),
        "-n",
        "localhost",
        "-r",
        "off",
        "-f",
        formats,
        "-k",
        "-c",
        "/bin/true",
        "-d",
    ]);
    printer
        .arg(folder.join("spool"))
        .arg("-K")
        .arg(folder.join("keys"))
        .arg("bench")
        .env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    printer.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let printer = Ended(printer.spawn().expect("ippeveprinter is installed"));
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(("localhost", port)).is_err() {
        assert!(Instant::now() < end, "the printer listens");
    }
    (format!("localhost:{port}/ipp/print"), [bus, printer])
}

#[test]
fn an_ipp_printer_gets_the_file_byte_for_byte_and_its_refusal_is_told_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let (place, _running) = ipp_printer(folder.path(), "application/pdf,application/vnd.zebra-zpl");
    let url = format!("ipp://{place}");
    let agent = agent(&format!(
        "- {{name: office, ipp: '{url}', format: application/pdf}}\n\
         - {{name: zebra, ipp: '{url}', format: application/vnd.zebra-zpl}}\n\
         - {{name: guess, ipp: '{url}', expire: 3s}}"
    ));
    let pdf =
        "%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\n% {{ device.mac }} \u{e9}\ntrailer << /Root 1 0 R >>\n%%EOF\n";
    let zpl = "^XA^FO40,40^FD{{ device.serial }}^FS^XZ\n";
    label(&agent, "Sheet", pdf);
    label(&agent, "Plate", zpl);
    project(&agent, &json!([]));
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    // What is sent without a format, the printer looks at: a PDF it knows by its first bytes.
    for (job, (name, printer)) in [("sheet", "office"), ("plate", "zebra"), ("sheet", "guess")].iter().enumerate() {
        let wanted = json!({"device": board.mac, "printer": printer});
        let answer = agent.post(&format!("/api/v1/labels/{name}/print"), &wanted);
        assert_eq!(answer.json()["job"], job + 1, "{}", answer.text());
        await_events(&agent, "label.printed", job + 1);
    }
    let pdf = pdf.replace("{{ device.mac }}", &board.mac);
    let zpl = zpl.replace("{{ device.serial }}", &board.serial);
    for (file, text) in [
        (format!("1-sheet-{}-1.pdf", board.mac), &pdf),
        (format!("2-plate-{}-2.dat", board.mac), &zpl),
        (format!("3-sheet-{}-3.pdf", board.mac), &pdf),
    ] {
        let taken = fs::read(spool.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(taken, text.as_bytes(), "{file}");
    }
    // ZPL it does not know by its first bytes.
    agent.post("/api/v1/labels/plate/print", &json!({"device": board.mac, "printer": "guess"}));
    let failed = await_events(&agent, "label.failed", 1).remove(0);
    assert_eq!((&failed["printer"], &failed["code"]), (&json!("guess"), &json!("label.expired")));
    let alarms = await_events(&agent, "station.alarm.raised", 1);
    let alarm = alarms.iter().find(|alarm| alarm["code"] == "printer.guess").unwrap();
    for told in [&failed["detail"], &alarm["detail"]] {
        let told = told.as_str().unwrap();
        assert!(told.contains("0x040b") && told.contains("Unsupported document-format"), "{told}");
    }
    agent.finish();
}

#[test]
fn a_label_goes_by_tls_to_a_printer_that_is_trusted_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = folder.path().join("keys/localhost.crt");
    fs::create_dir(folder.path().join("keys")).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(folder.path().join("keys/localhost.key"), made.signing_key.serialize_pem()).unwrap();
    let (place, _running) = ipp_printer(folder.path(), "text/plain");
    let agent = agent(&format!(
        "- {{name: safe, ipp: 'ipps://{place}', format: text/plain, ca: {}}}\n\
         - {{name: doubtful, ipp: 'ipps://{place}', format: text/plain, expire: 2s}}",
        certificate.display()
    ));
    label(&agent, "Plate", "{{ device.mac }}\n");
    let label_on = |printer: &str| json!({"label": "plate", "on": "passed", "printer": printer});
    project(&agent, &json!([label_on("safe"), label_on("doubtful")]));
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    let printed = await_events(&agent, "label.printed", 1).remove(0);
    assert_eq!(printed["printer"], "safe");
    let file = folder.path().join(format!("spool/1-plate-{}-1.dat", board.mac));
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{}\n", board.mac));
    let failed = await_events(&agent, "label.failed", 1).remove(0);
    assert_eq!(failed["printer"], "doubtful");
    let why = failed["detail"].as_str().unwrap();
    assert!(why.contains("no TLS with localhost") && why.contains("UnknownIssuer"), "{why}");
    agent.finish();
}

#[test]
fn printers_that_make_no_sense_are_refused_by_name() {
    for (printers, part) in [
        ("- {name: a, tcp: h, ipp: 'ipp://h/p'}", "a: give one of tcp, ftp, command and ipp"),
        ("- {name: a}", "give one of"),
        ("- {name: a, command: []}", "begins with a program"),
        ("- {name: a, tcp: 'h:0'}", "not host or host:port"),
        ("- {name: a, ftp: {url: 'ftp://u:p@h/'}}", "username and password_file"),
        ("- {name: a, ipp: 'http://h/'}", "ipp://host/path or ipps://host/path"),
        ("- {name: a, ipp: 'ipp://h/', ca: /x.pem}", "ca goes with ipps://"),
        ("- {name: a, tcp: h}\n- {name: a, tcp: h}", "two printers are called a"),
        ("- {name: 'a b', tcp: h}", "not the name of a printer"),
        ("- {name: a, tcp: h}\nslots:\n- {name: s, jumper: '001', printer: b}", "there is no printer"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = crate::agent::config(folder.path(), [0; 3], "{mqtt: off}");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}printers:\n{printers}\n")).unwrap();
        let (code, said) = crate::agent::refused(&path);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn the_doctor_says_which_printer_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (there, away) =
        (listener.local_addr().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = crate::agent::config(folder.path(), [0; 3], "{mqtt: off}");
    let text = fs::read_to_string(&path).unwrap();
    let printers = format!(
        "- {{name: there, tcp: '{there}'}}\n- {{name: away, tcp: '{away}'}}\n- {{name: none, command: [/nowhere/print]}}"
    );
    fs::write(&path, format!("{text}printers:\n{printers}\n")).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_bootline")).args(["check", "--json", "--config"]).arg(&path).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<(&str, &str)> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["subject"] == "printers")
        .map(|finding| (finding["level"].as_str().unwrap(), finding["what"].as_str().unwrap()))
        .collect();
    let levels: Vec<&str> = found.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, ["ok", "warning", "warning"], "{found:?}");
    assert!(found[1].1.contains("refused") && found[2].1.contains("/nowhere/print"), "{found:?}");
    let tried = Command::new(env!("CARGO_BIN_EXE_bootline"))
        .args(["label", "test", "away", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
}
