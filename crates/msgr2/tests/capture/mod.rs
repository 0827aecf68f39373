//! The captures of `golden/`, read with the decoder and said again with the encoder, frame by frame.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part; unreadable is failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use outlast_msgr2::frame::{
    AdmitAll, FrameDecoder, FrameEncoder, Incoming, Limits, OutBuf, Revision, Side, Tag, secure_pair,
};
use outlast_msgr2::wire::{BANNER_PREFIX_BYTES, Banner, Control, FEATURE_REVISION_1};

pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders of the cases whose names begin like this.
pub fn cases(prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect();
    found.sort();
    found
}

/// What `about.txt` of a case says under this name.
pub fn about(case: &Path, name: &str) -> String {
    let text = fs::read_to_string(case.join("about.txt")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("{}: no {name}", case.display())).to_owned()
}

/// The connection that a case holds under this name: client's direction, server's direction.
pub fn connection(case: &Path, name: &str) -> [Direction; 2] {
    [
        Direction::open(&case.join(name).join("client.bin"), Side::Client),
        Direction::open(&case.join(name).join("server.bin"), Side::Server),
    ]
}

pub fn bytes_of(out: &mut OutBuf) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let count = out.slices(&mut slices);
        let before = bytes.len();
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        out.advance(bytes.len() - before);
    }
    bytes
}

/// What one end said on one connection. Every frame that is taken out has been encoded again to its own bytes.
pub struct Direction {
    shown: String,
    side: Side,
    bytes: Vec<u8>,
    fed: usize,
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    pub banner: Banner,
    /// Where the next frame begins, as our own encoder counts.
    at: usize,
}

impl Direction {
    fn open(path: &Path, side: Side) -> Self {
        let mut direction = Self {
            shown: path.strip_prefix(golden()).unwrap().display().to_string(),
            side,
            bytes: fs::read(path).unwrap(),
            fed: 0,
            decoder: FrameDecoder::new(Limits::READY),
            encoder: FrameEncoder::new(),
            banner: Banner { supported: 0, required: 0 },
            at: 0,
        };
        direction.feed();
        let prefix = direction.decoder.take_raw(BANNER_PREFIX_BYTES).unwrap();
        let len = Banner::payload_len(prefix[..].try_into().unwrap()).unwrap();
        let payload = direction.decoder.take_raw(len).unwrap();
        direction.banner = Banner::decode_payload(&payload).unwrap();
        let again = direction.banner.encode();
        assert_eq!(again, direction.bytes[..again.len()]);
        direction.at = again.len();
        direction
    }

    /// Hands over what there is room for.
    fn feed(&mut self) {
        let room = self.decoder.poll_read();
        let len = room.len().min(self.bytes.len() - self.fed);
        room[..len].copy_from_slice(&self.bytes[self.fed..self.fed + len]);
        self.decoder.handle_read(len);
        self.fed += len;
    }

    pub fn set_revision(&mut self, revision: Revision) {
        self.decoder.set_revision(revision);
        self.encoder.set_revision(revision);
    }

    /// From here on everything is encrypted.
    pub fn set_secret(&mut self, secret: &[u8]) {
        let revision = self.encoder.revision();
        let (sealer, _) = secure_pair(secret, self.side, revision).unwrap();
        let other = match self.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        let (_, opener) = secure_pair(secret, other, revision).unwrap();
        self.encoder.set_sealer(sealer);
        self.decoder.set_opener(opener);
    }

    /// The next frame; `None` at the end, or where the capture cuts a frame.
    pub fn next(&mut self) -> Option<Incoming> {
        let frame = loop {
            match self.decoder.next(&mut AdmitAll).unwrap_or_else(|error| panic!("{}: {error}", self.shown)) {
                Some(frame) => break frame,
                None if self.fed == self.bytes.len() => return None,
                None => self.feed(),
            }
        };
        let mut out = OutBuf::new();
        match &frame {
            Incoming::Control { tag, payload } => {
                let control = Control::decode(*tag, payload).unwrap();
                self.encoder.encode_control(&control, &mut out).unwrap();
            }
            Incoming::Message(message) => {
                let (front, middle, data) = (&message.front, &message.middle, &message.data);
                self.encoder.encode_message(&message.header, front, middle, data, &mut out).unwrap();
            }
            Incoming::Aborted { .. } => panic!("{}: Ceph aborts no frames", self.shown),
        }
        let again = bytes_of(&mut out);
        let said = &self.bytes[self.at..self.bytes.len().min(self.at + again.len())];
        assert!(again == said, "{}: {} at byte {} is encoded otherwise", self.shown, tag_of(&frame), self.at);
        self.at += again.len();
        Some(frame)
    }

    /// The bytes of all that was taken out so far.
    pub fn said(&self) -> Vec<u8> {
        self.bytes[..self.at].to_vec()
    }

    /// All frames up to one with this tag, which must be there.
    pub fn until(&mut self, tag: Tag) -> Control {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("{}: no {tag}", self.shown));
            if let Incoming::Control { tag: found, payload } = frame
                && found == tag
            {
                return Control::decode(tag, &payload).unwrap();
            }
        }
    }

    /// All that is left. The stream ends with a whole frame, or within one.
    pub fn rest(&mut self) -> Vec<Incoming> {
        let frames: Vec<_> = std::iter::from_fn(|| self.next()).collect();
        assert_eq!(self.at + self.decoder.buffered(), self.bytes.len(), "{}", self.shown);
        assert_eq!(self.decoder.is_mid_frame(), self.at < self.bytes.len(), "{}", self.shown);
        frames
    }
}

pub fn tag_of(frame: &Incoming) -> Tag {
    match frame {
        Incoming::Control { tag, .. } => *tag,
        Incoming::Message(_) | Incoming::Aborted { .. } => Tag::Message,
    }
}

/// The revision that two banners agree on.
pub fn agree(connection: &mut [Direction; 2]) -> Revision {
    let both = connection[0].banner.supported & connection[1].banner.supported;
    let revision = if both & FEATURE_REVISION_1 == 0 { Revision::V0 } else { Revision::V1 };
    connection.iter_mut().for_each(|direction| direction.set_revision(revision));
    revision
}
