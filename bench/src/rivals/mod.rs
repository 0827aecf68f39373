//! One module for each rival. Each has a `serve` that takes one connection and feeds a
//! [`Sink`](crate::work::Sink) until it ends, and a `drive` that does what a [`Driver`](crate::work::Driver) says.
//!
//! Those on tokio run on a runtime of one thread, since each process has one core, and in a task of their own there:
//! what `block_on` itself runs pays a system call for each wake-up by another task.

mod anchor;
mod codec;
mod grpc;
mod messenger;
mod prefixed;
mod quic;
mod raw;
mod zmq;

use crate::case::{Rival, Task};
use crate::work::{Driver, Outcome, Sink};
use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// How much is collected before it is written, and read at a time.
const BATCH_BYTES: usize = 256 * 1024;

/// Outlast's own within one machine (`crates/net/src/socket.rs`).
const CONGESTION_CONTROL: &[u8] = b"reno";

/// Any port of the loopback interface.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Told where the server listens.
pub(crate) type Ready = Box<dyn FnOnce(SocketAddr) -> Result<()> + Send>;

/// The receiving end, until the client goes.
pub(crate) fn serve(task: Task, ready: Ready) -> Result<()> {
    let sink = Sink::new(&task);
    match task.rival {
        Rival::Raw => raw::serve(&task, ready, sink),
        Rival::AnchorCrc | Rival::AnchorSecure => anchor::serve(&task, ready, sink),
        Rival::TokioCodec => run(codec::serve(task, ready, sink)),
        Rival::TonicStream | Rival::TonicUnary => run(grpc::serve(task, ready, sink)),
        Rival::Quinn => run(quic::serve(ready, sink)),
        Rival::ZeroMq => run(zmq::serve(ready, sink)),
        Rival::OutlastCrc | Rival::OutlastSecure | Rival::OutlastAsCeph => {
            run(messenger::serve(task, ready, sink))
        }
        Rival::CephPerf => bail!("not a rival of this program's making"),
    }
}

/// The sending end.
pub(crate) fn drive(task: Task, server: SocketAddr) -> Result<Outcome> {
    let driver = Driver::new(&task)?;
    match task.rival {
        Rival::Raw => raw::drive(&task, server, driver),
        Rival::AnchorCrc | Rival::AnchorSecure => anchor::drive(&task, server, driver),
        Rival::TokioCodec => run(codec::drive(task, server, driver)),
        Rival::TonicStream => run(grpc::drive_stream(task, server, driver)),
        Rival::TonicUnary => run(grpc::drive_unary(task, server, driver)),
        Rival::Quinn => run(quic::drive(server, driver)),
        Rival::ZeroMq => run(zmq::drive(server, driver)),
        Rival::OutlastCrc | Rival::OutlastSecure | Rival::OutlastAsCeph => {
            run(messenger::drive(task, server, driver))
        }
        Rival::CephPerf => bail!("not a rival of this program's making"),
    }
}

fn run<T: Send + 'static>(rival: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio's runtime")?;
    runtime.block_on(async { tokio::spawn(rival).await })?
}

/// Takes one connection, blocking.
fn accept(task: &Task, ready: Ready) -> Result<TcpStream> {
    let listener = TcpListener::bind(ANY)?;
    unpaced(&listener)?;
    ready(listener.local_addr()?)?;
    let (stream, _) = listener.accept()?;
    tune(task, &stream)?;
    Ok(stream)
}

/// Connects, blocking.
fn connect(task: &Task, server: SocketAddr) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    unpaced(&socket)?;
    socket.connect(&server.into())?;
    let stream = TcpStream::from(socket);
    tune(task, &stream)?;
    Ok(stream)
}

/// Before it listens or connects: a socket that BBR has once had goes on pacing.
fn unpaced<'s>(socket: impl Into<socket2::SockRef<'s>>) -> Result<()> {
    Ok(socket.into().set_tcp_congestion(CONGESTION_CONTROL)?)
}

/// As Outlast sets its own sockets within one machine: small messages at once, what waits to be sent stays in the
/// cache, and, with [`unpaced`], no congestion control that paces. Else a comparison of frames and sessions would be one of sockets.
fn tune<'s>(task: &Task, stream: impl Into<socket2::SockRef<'s>>) -> Result<()> {
    let socket = stream.into();
    socket.set_tcp_nodelay(true)?;
    match task.socket_buffer_bytes {
        0 => socket.set_send_buffer_size(outlast_net::LOCAL_SEND_BUFFER_BYTES)?,
        bytes => bound_buffers(&socket, bytes)?,
    }
    Ok(())
}

/// Small messages at once, and the rest as the system has it: what a program gets that takes the library for it.
fn as_it_comes<'s>(task: &Task, stream: impl Into<socket2::SockRef<'s>>) -> Result<()> {
    let socket = stream.into();
    socket.set_tcp_nodelay(true)?;
    if task.socket_buffer_bytes > 0 {
        bound_buffers(&socket, task.socket_buffer_bytes)?;
    }
    Ok(())
}

fn bound_buffers(socket: &socket2::SockRef<'_>, bytes: usize) -> Result<()> {
    socket.set_send_buffer_size(bytes)?;
    socket.set_recv_buffer_size(bytes)?;
    Ok(())
}
