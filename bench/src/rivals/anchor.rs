//! The anchor: blocking sockets with the frames and checksums of msgr2.1, in crc and in secure mode, and
//! acknowledgements as often as Outlast sends them. No handshake, no session: nothing is kept, nothing is replayed.

use super::{BATCH_BYTES, Ready, accept, connect};
use crate::case::{Rival, Task};
use crate::work::{Driver, Outcome, Pool, Sink, Step};
use anyhow::{Result, ensure};
use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use outlast_msgr2::frame::{
    AdmitAll, FrameDecoder, FrameEncoder, Incoming, Limits, OutBuf, Revision, Side, secure_pair,
};
use outlast_msgr2::wire::{Ack, MESSAGE_FLAGS, MessageHeader};
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// Outlast's: this many messages or bytes may go unacknowledged.
const ACK_MESSAGES: u64 = 256;
const ACK_BYTES: usize = 512 * 1024;
/// Slices in a system call.
const SLICES: usize = 64;
/// Both processes know it: what cephx would give them takes no part in the measurement.
const SECRET: [u8; 40] = [7; 40];

struct Framed {
    stream: TcpStream,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    out: OutBuf,
    sent: u64,
    received: u64,
    unacked_messages: u64,
    unacked_bytes: usize,
}

impl Framed {
    fn new(task: &Task, stream: TcpStream, side: Side) -> Result<Self> {
        let mut encoder = FrameEncoder::new();
        let mut decoder = FrameDecoder::new(Limits::READY);
        encoder.set_revision(Revision::V1);
        decoder.set_revision(Revision::V1);
        if task.rival == Rival::AnchorSecure {
            let (sealer, opener) = secure_pair(&SECRET, side, Revision::V1)?;
            encoder.set_sealer(sealer);
            decoder.set_opener(opener);
        }
        let out = OutBuf::new();
        Ok(Self {
            stream,
            encoder,
            decoder,
            out,
            sent: 0,
            received: 0,
            unacked_messages: 0,
            unacked_bytes: 0,
        })
    }

    fn push(&mut self, data: &Bytes) -> Result<()> {
        self.sent += 1;
        self.unacked_messages = 0;
        self.unacked_bytes = 0;
        let header = MessageHeader {
            seq: self.sent,
            tid: self.sent,
            kind: 1,
            priority: 127,
            version: 1,
            ack_seq: self.received,
            flags: MESSAGE_FLAGS,
            compat_version: 1,
            ..MessageHeader::default()
        };
        let none = Bytes::new();
        self.encoder.encode_message(&header, &none, &none, data, &mut self.out)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.out.slices(&mut slices);
            let len = self.stream.write_vectored(&slices[..count])?;
            ensure!(len > 0, "the socket takes nothing");
            self.out.advance(len);
        }
        Ok(())
    }

    /// Waits until something came; `false` at the end of the stream.
    fn read(&mut self) -> Result<bool> {
        let len = self.stream.read(self.decoder.poll_read())?;
        self.decoder.handle_read(len);
        Ok(len > 0)
    }

    /// Reads what has come already.
    fn read_at_hand(&mut self) -> Result<()> {
        match recv(self.stream.as_raw_fd(), self.decoder.poll_read(), MsgFlags::MSG_DONTWAIT) {
            Ok(len) => self.decoder.handle_read(len),
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The next message that was read.
    fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(incoming) = self.decoder.next(&mut AdmitAll)? {
            match incoming {
                Incoming::Message(frame) => {
                    ensure!(frame.header.seq == self.received + 1, "out of order");
                    self.received += 1;
                    self.unacked_messages += 1;
                    self.unacked_bytes += frame.data.len();
                    return Ok(Some(frame.data));
                }
                Incoming::Control { .. } | Incoming::Aborted { .. } => {}
            }
        }
        Ok(None)
    }

    fn ack_if_due(&mut self) -> Result<()> {
        if self.unacked_messages >= ACK_MESSAGES || self.unacked_bytes >= ACK_BYTES {
            self.unacked_messages = 0;
            self.unacked_bytes = 0;
            self.encoder.encode_payload(&Ack { seq: self.received }, &mut self.out)?;
        }
        Ok(())
    }
}

pub(super) fn serve(task: &Task, ready: Ready, mut sink: Sink) -> Result<()> {
    let mut framed = Framed::new(task, accept(task, ready)?, Side::Server)?;
    while framed.read()? {
        while let Some(message) = framed.next()? {
            match sink.take(&message) {
                Some(reply) => framed.push(&Bytes::copy_from_slice(&reply))?,
                None => framed.ack_if_due()?,
            }
        }
        framed.flush()?;
    }
    Ok(())
}

pub(super) fn drive(task: &Task, server: SocketAddr, mut driver: Driver) -> Result<Outcome> {
    let mut framed = Framed::new(task, connect(task, server)?, Side::Client)?;
    let mut pool = Pool::default();
    loop {
        match driver.step() {
            Step::Send(item) => {
                framed.push(&pool.bytes(item))?;
                if framed.out.len() >= BATCH_BYTES {
                    framed.flush()?;
                    // Acknowledgements.
                    framed.read_at_hand()?;
                    while let Some(reply) = framed.next()? {
                        driver.reply(&reply)?;
                    }
                }
            }
            Step::Wait => {
                framed.flush()?;
                ensure!(framed.read()?, "the server has gone");
                while let Some(reply) = framed.next()? {
                    driver.reply(&reply)?;
                }
            }
            Step::Done => return driver.finish(),
        }
    }
}
