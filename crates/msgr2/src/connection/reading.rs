//! What came in, as far as the state allows: the banner, then frames. Where each frame goes.

use super::{Buffers, Connection, State};
use crate::error::ConnectionError;
use crate::frame::{Incoming, Landing, Lengths, Revision, Side, Tag};
use crate::wire::{
    BANNER_PREFIX_BYTES, Banner, Control, FEATURE_COMPRESSION, FEATURE_REVISION_1, Hello, MessageHeader,
    Stamp,
};
use bytes::{Bytes, BytesMut};
use outlast_session::{Budget, Instant};

impl Connection {
    /// Decodes what is buffered, as far as the state allows: once the endpoint or the session has to decide
    /// something, what follows waits for it.
    pub(super) fn parse(&mut self, now: Instant) -> Result<(), ConnectionError> {
        loop {
            if self.request.is_some() || self.reply.is_some() || self.ending.is_some() {
                return Ok(());
            }
            match self.state {
                State::BannerConnecting | State::BannerAccepting => {
                    if !self.take_banner()? {
                        return Ok(());
                    }
                    continue;
                }
                State::SessionOpening | State::SessionDeciding | State::AuthStandby | State::Closed => {
                    return Ok(());
                }
                State::HelloConnecting
                | State::AuthConnecting
                | State::AuthConnectingSign
                | State::CompressionConnecting
                | State::SessionConnecting
                | State::SessionReconnecting
                | State::HelloAccepting
                | State::AuthAccepting
                | State::AuthAcceptingMore
                | State::AuthAcceptingSign
                | State::CompressionAccepting
                | State::SessionAccepting
                | State::Ready => {}
            }
            let mut gate = Gate {
                ready: self.state == State::Ready,
                budget: &mut self.budget,
                admitted: &mut self.admitted,
                buffers: self.buffers.as_deref_mut(),
            };
            match self.decoder.next(&mut gate)? {
                None => return Ok(()),
                Some(Incoming::Control { tag, payload }) => self.take_control(tag, &payload, now)?,
                Some(Incoming::Message(frame)) => {
                    if self.state != State::Ready {
                        return Err(ConnectionError::Unexpected { tag: Tag::Message, state: self.state });
                    }
                    // Admitted by its length on the wire; it counts by what it has become.
                    let admitted = self.admitted.take().unwrap_or(0);
                    let len = frame.front.len() + frame.middle.len() + frame.data.len();
                    self.budget.bytes = self.budget.bytes.saturating_sub(len.saturating_sub(admitted));
                    self.take_message(frame);
                }
                // Dropped by its sender; the budget comes back at the next `sync`.
                Some(Incoming::Aborted { .. }) => self.admitted = None,
            }
        }
    }

    /// Both banners go out at once; ours did when the connection was made.
    fn take_banner(&mut self) -> Result<bool, ConnectionError> {
        let len = match self.banner_len {
            Some(len) => len,
            None => {
                let Some(prefix) = self.decoder.take_raw(BANNER_PREFIX_BYTES) else { return Ok(false) };
                let mut fixed = [0; BANNER_PREFIX_BYTES];
                fixed.copy_from_slice(&prefix);
                *self.banner_len.insert(Banner::payload_len(&fixed)?)
            }
        };
        let Some(payload) = self.decoder.take_raw(len) else { return Ok(false) };
        let banner = Banner::decode_payload(&payload)?;
        let missing = banner.required & !self.config.msgr2_supported;
        if missing != 0 {
            return Err(ConnectionError::PeerRequires { missing });
        }
        let missing = self.config.msgr2_required & !banner.supported;
        if missing != 0 {
            return Err(ConnectionError::PeerLacks { missing });
        }
        // There is no confirming frame: each end switches when it has seen both banners.
        let both = banner.supported & self.config.msgr2_supported;
        self.agreement.revision_1 = both & FEATURE_REVISION_1 != 0;
        let revision = if self.agreement.revision_1 { Revision::V1 } else { Revision::V0 };
        self.encoder.set_revision(revision);
        self.decoder.set_revision(revision);
        self.agreement.peer_banner = Some(banner);
        self.send(&Hello { entity_type: self.config.entity_type, peer_address: self.peer_socket })?;
        self.set_state(match self.side {
            Side::Client => State::HelloConnecting,
            Side::Server => State::HelloAccepting,
        });
        Ok(true)
    }

    fn take_control(&mut self, tag: Tag, payload: &Bytes, now: Instant) -> Result<(), ConnectionError> {
        let control = Control::decode(tag, payload)?;
        match self.state {
            State::HelloConnecting
            | State::AuthConnecting
            | State::AuthConnectingSign
            | State::CompressionConnecting
            | State::SessionConnecting
            | State::SessionReconnecting => self.connector_control(control),
            State::HelloAccepting
            | State::AuthAccepting
            | State::AuthAcceptingMore
            | State::AuthAcceptingSign
            | State::CompressionAccepting
            | State::SessionAccepting => self.acceptor_control(control, now),
            State::Ready => self.ready_control(control, now),
            State::BannerConnecting
            | State::SessionOpening
            | State::BannerAccepting
            | State::AuthStandby
            | State::SessionDeciding
            | State::Closed => Err(ConnectionError::Unexpected { tag, state: self.state }),
        }
    }

    pub(super) fn unexpected<T>(&self, control: &Control) -> Result<T, ConnectionError> {
        Err(ConnectionError::Unexpected { tag: control.tag(), state: self.state })
    }

    /// Whether compression frames are exchanged: both ends said that they can.
    pub(super) fn compression_spoken(&self) -> bool {
        let peer = self.agreement.peer_banner.as_ref().map_or(0, |b| b.supported);
        peer & self.config.msgr2_supported & FEATURE_COMPRESSION != 0
    }

    pub(super) fn now_stamp(now: Instant) -> Stamp {
        let nanos = now.as_nanos();
        // The stamp is ours alone to read again; only whole seconds beyond 2106 would wrap.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "remainder of a division by a billion; seconds wrap"
        )]
        Stamp { seconds: (nanos / 1_000_000_000) as u32, nanoseconds: (nanos % 1_000_000_000) as u32 }
    }
}

/// Admits message bodies as far as the budget goes, and finds their buffers.
struct Gate<'a> {
    ready: bool,
    budget: &'a mut Budget,
    admitted: &'a mut Option<usize>,
    buffers: Option<&'a mut (dyn Buffers + 'static)>,
}

impl Landing for Gate<'_> {
    fn admit(&mut self, lengths: Lengths) -> bool {
        // Before the session is bound the limits let no payload in, and a message without is an error once it is read.
        if !self.ready {
            return true;
        }
        let len = usize::try_from(lengths.total()).unwrap_or(usize::MAX);
        let admits = self.budget.try_take(len);
        if admits {
            *self.admitted = Some(len);
        }
        admits
    }

    fn buffer(&mut self, header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
        self.buffers.as_mut()?.buffer(header, data_len)
    }
}
