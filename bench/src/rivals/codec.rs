//! tokio's length-delimited codec, as a program that cares would use it: buffers of 256 KiB, one task on each end,
//! a flush only when there is nothing more to write.

use super::{ANY, BATCH_BYTES, Ready, tune, unpaced};
use crate::case::Task;
use crate::work::{Driver, Outcome, Pool, Sink, Step};
use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio::io::AsyncRead;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The codec's own limit is 8 MiB; said here so that it stays above the largest payload.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

type Writer = FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>;
type Reader = FramedRead<OwnedReadHalf, LengthDelimitedCodec>;

fn framed(task: &Task, stream: TcpStream) -> Result<(Writer, Reader)> {
    tune(task, &stream)?;
    let (read, write) = stream.into_split();
    let codec = || LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_codec();
    let mut writer = FramedWrite::new(write, codec());
    writer.set_backpressure_boundary(BATCH_BYTES);
    Ok((writer, FramedRead::with_capacity(read, codec(), BATCH_BYTES)))
}

pub(super) async fn serve(task: Task, ready: Ready, mut sink: Sink) -> Result<()> {
    let listener = TcpListener::bind(ANY).await?;
    unpaced(&listener)?;
    ready(listener.local_addr()?)?;
    let (mut writer, mut reader) = framed(&task, listener.accept().await?.0)?;
    while let Some(message) = reader.next().await {
        let mut message = message?;
        loop {
            if let Some(reply) = sink.take(&message) {
                writer.feed(Bytes::copy_from_slice(&reply)).await?;
            }
            // What is already here is answered together.
            match next_at_hand(&mut reader) {
                Some(next) => message = next?,
                None => break,
            }
        }
        SinkExt::<Bytes>::flush(&mut writer).await?;
    }
    Ok(())
}

async fn connect(server: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    unpaced(&socket)?;
    Ok(socket.connect(server).await?)
}

pub(super) async fn drive(task: Task, server: SocketAddr, mut driver: Driver) -> Result<Outcome> {
    let (mut writer, mut reader) = framed(&task, connect(server).await?)?;
    let mut pool = Pool::default();
    loop {
        match driver.step() {
            Step::Send(item) => writer.feed(pool.bytes(item)).await?,
            Step::Wait => {
                SinkExt::<Bytes>::flush(&mut writer).await?;
                let reply = reader.next().await.context("the server has gone")??;
                driver.reply(&reply)?;
                while let Some(reply) = next_at_hand(&mut reader) {
                    driver.reply(&reply?)?;
                }
            }
            Step::Done => return driver.finish(),
        }
    }
}

/// The next message, if it has been read already or can be at once.
pub(super) fn next_at_hand<R: AsyncRead + Unpin>(
    reader: &mut FramedRead<R, LengthDelimitedCodec>,
) -> Option<std::io::Result<BytesMut>> {
    // Asking with nothing read would cost a system call that mostly finds nothing.
    if reader.read_buffer().is_empty() { None } else { reader.next().now_or_never().flatten() }
}
