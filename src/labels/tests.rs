//! Printers that take, refuse, hang and vanish.

use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::labels::{Fault, Ftp, Ipp, Printer, Security, Way, send};

fn printer(way: Way, timeout: Duration) -> Printer {
    Printer { name: "p".parse().unwrap(), way, timeout }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

const PATIENT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_raw_socket_gets_every_byte_and_its_end() {
    let (sink, address) = listener().await;
    let label = vec![0x5a; 300_000];
    let printer = printer(Way::Tcp(address), PATIENT);
    let taking = async {
        let (mut stream, _) = sink.accept().await.unwrap();
        let mut taken = Vec::new();
        stream.read_to_end(&mut taken).await.unwrap();
        taken
    };
    let (sent, taken) = tokio::join!(send(&printer, "x", &label), taking);
    assert_eq!((sent.unwrap(), taken.len()), (None, label.len()));
}

#[tokio::test]
async fn a_printer_that_does_not_read_is_late_and_one_that_never_closes_is_not() {
    let (sink, address) = listener().await;
    let short = printer(Way::Tcp(address), Duration::from_secs(2));
    // More than the buffers of both ends take.
    let fault = send(&short, "x", &vec![0; 64 << 20]).await.unwrap_err();
    assert!(matches!(fault, Fault::Late(_)), "{fault}");
    assert_eq!(fault.to_string(), "nothing within 2 s");
    let (_held, _) = sink.accept().await.unwrap();
    send(&short, "x", b"^XA^XZ").await.unwrap();
    let address = sink.local_addr().unwrap();
    drop(sink);
    let gone = send(&printer(Way::Tcp(address.to_string()), PATIENT), "x", b"^XA^XZ").await.unwrap_err();
    assert!(gone.to_string().contains("refused"), "{gone}");
}

fn command(words: &[&str], timeout: Duration) -> Printer {
    printer(Way::Command(words.iter().map(|word| (*word).to_owned()).collect()), timeout)
}

#[tokio::test]
async fn a_command_gets_the_label_on_stdin_or_as_a_file_and_no_shell_reads_it() {
    let said = send(&command(&["cat"], PATIENT), "x", b"$(touch /nowhere)\x07 ok\n").await.unwrap();
    assert_eq!(said.as_deref(), Some("$(touch /nowhere) ok"));
    let argv = command(&["sh", "-c", "cat \"$1\" && stat -c %a \"$1\" && echo \"$1\" >&2", "sh", "{file}"], PATIENT);
    let said = send(&argv, "x", b"^XA^XZ\n").await.unwrap().unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["^XA^XZ", "600"]);
    assert!(!std::path::Path::new(lines[2]).exists(), "the file is gone");
    let fault = send(&command(&["sh", "-c", "echo no paper >&2; exit 3"], PATIENT), "x", b"").await.unwrap_err();
    assert!(fault.to_string().contains("status: 3") && fault.to_string().contains("no paper"), "{fault}");
    let fault = send(&command(&["/nowhere/print"], PATIENT), "x", b"").await.unwrap_err();
    assert!(fault.to_string().contains("/nowhere/print"), "{fault}");
    // Neither one that does not read nor one that talks without end is a trouble.
    send(&command(&["true"], PATIENT), "x", &vec![0; 4 << 20]).await.unwrap();
    let said = send(&command(&["seq", "200000"], PATIENT), "x", b"").await.unwrap().unwrap();
    assert!(said.len() <= 2048 && said.ends_with("200000"), "{}", said.len());
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_that_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("pid").display().to_string();
    let script = "sleep 1000 & echo $! > \"$1\"; wait";
    let began = Instant::now();
    let fault = send(&command(&["sh", "-c", script, "sh", &note], Duration::from_secs(2)), "x", b"").await.unwrap_err();
    assert!(matches!(fault, Fault::Late(_)) && began.elapsed() < PATIENT, "{fault}");
    let child = std::fs::read_to_string(&note).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    while alive() {
        assert!(began.elapsed() < PATIENT, "{child} lives on");
        tokio::task::yield_now().await;
    }
}

