//! The owner of one connection: brings it together with the endpoint and with its session.

use crate::core::{Core, Targets};
use crate::landing::Runway;
use crate::messenger::Inner;
use crate::session::Session;
use crate::stats::Agreed;
use outlast_msgr2::endpoint::Introduced;
use outlast_msgr2::{Connection, ConnectionError, ConnectionEvent, Decision, Located, SessionRequest};
use outlast_net::{Address, DriveEnd, Exchange, HalfOpenPlace, Host, Moved, Socket, drive};
use outlast_session::Instant;
use std::sync::Arc;
use std::task::Waker;

/// What the user is told of a connection's end: the connection sees its stream end, and the socket may know why.
fn cause(end: DriveEnd<ConnectionError>) -> ConnectionError {
    match (&end.error, end.socket.as_ref().and_then(Moved::in_error)) {
        (ConnectionError::Lost { .. }, Some(Moved { from, to })) => ConnectionError::Moved { from, to },
        _ => end.error,
    }
}

/// What a connection's task has beside the connection.
pub(crate) struct Carrier {
    inner: Arc<Inner>,
    /// The session: known from the start to a connection that was dialled, and after the decision to one that came in.
    core: Option<Arc<Core>>,
    address: Address,
    /// Given back once the peer has authenticated and has a session.
    half_open: Option<HalfOpenPlace>,
    agreed: bool,
    wakes: Vec<Waker>,
}

impl Carrier {
    /// For a connection that a session has dialled.
    pub(crate) fn dialled(core: Arc<Core>, address: Address) -> Self {
        let inner = Arc::clone(&core.inner);
        Self { inner, core: Some(core), address, half_open: None, agreed: false, wakes: Vec::new() }
    }

    /// For a connection that came in.
    pub(crate) fn accepted(inner: Arc<Inner>, address: Address, half_open: HalfOpenPlace) -> Self {
        Self { inner, core: None, address, half_open: Some(half_open), agreed: false, wakes: Vec::new() }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self, socket: Socket, mut connection: Box<Connection>) {
        if let Some(core) = &self.core {
            connection.set_buffers(Box::new(Runway(Arc::clone(&core.landing))));
        }
        let clock = self.inner.clock.clone();
        let end = drive(socket, &mut *connection, &mut self, &clock).await;
        let channel = connection.id().0;
        if let Some(error) = &end.socket {
            tracing::debug!(channel, address = %self.address, %error, "the socket failed");
        }
        let Some(core) = self.core else {
            let state = connection.state();
            match connection.refusal() {
                Some(why) => {
                    tracing::warn!(channel, address = %self.address, %state, ?why, "refused a connection");
                }
                None => {
                    tracing::debug!(channel, address = %self.address, %state, reason = %end.error, "a connection ended");
                }
            }
            return;
        };
        tracing::debug!(session = core.id.0, channel, address = %self.address, reason = %end.error, "connection ended");
        core.detach(connection.id());
        core.change(|locked, now| locked.session.connection_lost(connection.id(), cause(end), now));
    }

    /// Weighs what a newcomer asks for.
    fn decide(
        &mut self,
        connection: &mut Connection,
        request: SessionRequest,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let inner = &self.inner;
        let name = request.name.clone();
        let channel = request.channel;
        let is_new = matches!(request.introduced, Introduced::Ident(_));
        let mut table = inner.table();
        let located = table.endpoint.locate(&request);
        let known = match located {
            Located::Known(id) => table.sessions.get(&id).cloned(),
            Located::Unknown => None,
        };
        debug_assert!(located == Located::Unknown || known.is_some(), "closed means absent");
        let (decision, fresh) = match &known {
            // Who only comes back takes nobody's place.
            None if is_new && !inner.may_accept() => {
                (Decision::Refuse(ConnectionError::TooManySessions), None)
            }
            None => table.endpoint.decide(request, None, now),
            Some(core) => {
                let mut wakes = Vec::new();
                let decided = {
                    let mut locked = core.lock();
                    let decided = table.endpoint.decide(request, Some(&mut locked.session), now);
                    core.settle(&mut locked, now, &mut wakes);
                    // Whoever carried the session until now finds out.
                    wakes.extend(locked.line.ring());
                    decided
                };
                crate::wait::wake(&mut wakes);
                core.keeper.notify_one();
                decided
            }
        };
        if let Some(session) = fresh {
            let core = table.new_core(inner, session, Targets::default(), inner.own_credential(), now);
            {
                let mut locked = core.lock();
                locked.claimed = connection.authenticated().map(|a| a.client.clone());
                // Whoever accepts the session may look at it before this connection has answered.
                locked.address = Some(self.address.clone());
                locked.agreed = Agreed::of(connection);
            }
            tokio::spawn(crate::keeper::keep(Arc::clone(&core)));
            inner.offer(Session::new(core));
        }
        if let Decision::Accept { session, .. } = &decision {
            self.core = table.sessions.get(session).cloned();
        }
        drop(table);
        match &decision {
            Decision::Accept { session, .. } => {
                tracing::debug!(session = session.0, channel = channel.0, address = %self.address, "a newcomer was accepted");
            }
            Decision::Reply(control) => {
                let answer = control.tag();
                tracing::debug!(channel = channel.0, address = %self.address, %answer, "a newcomer was answered");
            }
            Decision::Closed { .. } => {
                tracing::debug!(channel = channel.0, address = %self.address, "a newcomer came back for a session that was closed");
            }
            Decision::Refuse(reason) => {
                let peer = name.as_ref().map(tracing::field::display);
                tracing::warn!(channel = channel.0, address = %self.address, peer, %reason, "a newcomer was refused");
            }
        }
        if let Some(core) = &self.core {
            connection.set_buffers(Box::new(Runway(Arc::clone(&core.landing))));
            self.half_open = None;
        }
        connection.handle_decision(decision, now)
    }

