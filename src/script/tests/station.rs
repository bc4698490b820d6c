//! A station as small as a test needs it: it serves one image, writes down what it is told and answers as bidden.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// The fields of one report.
pub type Form = BTreeMap<String, Vec<String>>;

/// How a report is answered.
#[derive(Clone, Copy)]
pub enum Say {
    Status(u16),
    /// 503 with `Retry-After: 0`
    Busy,
    /// Nothing: the connection is closed, as by a station that is restarted.
    HangUp,
}

pub struct Image {
    pub body: Vec<u8>,
    /// Each connection ends after so many bytes.
    pub cut_after: Option<usize>,
    /// A part of it can be asked for.
    pub resumes: bool,
    /// The second half is held back until the device has said how far it is.
    pub wait_for_progress: bool,
    /// The step in which the device is asked to blink.
    pub identify_in: Option<&'static str>,
    /// The EEPROM image; the first so many downloads of it are cut off in the middle.
    pub firmware: Vec<u8>,
    pub cuts: usize,
    /// By their ids.
    pub scripts: BTreeMap<String, String>,
}

pub struct Station {
    pub address: SocketAddr,
    pub reports: Arc<Mutex<Vec<Form>>>,
    /// What scripts have printed: id and text.
    pub outputs: Arc<Mutex<Vec<(String, String)>>>,
}

type Answers = dyn Fn(&Form, usize) -> Say + Send + Sync;

struct World {
    image: Image,
    reports: Arc<Mutex<Vec<Form>>>,
    outputs: Arc<Mutex<Vec<(String, String)>>>,
    answer: Box<Answers>,
    progress: Mutex<(Sender<Form>, Option<Receiver<Form>>)>,
    downloads: AtomicUsize,
}

struct Request {
    method: String,
    path: String,
    authorised: bool,
    /// The first byte that is asked for.
    range: Option<usize>,
    form: Form,
    body: String,
}

impl Station {
    /// `answer` sees each report and how many came before.
    pub fn start(image: Image, answer: impl Fn(&Form, usize) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let outputs = Arc::default();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = channel();
        let world = Arc::new(World {
            image,
            reports: Arc::clone(&reports),
            outputs: Arc::clone(&outputs),
            answer: Box::new(answer),
            progress: Mutex::new((sender, Some(receiver))),
            downloads: AtomicUsize::new(0),
        });
        // The threads end with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let world = Arc::clone(&world);
                thread::spawn(move || serve(&world, stream));
            }
        });
        Self { address, reports, outputs }
    }

    /// `write started`, `write completed`, .., `finished`, `write failed storage.missing`
    pub fn story(&self) -> Vec<String> {
        let word = |form: &Form, name: &str| form.get(name).map(|values| values[0].clone());
        let reports = self.reports.lock().unwrap();
        reports
            .iter()
            .map(|form| {
                ["step", "state", "code"].iter().filter_map(|name| word(form, name)).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }
}

fn serve(world: &World, stream: TcpStream) {
    let Some(request) = read(&stream) else { return };
    let end = request.path.rsplit('/').next().unwrap_or_default().to_owned();
    if !request.authorised {
        return answer(stream, "401 Unauthorized", b"no token");
    }
    let parts: Vec<&str> = request.path.split('/').collect();
    match parts.as_slice() {
        [.., "scripts", id] => {
            return match world.image.scripts.get(*id) {
                Some(text) => answer(stream, "200 OK", text.as_bytes()),
                None => answer(stream, "404 Not Found", b""),
            };
        }
        [.., "scripts", id, "output"] => {
            world.outputs.lock().unwrap().push(((*id).to_owned(), request.body));
            return answer(stream, "200 OK", b"");
        }
        _ => {}
    }
    match end.as_str() {
        "image" => image(world, &request, stream),
        "firmware" => firmware(world, stream),
        "progress" => {
            let asked = world.image.identify_in.is_some_and(|step| request.form["step"] == [step]);
            world.progress.lock().unwrap().0.send(request.form).unwrap();
            let body: &[u8] =
                if asked { br#"{"identify":true,"state":"recorded"}"# } else { br#"{"state":"recorded"}"# };
            answer(stream, "200 OK", body);
        }
        "report" => {
            let mut reports = world.reports.lock().unwrap();
            let say = (world.answer)(&request.form, reports.len());
            reports.push(request.form);
            match say {
                Say::Status(200) => answer(stream, "200 OK", b"{}"),
                Say::Status(status) => answer(stream, &format!("{status} No"), br#"{"code":"session_closed"}"#),
                Say::Busy => answer(stream, "503 Busy\r\nRetry-After: 0", b""),
                Say::HangUp => {}
            }
        }
        _ => answer(stream, "404 Not Found", b""),
    }
}

fn image(world: &World, request: &Request, mut stream: TcpStream) {
    let from = request.range.filter(|_| world.image.resumes);
    let body = &world.image.body[from.unwrap_or(0)..];
    let status = match from {
        Some(from) => {
            let size = world.image.body.len();
            format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}", size - 1)
        }
        None => "200 OK".to_owned(),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    if request.method == "HEAD" {
        return;
    }
    let half = body.len() / 2;
    let end = world.image.cut_after.unwrap_or(body.len()).min(body.len());
    // A device that gives up closes the connection: no fault of the test.
    let _ = stream.write_all(&body[..half.min(end)]);
    if world.image.wait_for_progress {
        let waiting = world.progress.lock().unwrap().1.take().unwrap();
        let form = waiting.iter().find(|form| form["bytes"][0] != "0").unwrap();
        assert_eq!(form["step"], ["write"]);
    }
    let _ = stream.write_all(&body[half.min(end)..end]);
}

fn firmware(world: &World, mut stream: TcpStream) {
    let body = &world.image.firmware;
    let cut = world.downloads.fetch_add(1, Ordering::Relaxed) < world.image.cuts;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(&body[..if cut { body.len() / 2 } else { body.len() }]);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut length, mut authorised, mut range) = (0, false, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "range" => range = Some(value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?),
            "authorization" => authorised = value == "Bearer secret-token",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Request { method, path, authorised, range, form: fields(&body), body })
}

fn fields(body: &str) -> Form {
    let mut form = Form::new();
    for (name, value) in body.split('&').filter_map(|pair| pair.split_once('=')) {
        form.entry(name.to_owned()).or_default().push(decoded(value));
    }
    form
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn answer(mut stream: TcpStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
