//! What the two ends of a session promise each other: Ceph's policies (`src/msg/Policy.h`), by their names there.
//!
//! | policy | loses messages | dials | waits idle | a changed cookie | is found again |
//! | --- | --- | --- | --- | --- | --- |
//! | [`Policy::STATEFUL_SERVER`] | no | never | yes | resets in full | yes |
//! | [`Policy::STATELESS_SERVER`] | yes | never | no | is a new session | no |
//! | [`Policy::STATELESS_REGISTERED_SERVER`] | yes | never | no | is a new session | yes |
//! | [`Policy::LOSSLESS_PEER`] | no | yes | yes | keeps what is queued | yes |
//! | [`Policy::LOSSLESS_PEER_REUSE`] | no | yes | yes | resets in full | yes |
//! | [`Policy::LOSSY_CLIENT`] | yes | until connected | no | is a new session | yes |
//! | [`Policy::LOSSLESS_CLIENT`] | no | yes | no | resets in full | yes |

/// The behaviour of one end of a session. Make it from the named constants; the fields say what each one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Nothing is numbered for replay: a fault after the session was established ends it.
    pub lossy: bool,
    /// This end never dials; after a fault it waits for the peer, even with messages queued.
    pub server: bool,
    /// With nothing to send, a lost connection is not replaced until there is something.
    pub standby: bool,
    /// A peer that comes back with another cookie has lost its state: everything queued here is lost with the
    /// session, and the application is told. Without it, what is unacknowledged goes to the new session.
    pub resetcheck: bool,
    /// The session of a lossy peer is found again by a newcomer, which then replaces it.
    pub register_lossy: bool,
}

impl Policy {
    /// Serves lossless clients: Ceph's MDS towards its clients.
    pub const STATEFUL_SERVER: Self =
        Self { lossy: false, server: true, standby: true, resetcheck: true, register_lossy: true };
    /// Serves lossy clients that may share an address: each connection stands alone.
    pub const STATELESS_SERVER: Self =
        Self { lossy: true, server: true, standby: false, resetcheck: false, register_lossy: false };
    /// Serves lossy clients, one session for each address: Ceph's monitors and OSDs towards clients.
    pub const STATELESS_REGISTERED_SERVER: Self =
        Self { lossy: true, server: true, standby: false, resetcheck: false, register_lossy: true };
    /// Two equals; either may dial: Ceph's OSDs among themselves.
    pub const LOSSLESS_PEER: Self =
        Self { lossy: false, server: false, standby: true, resetcheck: false, register_lossy: true };
    /// Two equals that may come back under the same address having forgotten everything: Ceph's monitors.
    pub const LOSSLESS_PEER_REUSE: Self =
        Self { lossy: false, server: false, standby: true, resetcheck: true, register_lossy: true };
    /// Dials; requests are repeated by the caller: Ceph's clients towards monitors and OSDs.
    pub const LOSSY_CLIENT: Self =
        Self { lossy: true, server: false, standby: false, resetcheck: false, register_lossy: true };
    /// Dials, and dials again: Ceph's clients towards the MDS, and our own clients.
    pub const LOSSLESS_CLIENT: Self =
        Self { lossy: false, server: false, standby: false, resetcheck: true, register_lossy: true };

    /// The two ends are equals: either may dial, and connections may cross.
    #[must_use]
    pub const fn is_peer(&self) -> bool {
        !self.server && self.standby && !self.lossy
    }

    /// A newcomer looks for an existing session of its peer before it makes one.
    #[must_use]
    pub const fn registers(&self) -> bool {
        !(self.lossy && self.server && !self.register_lossy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stateless_server_is_never_found_again() {
        let all = [
            Policy::STATEFUL_SERVER,
            Policy::STATELESS_SERVER,
            Policy::STATELESS_REGISTERED_SERVER,
            Policy::LOSSLESS_PEER,
            Policy::LOSSLESS_PEER_REUSE,
            Policy::LOSSY_CLIENT,
            Policy::LOSSLESS_CLIENT,
        ];
        let unregistered: Vec<_> = all.iter().filter(|p| !p.registers()).collect();
        assert_eq!(unregistered, [&Policy::STATELESS_SERVER]);
    }

    #[test]
    fn only_the_two_peer_policies_can_cross() {
        assert!(Policy::LOSSLESS_PEER.is_peer() && Policy::LOSSLESS_PEER_REUSE.is_peer());
        assert!(!Policy::LOSSLESS_CLIENT.is_peer() && !Policy::STATEFUL_SERVER.is_peer());
    }
}
