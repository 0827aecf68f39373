//! quinn: tokio's length-delimited codec over one bidirectional stream, which costs less than a stream for each
//! message. Datagrams as large as quinn can hand to the kernel.

use super::codec::{MESSAGE_BYTES_MAX, next_at_hand};
use super::{ANY, BATCH_BYTES, Ready};
use crate::work::{Driver, Outcome, Pool, Sink, Step};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// What a datagram may hold. quinn hands ten at a time to the kernel, which takes 64 KiB: with larger ones it loses
/// them all, and falls back to 1200.
const DATAGRAM_BYTES: u16 = 6000;
/// What the handshake begins with; larger ones are found from there.
const DATAGRAM_BYTES_FIRST: u16 = 1452;
/// Of data that was not taken yet: enough for loopback, and little enough to stay in the cache and the socket's buffer.
const WINDOW_BYTES: u32 = 256 * 1024;
/// Of a UDP socket: datagrams that do not fit are lost.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Payloads from this size on are handed over by reference, beside the codec.
const REFERENCE_BYTES_MIN: usize = 16 * 1024;

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(DATAGRAM_BYTES);
    transport
        .initial_mtu(DATAGRAM_BYTES_FIRST)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES));
    Arc::new(transport)
}

fn endpoint(server: Option<ServerConfig>) -> Result<Endpoint> {
    let socket = UdpSocket::bind(ANY)?;
    let buffers = socket2::SockRef::from(&socket);
    // The kernel may give less than is asked for.
    buffers.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    buffers.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(DATAGRAM_BYTES)?;
    Ok(Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))?)
}

pub(super) async fn serve(ready: Ready, mut sink: Sink) -> Result<()> {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
    let mut config = ServerConfig::with_single_cert(vec![certificate.cert.der().clone()], key.into())?;
    config.transport_config(transport());
    let endpoint = endpoint(Some(config))?;
    ready(endpoint.local_addr()?)?;
    let connection = endpoint.accept().await.context("the endpoint has ended")?.await?;
    let (send, receive) = connection.accept_bi().await?;
    let (mut writer, mut reader) = framed(send, receive);
    while let Some(message) = reader.next().await {
        let mut message = message?;
        loop {
            if let Some(reply) = sink.take(&message) {
                writer.feed(Bytes::copy_from_slice(&reply)).await?;
            }
            match next_at_hand(&mut reader) {
                Some(next) => message = next?,
                None => break,
            }
        }
        SinkExt::<Bytes>::flush(&mut writer).await?;
    }
    Ok(())
}

type Writer = FramedWrite<quinn::SendStream, LengthDelimitedCodec>;
type Reader = FramedRead<quinn::RecvStream, LengthDelimitedCodec>;

fn framed(send: quinn::SendStream, receive: quinn::RecvStream) -> (Writer, Reader) {
    let codec = || {
        let mut builder = LengthDelimitedCodec::builder();
        builder.max_frame_length(MESSAGE_BYTES_MAX).little_endian().new_codec()
    };
    let mut writer = FramedWrite::new(send, codec());
    writer.set_backpressure_boundary(BATCH_BYTES);
    (writer, FramedRead::with_capacity(receive, codec(), BATCH_BYTES))
}

pub(super) async fn drive(server: SocketAddr, mut driver: Driver) -> Result<Outcome> {
    let tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_no_client_auth();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    let endpoint = endpoint(None)?;
    let connection = endpoint.connect_with(config, server, "localhost")?.await?;
    let (send, receive) = connection.open_bi().await?;
    let (mut writer, mut reader) = framed(send, receive);
    let mut pool = Pool::default();
    loop {
        match driver.step() {
            Step::Send(item) if item.len >= REFERENCE_BYTES_MIN => {
                SinkExt::<Bytes>::flush(&mut writer).await?;
                let prefix = Bytes::copy_from_slice(&(item.len as u32).to_le_bytes());
                writer.get_mut().write_all_chunks(&mut [prefix, pool.bytes(item)]).await?;
            }
            Step::Send(item) => writer.feed(pool.bytes(item)).await?,
            Step::Wait => {
                SinkExt::<Bytes>::flush(&mut writer).await?;
                let reply = reader.next().await.context("the server has gone")??;
                driver.reply(&reply)?;
                while let Some(reply) = next_at_hand(&mut reader) {
                    driver.reply(&reply?)?;
                }
            }
            Step::Done => {
                // No farewell: it would take longer than many a run.
                return driver.finish();
            }
        }
    }
}

/// The server makes its certificate anew for every run; who it is does not matter here.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC is TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
