//! The owner of one connection: brings it together with its session.

use std::sync::Arc;
use std::task::Waker;

use outlast_dlm::{ChannelId, Connection, ConnectionError, State};
use outlast_net::{Exchange, Host, Socket, drive};
use outlast_session::{Instant, StreamChannel};

use super::config::SILENCE_MAX;
use super::core::Shared;
use outlast_dlm::wire::NodeId;

/// Runs a connection to or from `peer` until it ends.
pub(crate) fn start(shared: &Arc<Shared>, socket: Socket, peer: NodeId, dialled: bool) {
    // Without these the connection works, until something goes wrong.
    if let Err(error) = socket.reset_on_drop().and_then(|()| socket.give_up_after(SILENCE_MAX)) {
        tracing::debug!(peer = peer.0, %error, "the connection is gone already");
    }
    let mut locked = shared.lock();
    locked.next_channel += 1;
    let channel = ChannelId(locked.next_channel);
    let now = locked.now;
    let Some(entry) = locked.peers.get_mut(&peer) else { return };
    entry.session.attach(channel, dialled, now);
    // One that had to make room finds out now, and not when its peer says something on it.
    let session = &entry.session;
    let mut superseded = Vec::new();
    entry.wakers.retain(|other, waker| {
        let carries = session.carries(*other).is_ok();
        if !carries {
            superseded.push(waker.clone());
        }
        carries
    });
    locked.wakes.append(&mut superseded);
    let connection = Connection::new(channel, peer);
    drop(locked);
    tokio::spawn(run(Arc::clone(shared), socket, connection));
}

async fn run(shared: Arc<Shared>, socket: Socket, mut connection: Connection) {
    let (peer, channel) = (connection.peer(), connection.channel());
    let mut carrier = Carrier { shared: Arc::clone(&shared) };
    let clock = shared.clock.clone();
    let end = drive(socket, &mut connection, &mut carrier, &clock).await;
    let error = end.socket.as_ref().map(tracing::field::display);
    tracing::info!(peer = peer.0, channel = channel.0, reason = %end.error, error, "a connection ended");
    let mut locked = shared.lock();
    let now = locked.now;
    let core = &mut *locked;
    if let Some(entry) = core.peers.get_mut(&peer) {
        entry.wakers.remove(&channel);
        entry.session.detach(channel, now, &mut core.rng);
    }
    locked.pump();
}

struct Carrier {
    shared: Arc<Shared>,
}

impl Host<Connection> for Carrier {
    fn exchange(
        &mut self,
        connection: &mut Connection,
        now: Instant,
        waker: &Waker,
    ) -> Result<Exchange, ConnectionError> {
        let (peer, channel) = (connection.peer(), connection.channel());
        let ended = || ConnectionError::Ended { peer };
        let mut locked = self.shared.lock();
        let entry = locked.peers.get_mut(&peer).ok_or_else(ended)?;
        // The pump below rings only those whose waker is here: not this loop, which is awake.
        entry.wakers.remove(&channel);
        let synced = connection.sync(&mut entry.session, now);
        let faults = locked.pump();
        synced?;
        if let Some((_, fault)) = faults.into_iter().find(|(from, _)| *from == peer) {
            return Err(ConnectionError::Content { peer, reason: fault.to_string() });
        }
        let entry = locked.peers.get_mut(&peer).ok_or_else(ended)?;
        connection.sync(&mut entry.session, now)?;
        entry.wakers.insert(channel, waker.clone());
        let more = entry.session.sender() == Some(channel) && entry.session.has_work(now);
        Ok(if more { Exchange::More } else { Exchange::Done })
    }

    fn finished(&mut self, connection: &mut Connection) -> Option<ConnectionError> {
        let peer = connection.peer();
        let locked = self.shared.look();
        let over = locked.closing
            && connection.is_flushed()
            && locked.peers.get(&peer).is_none_or(|entry| entry.session.state() == State::Closed);
        over.then_some(ConnectionError::Ended { peer })
    }
}
