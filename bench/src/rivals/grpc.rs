//! tonic: one bidirectional stream of messages, or a unary call for each request. The message is what its compiler
//! makes of `message Payload { bytes bytes = 1; }`, without a copy on reading; buffers and windows are large.

use super::{ANY, BATCH_BYTES, Ready, as_it_comes};
use crate::case::Task;
use crate::work::{Driver, Outcome, Pool, Sink, Step};
use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt};
use http::uri::PathAndQuery;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::net::{TcpListener, TcpStream};
use tonic::codec::{BufferSettings, Codec};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

const SERVICE: &str = "bench.Bench";
const STREAM: &str = "/bench.Bench/Stream";
const UNARY: &str = "/bench.Bench/Unary";

/// Flow control of HTTP/2: out of the way.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// The default of 16 KiB makes 64 frames of a large message.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

/// tonic's own codec with larger buffers.
#[derive(Debug, Clone, Copy, Default)]
struct Buffered;

impl Codec for Buffered {
    type Encode = Payload;
    type Decode = Payload;
    type Encoder = ProstEncoder<Payload>;
    type Decoder = ProstDecoder<Payload>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Payload, Payload>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Payload, Payload>::raw_decoder(settings())
    }
}

/// Each unary call allocates the buffer anew, so it stays small; it grows with what it holds.
fn settings() -> BufferSettings {
    BufferSettings::new(8 * 1024, BATCH_BYTES)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// ------------------------------------------------------------------------------------------------- server

/// What tonic's compiler would write for the two methods.
#[derive(Debug, Clone)]
struct Bench {
    sink: Arc<Mutex<Sink>>,
}

impl tonic::server::NamedService for Bench {
    const NAME: &'static str = SERVICE;
}

type Replies = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

impl tower::Service<http::Request<tonic::body::Body>> for Bench {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let sink = Arc::clone(&self.sink);
        let is_unary = request.uri().path() == UNARY;
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Buffered);
            Ok(if is_unary {
                let answer = tower::service_fn(move |request: Request<Payload>| {
                    std::future::ready(match lock(&sink).take(&request.get_ref().bytes) {
                        Some(reply) => Ok(Response::new(Payload { bytes: Bytes::copy_from_slice(&reply) })),
                        None => Err(Status::invalid_argument("this needs no reply")),
                    })
                });
                grpc.unary(answer, request).await
            } else {
                let answer = tower::service_fn(move |request: Request<Streaming<Payload>>| {
                    let replies: Replies = Box::pin(replies(request.into_inner(), Arc::clone(&sink)));
                    std::future::ready(Ok::<_, Status>(Response::new(replies)))
                });
                grpc.streaming(answer, request).await
            })
        })
    }
}

/// Takes messages until one wants a reply.
fn replies(
    messages: Streaming<Payload>,
    sink: Arc<Mutex<Sink>>,
) -> impl Stream<Item = Result<Payload, Status>> + Send {
    stream::unfold((messages, sink), |(mut messages, sink)| async move {
        loop {
            match messages.next().await? {
                Ok(message) => {
                    let reply = lock(&sink).take(&message.bytes);
                    if let Some(reply) = reply {
                        return Some((
                            Ok(Payload { bytes: Bytes::copy_from_slice(&reply) }),
                            (messages, sink),
                        ));
                    }
                }
                Err(status) => return Some((Err(status), (messages, sink))),
            }
        }
    })
}

pub(super) async fn serve(task: Task, ready: Ready, sink: Sink) -> Result<()> {
    let listener = TcpListener::bind(ANY).await?;
    ready(listener.local_addr()?)?;
    let incoming = stream::unfold((listener, task), |(listener, task)| async move {
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            as_it_comes(&task, &stream).map_err(std::io::Error::other)?;
            Ok::<TcpStream, std::io::Error>(stream)
        };
        Some((accepted.await, (listener, task)))
    });
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .add_service(Bench { sink: Arc::new(Mutex::new(sink)) })
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

// ------------------------------------------------------------------------------------------------- client

async fn client(task: &Task, server: SocketAddr) -> Result<tonic::client::Grpc<Channel>> {
    let task = task.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let task = task.clone();
        async move {
            let stream = TcpStream::connect(server).await?;
            as_it_comes(&task, &stream).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_shared(format!("http://{server}"))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .connect_with_connector(connector)
        .await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    Ok(client)
}

/// The requests, as tonic asks for them.
struct Requests {
    shared: Arc<Mutex<Shared>>,
    pool: Pool,
}

struct Shared {
    driver: Driver,
    /// Who asked for more when there was none.
    waiting: Option<Waker>,
}

impl Stream for Requests {
    type Item = Payload;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Payload>> {
        let this = self.get_mut();
        let mut shared = lock(&this.shared);
        match shared.driver.step() {
            Step::Send(item) => Poll::Ready(Some(Payload { bytes: this.pool.bytes(item) })),
            Step::Wait => {
                shared.waiting = Some(context.waker().clone());
                Poll::Pending
            }
            Step::Done => Poll::Ready(None),
        }
    }
}

pub(super) async fn drive_stream(task: Task, server: SocketAddr, driver: Driver) -> Result<Outcome> {
    let mut client = client(&task, server).await?;
    let shared = Arc::new(Mutex::new(Shared { driver, waiting: None }));
    let requests = Requests { shared: Arc::clone(&shared), pool: Pool::default() };
    let response =
        client.streaming(Request::new(requests), PathAndQuery::from_static(STREAM), Buffered).await?;
    let mut replies = response.into_inner();
    while let Some(reply) = replies.next().await {
        let mut shared = lock(&shared);
        shared.driver.reply(&reply?.bytes)?;
        if let Some(waiting) = shared.waiting.take() {
            waiting.wake();
        }
    }
    // tonic lets go of the requests once it has seen their end.
    drop(client);
    let shared = Arc::into_inner(shared).ok_or_else(|| anyhow!("the stream ended too early"))?;
    shared.into_inner().unwrap_or_else(PoisonError::into_inner).driver.finish()
}

pub(super) async fn drive_unary(task: Task, server: SocketAddr, mut driver: Driver) -> Result<Outcome> {
    let client = client(&task, server).await?;
    let mut pool = Pool::default();
    let mut calls = FuturesUnordered::new();
    loop {
        match driver.step() {
            Step::Send(item) => {
                let mut client = client.clone();
                let request = Request::new(Payload { bytes: pool.bytes(item) });
                calls.push(async move {
                    client.ready().await?;
                    client
                        .unary(request, PathAndQuery::from_static(UNARY), Buffered)
                        .await
                        .map_err(anyhow::Error::from)
                });
            }
            Step::Wait => {
                let reply: Payload = calls.next().await.context("nothing under way")??.into_inner();
                driver.reply(&reply.bytes)?;
            }
            Step::Done => return driver.finish(),
        }
    }
}
