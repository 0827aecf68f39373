//! One connection, spoken frame by frame: a probe wants to see what a state machine would take care of by itself.

use outlast_cephx::Key;
use outlast_msgr2::compress::{Algorithm, COMPRESS_THRESHOLD_BYTES, Compressor, Decompressor};
use outlast_msgr2::frame::{
    AdmitAll, FrameDecoder, FrameEncoder, Incoming, Limits, OutBuf, Revision, Side, TRANSCRIPT_BYTES_MAX,
    Tag, secure_pair,
};
use outlast_msgr2::wire::{
    AuthDone, AuthSignature, BANNER_PREFIX_BYTES, Banner, CompressionMethod, ConnectionMode, Control,
    FEATURE_REVISION_1,
};
use outlast_net::Socket;
use std::fmt;
use std::io::{self, IoSlice};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Messages that a peer may put before the control frame that is waited for.
const OTHERS_MAX: u32 = 16;
/// Slices that are written at once.
const SLICES: usize = 16;

/// Why a step failed.
#[derive(Debug)]
pub(super) enum WireError {
    /// The stream ended or the socket failed: many a refusal is said this way.
    Lost(io::Error),
    /// Nothing came in time.
    Silent(Duration),
    /// What came is no msgr2, or breaks its rules.
    Broken(String),
    /// Another frame than this step knows.
    Unexpected(Tag),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the peer closed the connection")
            }
            Self::Lost(e) => write!(f, "the connection was lost: {e}"),
            Self::Silent(time) => write!(f, "nothing came within {}", crate::units::duration(*time)),
            Self::Broken(what) => f.write_str(what),
            Self::Unexpected(tag) => write!(f, "an unexpected {tag} frame"),
        }
    }
}

impl From<io::Error> for WireError {
    fn from(e: io::Error) -> Self {
        Self::Lost(e)
    }
}

fn broken(error: impl fmt::Display) -> WireError {
    WireError::Broken(error.to_string())
}

type Result<T> = std::result::Result<T, WireError>;

/// The connection.
pub(super) struct Wire {
    socket: Socket,
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    out: OutBuf,
    /// How long each read may take.
    patience: Duration,
}

impl Wire {
    pub(super) fn new(socket: Socket, patience: Duration) -> Self {
        let mut decoder = FrameDecoder::new(Limits::BEFORE_AUTHENTICATION);
        decoder.start_recording(TRANSCRIPT_BYTES_MAX);
        let mut out = OutBuf::new();
        out.start_recording();
        Self { socket, decoder, encoder: FrameEncoder::new(), out, patience }
    }

    async fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.out.slices(&mut slices);
            let written = match &mut self.socket {
                Socket::Tcp(stream) => stream.write_vectored(&slices[..filled]).await?,
                Socket::Unix(stream) => stream.write_vectored(&slices[..filled]).await?,
            };
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.out.advance(written);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let buffer = self.decoder.poll_read();
        let read = async {
            match &mut self.socket {
                Socket::Tcp(stream) => stream.read(buffer).await,
                Socket::Unix(stream) => stream.read(buffer).await,
            }
        };
        let len = tokio::time::timeout(self.patience, read)
            .await
            .map_err(|_| WireError::Silent(self.patience))??;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.decoder.handle_read(len);
        Ok(())
    }

    async fn raw(&mut self, len: usize) -> Result<bytes::Bytes> {
        loop {
            if let Some(bytes) = self.decoder.take_raw(len) {
                return Ok(bytes);
            }
            self.read().await?;
        }
    }

    /// Exchanges banners; from then on frames are those of the revision that both know.
    pub(super) async fn banner(&mut self, ours: Banner) -> Result<Banner> {
        self.out.push_raw(&ours.encode());
        self.flush().await?;
        let mut prefix = [0; BANNER_PREFIX_BYTES];
        prefix.copy_from_slice(&self.raw(BANNER_PREFIX_BYTES).await?);
        let len = Banner::payload_len(&prefix).map_err(broken)?;
        let payload = self.raw(len).await?;
        let theirs = Banner::decode_payload(&payload).map_err(broken)?;
        let both = ours.supported & theirs.supported;
        let revision = if both & FEATURE_REVISION_1 != 0 { Revision::V1 } else { Revision::V0 };
        self.encoder.set_revision(revision);
        self.decoder.set_revision(revision);
        Ok(theirs)
    }

    pub(super) async fn send(&mut self, control: impl Into<Control>) -> Result<()> {
        self.encoder.encode_control(&control.into(), &mut self.out).map_err(broken)?;
        self.flush().await
    }

    /// The next control frame. Messages are passed over: nobody asked for them.
    pub(super) async fn receive(&mut self) -> Result<Control> {
        let mut others = 0;
        while others < OTHERS_MAX {
            match self.decoder.next(&mut AdmitAll).map_err(broken)? {
                Some(Incoming::Control { tag, payload }) => {
                    return Control::decode(tag, &payload).map_err(broken);
                }
                Some(Incoming::Message(_) | Incoming::Aborted { .. }) => others += 1,
                None => self.read().await?,
            }
        }
        Err(WireError::Broken("the peer talks of other things".to_owned()))
    }

    /// Frames may be compressed from now on.
    pub(super) fn compress(&mut self, method: CompressionMethod) -> Result<()> {
        let algorithm = Algorithm::from_method(method)
            .ok_or_else(|| broken(format_args!("the peer chose {method}, which was not offered")))?;
        self.encoder.set_compression(Some(Compressor::new(algorithm, COMPRESS_THRESHOLD_BYTES)));
        self.decoder.set_decompression(Some(Decompressor::new(algorithm)));
        Ok(())
    }

    /// After AUTH_DONE: signs what was said, checks the peer's signature, and turns to the mode that was agreed.
    pub(super) async fn sign(
        &mut self,
        done: &AuthDone,
        key: Option<&Key>,
        secret: Option<&[u8]>,
    ) -> Result<()> {
        let received = self.decoder.take_transcript().map_err(broken)?;
        let sent = self.out.take_transcript().map_err(broken)?;
        let digest = key.map_or([0; 32], |key| key.hmac_sha256(&[&received]));
        if done.mode == ConnectionMode::SECURE {
            let secret = secret.ok_or_else(|| broken("the peer chose secure mode without a secret"))?;
            let (sealer, opener) =
                secure_pair(secret, Side::Client, self.encoder.revision()).map_err(broken)?;
            self.encoder.set_sealer(sealer);
            self.decoder.set_opener(opener);
        }
        self.send(AuthSignature { digest }).await?;
        let answer = self.receive().await?;
        let Control::AuthSignature(AuthSignature { digest: theirs }) = answer else {
            return Err(WireError::Unexpected(answer.tag()));
        };
        let genuine = match key {
            Some(key) => key.verify_hmac_sha256(&[&sent], &theirs),
            None => theirs == [0; 32],
        };
        if !genuine {
            return Err(broken(
                "the peer's signature does not cover what we sent: somebody changed the handshake",
            ));
        }
        self.decoder.set_limits(Limits::READY);
        Ok(())
    }
}
