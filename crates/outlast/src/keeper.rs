//! The task of one session: dials when the session wants to, keeps its time, and buries it.

use crate::auth::renewed;
use crate::carrier::Carrier;
use crate::core::Core;
use crate::error::unreachable;
use outlast_msgr2::wire::{AddrKind, EntityAddr};
use outlast_msgr2::{ConnectionError, Credential, SessionState};
use outlast_net::{Address, Socket, connect};
use outlast_session::Instant;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How often the session's other deadlines are looked at while a connection is being opened.
const DIAL_CHECK: Duration = Duration::from_millis(250);

/// What the session wants next.
enum Wish {
    /// A connection to this address; to none that we know of, if the peer gave itself none that can be dialled.
    Dial(Option<Address>),
    /// To be asked again at this time, or when something has changed.
    Wait(Option<Instant>),
    /// Nothing more.
    Rest,
}

/// Runs until the session ends.
pub(crate) async fn keep(core: Arc<Core>) {
    let clock = core.inner.clock.clone();
    loop {
        match wish(&core) {
            Wish::Dial(Some(address)) => dial(&core, address).await,
            Wish::Dial(None) => {
                let reason = "the peer has no address that can be dialled".to_owned();
                begin(&core, None, Address::Unix("".into()), Some(ConnectionError::Unreachable { reason }));
            }
            Wish::Wait(None) => core.keeper.notified().await,
            Wish::Wait(Some(until)) => {
                tokio::select! {
                    () = core.keeper.notified() => {}
                    () = clock.sleep_until(until) => {}
                }
            }
            Wish::Rest => break,
        }
    }
    core.inner.bury(&core);
}

fn wish(core: &Core) -> Wish {
    let now = core.inner.clock.now();
    let mut wakes = Vec::new();
    let mut guard = core.lock();
    let locked = &mut *guard;
    if locked.session.poll_timeout().is_some_and(|at| at <= now) {
        locked.session.handle_timeout(now);
        core.settle(locked, now, &mut wakes);
    }
    if locked.session.end().is_some() {
        // The connection, if there is one, says goodbye.
        wakes.extend(locked.line.ring());
        drop(guard);
        crate::wait::wake(&mut wakes);
        return Wish::Rest;
    }
    let wish = match locked.session.poll_dial(now) {
        Some(target) => {
            locked.dial_nonce = target.socket_addr().map_or(0, |_| target.nonce);
            Wish::Dial(core.address_of(&target))
        }
        None => Wish::Wait(locked.session.poll_timeout()),
    };
    drop(guard);
    crate::wait::wake(&mut wakes);
    wish
}

/// Opens a connection and hands it to a task of its own; gives up as soon as the session wants none any more.
async fn dial(core: &Arc<Core>, address: Address) {
    let within = core.inner.handshake_timeout;
    tracing::debug!(session = core.id.0, %address, "dialling");
    let mut opening = pin!(connect(&address, within));
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            () = core.keeper.notified() => {}
            () = tokio::time::sleep(DIAL_CHECK) => {
                core.change_quietly(|locked, now| locked.session.handle_timeout(now));
            }
        }
        if !matches!(core.lock().session.state(), SessionState::Pausing { .. }) {
            return;
        }
    };
    match opened {
        Ok((socket, address)) => begin(core, Some(socket), address, None),
        Err(error) => begin(core, None, address.clone(), Some(unreachable(&error))),
    }
}

/// The session gets its connection, if it still wants one; and loses it at once if it could not be opened, or if this
/// end, called by a peer, has no key to call back with.
fn begin(core: &Arc<Core>, socket: Option<Socket>, address: Address, failure: Option<ConnectionError>) {
    let now = core.inner.clock.now();
    let mut table = core.inner.table();
    let mut locked = core.lock();
    if !matches!(locked.session.state(), SessionState::Pausing { .. }) {
        return;
    }
    let clock = &core.inner.clock;
    let own = locked.credential.as_ref().map(|c| renewed(c, None, clock));
    let failure = if own.is_none() { Some(ConnectionError::NoCommonMethod) } else { failure };
    let credential = own.unwrap_or(Credential::None { name: core.inner.name.clone(), global_id: 0 });
    locked.dialled = Some(address.clone());
    let nonce = locked.dial_nonce;
    let dialled = address.ip().map_or(EntityAddr::BLANK, |ip| EntityAddr::msgr2(ip, nonce));
    let target = core.targets.known_as.unwrap_or(dialled);
    let connection = table.endpoint.dial(&mut locked.session, target, credential, now);
    drop(locked);
    drop(table);
    match (socket, failure) {
        (Some(socket), None) => {
            tracing::debug!(session = core.id.0, channel = connection.id().0, %address, "dialled");
            let carrier = Carrier::dialled(Arc::clone(core), address);
            tokio::spawn(carrier.run(socket, Box::new(connection)));
        }
        (_, failure) => {
            let cause = failure.unwrap_or(ConnectionError::Unreachable { reason: String::new() });
            core.change(|locked, now| locked.session.connection_lost(connection.id(), cause, now));
        }
    }
}

/// How an address stands in a session's target: as itself, or, where msgr2 has no form for it, as a blank with its
/// place in the list for a nonce.
pub(crate) fn target_of(index: usize, address: &Address) -> EntityAddr {
    match address.ip() {
        Some(ip) => EntityAddr::msgr2(ip, 0),
        None => EntityAddr {
            kind: AddrKind::NONE,
            nonce: u32::try_from(index + 1).unwrap_or(0),
            ..EntityAddr::BLANK
        },
    }
}

impl Core {
    /// The address behind an entry of the target. A peer that came in is dialled where it says that it listens.
    fn address_of(&self, target: &EntityAddr) -> Option<Address> {
        let own = self
            .targets
            .addresses
            .iter()
            .enumerate()
            .find(|(index, address)| target_of(*index, address) == *target);
        own.map(|(_, address)| address.clone()).or_else(|| target.socket_addr().map(Address::Ip))
    }
}