    /// The session is on this connection now: what was agreed can be shown.
    fn note_agreed(&mut self, connection: &Connection) {
        let Some(core) = &self.core else { return };
        let mut locked = core.lock();
        if self.agreed || !locked.session.is_ready_on(connection.id()) {
            return;
        }
        self.agreed = true;
        locked.agreed = Agreed::of(connection);
        locked.address = Some(self.address.clone());
        if let Some(tickets) = connection.authenticated().and_then(|a| a.tickets.clone()) {
            locked.credential =
                locked.credential.as_ref().map(|c| crate::auth::renewed(c, Some(tickets), &self.inner.clock));
        }
    }
}

impl Host<Connection> for Carrier {
    fn exchange(
        &mut self,
        connection: &mut Connection,
        now: Instant,
        waker: &Waker,
    ) -> Result<Exchange, ConnectionError> {
        while let Some(event) = connection.poll_event() {
            match event {
                ConnectionEvent::LearnedAddress(address) => {
                    self.inner.table().endpoint.learn_address(address)
                }
                ConnectionEvent::RaiseGlobalSeq(seq) => self.inner.table().endpoint.raise_global_seq(seq),
                _ => {}
            }
        }
        while let Some(request) = connection.poll_request() {
            self.decide(connection, request, now)?;
        }
        let Some(core) = &self.core else { return Ok(Exchange::Done) };
        let exchange = core.exchange(connection, now, waker, &mut self.wakes)?;
        if !self.agreed {
            self.note_agreed(connection);
        }
        Ok(exchange)
    }

    fn finished(&mut self, connection: &mut Connection) -> Option<ConnectionError> {
        let end = connection.poll_end().cloned();
        if let (Some(core), Some(_)) = (&self.core, &end) {
            core.detach(connection.id());
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlast_msgr2::Fault;
    use outlast_msgr2::connection::State;
    use std::io;

    #[test]
    fn a_machine_that_has_moved_is_told_apart_from_a_connection_that_was_lost() {
        let lost = ConnectionError::Lost { state: State::Ready };
        let end = |socket| DriveEnd { error: lost.clone(), socket };
        assert_eq!(cause(end(None)), lost);
        assert_eq!(cause(end(Some(io::ErrorKind::ConnectionReset.into()))), lost);

        let (from, to) = ([192, 0, 2, 1].into(), [198, 51, 100, 7].into());
        let moved = io::Error::new(io::ErrorKind::AddrNotAvailable, Moved { from, to });
        let told = cause(end(Some(moved)));
        assert_eq!(told, ConnectionError::Moved { from, to });
        assert_eq!(told.to_string(), "this machine has moved from 192.0.2.1 to 198.51.100.7");
        assert_eq!((told.fault(), told.is_refusal()), (Fault::Environment, false));

        // What the connection found out by itself stands.
        let moved = io::Error::new(io::ErrorKind::AddrNotAvailable, Moved { from, to });
        let silent = DriveEnd { error: ConnectionError::Silent, socket: Some(moved) };
        assert_eq!(cause(silent), ConnectionError::Silent);
    }
}
