//! The ways in which an image may be packed, told by its content and read as plain bytes. What a decoder may take of
//! memory is bounded: a few kilobytes can ask for gigabytes. No runtime, no clock.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use xz2::stream::{Action, Error as XzError, MtStreamBuilder, Status, Stream};

use crate::core::image::Compression;
use crate::core::refusal::Refusal;

/// Enough for `xz -9` (64 MiB), and still little beside what a module has.
const XZ_MEMORY: u64 = 256 << 20;
/// Above this liblzma takes fewer threads: each holds a block and what it decodes to.
const XZ_THREADED: u64 = 96 << 20;
const XZ_THREADS: usize = 4;
/// `zstd --ultra -22` and `--long` want a window of 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

pub const LONGEST_MAGIC: usize = 6;
const PACKED: [(&[u8], Compression); 4] = [
    (b"\xfd7zXZ\0", Compression::Xz),
    (b"\x1f\x8b", Compression::Gz),
    (b"BZh", Compression::Bz2),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
];
const UNSUPPORTED: [(&[u8], &str); 6] = [
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x89LZO\0\r", "lzop"),
    (b"LZIP", "lzip"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x3a\xff\x26\xed", "an Android sparse image"),
];

/// By the content, never by the name of a file.
pub fn recognise(head: &[u8]) -> Result<Compression, Refusal> {
    if let Some((_, form)) = PACKED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Ok(*form);
    }
    // RFC 8878 §3.1.2: a file of zstd frames may begin with one to skip, as pzstd and some seekable files do.
    if matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        return Ok(Compression::Zstd);
    }
    match UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)) {
        None => Ok(Compression::Raw),
        Some((_, form)) => {
            let detail = format!(
                "the image is packed as {form}; this station takes xz, gzip, bzip2, zstd and plain images: repack it"
            );
            Err(Refusal::new(415, "unsupported_compression", detail))
        }
    }
}

/// How far a file has been read, and the word to stop.
#[derive(Debug, Default)]
pub struct Meter {
    pub done: AtomicU64,
    pub total: AtomicU64,
    pub cancelled: AtomicBool,
}

/// The file that is decoded, with its meter. Its own errors are told from those of a decoder.
pub struct Source<R> {
    file: R,
    meter: Arc<Meter>,
}

impl<R> Source<R> {
    pub fn new(file: R, meter: Arc<Meter>) -> Self {
        Self { file, meter }
    }
}

impl<R: BufRead> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.meter.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other(Halt::Cancelled));
        }
        self.file.fill_buf().map_err(|error| io::Error::other(Halt::Disk(error)))
    }

    fn consume(&mut self, amount: usize) {
        self.meter.done.fetch_add(amount as u64, Ordering::Relaxed);
        self.file.consume(amount);
    }
}

/// What is not the fault of the packed bytes.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("the image cannot be read")]
    Disk(#[source] io::Error),
    #[error("cancelled")]
    Cancelled,
    #[error("the xz decoder says: {0}")]
    Xz(XzError),
}

/// The plain bytes of a packed file, all of its streams, members or frames one after the other.
pub enum Plain<R: BufRead> {
    Raw(Source<R>),
    Xz(Box<XzReader<Source<R>>>),
    Gz(Box<MultiGzDecoder<Source<R>>>),
    Bz2(Box<MultiBzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>),
}

impl<R: BufRead> Plain<R> {
    pub fn new(source: Source<R>, form: Compression) -> io::Result<Self> {
        Ok(match form {
            Compression::Raw => Self::Raw(source),
            Compression::Xz => Self::Xz(Box::new(XzReader::new(source))),
            Compression::Gz => Self::Gz(Box::new(MultiGzDecoder::new(source))),
            Compression::Bz2 => Self::Bz2(Box::new(MultiBzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }
}

impl<R: BufRead> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Raw(plain) => plain.read(buffer),
            Self::Xz(plain) => plain.read(buffer),
            Self::Gz(plain) => plain.read(buffer),
            Self::Bz2(plain) => plain.read(buffer),
            Self::Zstd(plain) => plain.read(buffer),
        }
    }
}

/// An xz file: streams with padding of zeros between them. liblzma's threaded decoder ends after the first stream
/// without a word, and the plain one does too unless it is told otherwise; so the streams are walked here.
pub struct XzReader<R> {
    file: R,
    stream: Option<Stream>,
    /// Zeros since the last stream ended.
    padding: u64,
    first: bool,
}

impl<R: BufRead> XzReader<R> {
    fn new(file: R) -> Self {
        Self { file, stream: None, padding: 0, first: true }
    }

