//! A file as the body of a request, read as the network takes it, with a bar on a terminal and lines elsewhere.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, stderr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::remote::client::{Outgoing, Trouble};

const CHUNK: usize = 256 << 10;

struct Upload {
    file: File,
    left: u64,
    size: u64,
    bar: ProgressBar,
    told: u64,
}

pub fn of(path: &Path) -> Result<Outgoing, Trouble> {
    let wrong = |error: std::io::Error| Trouble::Here(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    if !metadata.is_file() {
        return Err(Trouble::Here(format!("{} is not a file", path.display())));
    }
    let size = metadata.len();
    let bar = if stderr().is_terminal() {
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        ProgressBar::new(size).with_style(style.expect("the template is right"))
    } else {
        ProgressBar::hidden()
    };
    Ok(Upload { file, left: size, size, bar, told: 0 }.boxed_unsync())
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            self.bar.finish_and_clear();
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK))];
        // Nothing else runs on this thread; a disk is faster than a network.
        match self.file.read(&mut chunk) {
            Ok(0) => Poll::Ready(Some(Err(std::io::Error::other("the file became shorter")))),
            Ok(read) => {
                chunk.truncate(read);
                self.left -= read as u64;
                self.tell();
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Upload {
    fn tell(&mut self) {
        let done = self.size - self.left;
        self.bar.set_position(done);
        let percent = done * 100 / self.size.max(1);
        if self.bar.is_hidden() && percent / 10 > self.told / 10 {
            self.told = percent;
            eprintln!("{percent} % of {} bytes", self.size);
        }
    }
}