/// A peer that answers line by line; `{port}` is that of the file.
async fn ftp_peer(answers: &'static [(&'static str, &'static str)]) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let (control, address) = listener().await;
    let (data, _) = listener().await;
    let port = data.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = control.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(b"220-welcome\r\n220 ready\r\n").await.unwrap();
        let mut file = Vec::new();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
            let verb = line.split_whitespace().next().unwrap_or_default().to_owned();
            let answer = answers.iter().find(|(asked, _)| *asked == verb).map_or("502 no", |(_, answer)| *answer);
            let (high, low) = (port / 256, port % 256);
            let answer = answer.replace("{port}", &port.to_string()).replace("{halves}", &format!("{high},{low}"));
            let _ = stream.get_mut().write_all(format!("{answer}\r\n").as_bytes()).await;
            if verb == "STOR" && answer.starts_with("150") {
                let (mut taken, _): (TcpStream, _) = data.accept().await.unwrap();
                taken.read_to_end(&mut file).await.unwrap();
                let _ = stream.get_mut().write_all(b"226 done\r\n").await;
            }
            line.clear();
        }
        file
    });
    (address, serving)
}

fn ftp(address: String) -> Printer {
    let ftp = Ftp { address, folder: "labels".to_owned(), username: "line".to_owned(), password: "secret".to_owned() };
    assert!(!format!("{:?}", Way::Ftp(ftp.clone())).contains("secret"));
    printer(Way::Ftp(ftp), PATIENT)
}

#[tokio::test]
async fn an_ftp_server_gets_the_file_by_either_passive_mode() {
    let old: &[(&str, &str)] = &[
        ("USER", "331 password"),
        ("PASS", "230 in"),
        ("TYPE", "200 ok"),
        // Its address is not believed: nothing listens there.
        ("PASV", "227 Entering Passive Mode (192,0,2,1,{halves})"),
        ("STOR", "150 go"),
    ];
    let new: &[(&str, &str)] =
        &[("USER", "230 in"), ("TYPE", "200 ok"), ("EPSV", "229 Extended (|||{port}|)"), ("STOR", "150 go")];
    for answers in [old, new] {
        let (address, serving) = ftp_peer(answers).await;
        send(&ftp(address), "plate-1", b"^XA^XZ").await.unwrap();
        assert_eq!(serving.await.unwrap(), b"^XA^XZ");
    }
    let wrong: &[(&str, &str)] = &[("USER", "331 password"), ("PASS", "530 Login incorrect.")];
    let (address, _serving) = ftp_peer(wrong).await;
    let fault = send(&ftp(address), "plate-1", b"^XA^XZ").await.unwrap_err().to_string();
    assert!(fault.contains("530 Login incorrect") && !fault.contains("secret"), "{fault}");
    let full: &[(&str, &str)] =
        &[("USER", "230 in"), ("TYPE", "200 ok"), ("EPSV", "229 Extended (|||{port}|)"), ("STOR", "452 no space")];
    let (address, _serving) = ftp_peer(full).await;
    let fault = send(&ftp(address), "plate-1", b"^XA^XZ").await.unwrap_err().to_string();
    assert!(fault.contains("452 no space"), "{fault}");
}

/// Answers one request by HTTP, and gives back what was asked.
async fn ipp_peer(status: &'static [u8]) -> (Printer, tokio::task::JoinHandle<Vec<u8>>) {
    let (web, address) = listener().await;
    let ipp = Ipp {
        uri: format!("ipp://{address}/ipp/print"),
        address,
        path: "/ipp/print".to_owned(),
        format: "application/octet-stream".to_owned(),
        security: Security::Plain,
    };
    let serving = tokio::spawn(async move {
        let (stream, _) = web.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap() > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/ipp\r\nContent-Length: {}\r\n\r\n", status.len());
        stream.get_mut().write_all(head.as_bytes()).await.unwrap();
        stream.get_mut().write_all(status).await.unwrap();
        body
    });
    (printer(Way::Ipp(ipp), PATIENT), serving)
}

#[tokio::test]
async fn an_ipp_printer_gets_a_print_job_and_its_refusal_is_told() {
    let (printer, serving) = ipp_peer(&[1, 1, 0, 0, 0, 0, 0, 1, 1, 3]).await;
    send(&printer, "plate-1", b"^XA^XZ").await.unwrap();
    let body = serving.await.unwrap();
    assert_eq!(body[..9], [1, 1, 0, 2, 0, 0, 0, 1, 1], "version, Print-Job, request 1, operation attributes");
    assert!(body[9..].starts_with(b"\x47\x00\x12attributes-charset\x00\x05utf-8\x48"), "the charset comes first");
    assert!(body.ends_with(b"\x49\x00\x0fdocument-format\x00\x18application/octet-stream\x03^XA^XZ"));
    let (printer, serving) = ipp_peer(&[1, 1, 4, 10, 0, 0, 0, 1, 1, 3]).await;
    let fault = send(&printer, "plate-1", b"^XA^XZ").await.unwrap_err();
    assert_eq!(fault.to_string(), "IPP status 0x040a");
    serving.await.unwrap();
}