    /// At the end of the file, or a decoder for the stream that follows.
    fn next_stream(&mut self) -> io::Result<bool> {
        loop {
            let input = self.file.fill_buf()?;
            let zeros = input.iter().take_while(|byte| **byte == 0 && !self.first).count();
            let (empty, stream_follows) = (input.is_empty(), zeros < input.len());
            self.file.consume(zeros);
            self.padding += zeros as u64;
            if empty || stream_follows {
                if !self.padding.is_multiple_of(4) {
                    return Err(xz(XzError::Data));
                }
                self.padding = 0;
                if stream_follows {
                    self.stream = Some(xz_stream()?);
                    self.first = false;
                }
                return Ok(stream_follows);
            }
        }
    }
}

fn xz(error: XzError) -> io::Error {
    io::Error::other(Halt::Xz(error))
}

fn xz_stream() -> io::Result<Stream> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(XZ_THREADS);
    let mut builder = MtStreamBuilder::new();
    builder.threads(u32::try_from(threads).unwrap_or(1)).memlimit_threading(XZ_THREADED).memlimit_stop(XZ_MEMORY);
    builder.decoder().map_err(xz)
}

impl<R: BufRead> Read for XzReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if self.stream.is_none() && !self.next_stream()? {
                return Ok(0);
            }
            let Some(stream) = &mut self.stream else { return Ok(0) };
            let input = self.file.fill_buf()?;
            let end = input.is_empty();
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let action = if end { Action::Finish } else { Action::Run };
            let status = stream.process(input, buffer, action).map_err(xz)?;
            let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(0);
            let taken = moved(stream.total_in(), before_in);
            let given = moved(stream.total_out(), before_out);
            self.file.consume(taken);
            match status {
                Status::StreamEnd => self.stream = None,
                Status::MemNeeded if end => return Err(io::ErrorKind::UnexpectedEof.into()),
                Status::MemNeeded => return Err(xz(XzError::Data)),
                Status::Ok | Status::GetCheck => {}
            }
            if given > 0 {
                return Ok(given);
            }
        }
        Ok(0)
    }
}

/// Why a file cannot be decoded, for people. `at` is how far it was read.
pub fn refusal(error: &io::Error, form: Compression, at: u64) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Halt::Cancelled) => return Refusal::new(409, "canceled", "it was cancelled"),
        Some(Halt::Disk(error)) => return crate::images::ingest::refusal_of(error),
        Some(Halt::Xz(XzError::MemLimit | XzError::Mem)) => {
            let detail = format!("decoding it needs more than {} MiB; pack it with xz -9 or less", XZ_MEMORY >> 20);
            return Refusal::new(415, "unsupported_compression", detail);
        }
        Some(Halt::Xz(XzError::Options | XzError::UnsupportedCheck)) => {
            let detail = "the xz file uses filters that this station does not know";
            return Refusal::new(415, "unsupported_compression", detail);
        }
        Some(Halt::Xz(_)) | None => {}
    }
    let name = form.as_str();
    let code = format!("broken_{name}");
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Refusal::new(400, &code, format!("the {name} file is cut off: it ends in the middle, after {at} bytes"))
        }
        // The binding has nothing but libzstd's text.
        _ if form == Compression::Zstd && error.to_string().contains("too much memory") => {
            let detail = format!(
                "decoding it needs a window of more than {} MiB; pack it without --long",
                1 << (ZSTD_WINDOW_LOG - 20)
            );
            Refusal::new(415, "unsupported_compression", detail)
        }
        _ => Refusal::new(
            400,
            &code,
            format!("the {name} file is damaged, or something else follows it, before byte {at}"),
        ),
    }
}
