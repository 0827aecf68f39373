//! Two production connections, and bytes that are carried between them.

use crate::config::{
    CLIENT, OSD, client_address, connection, endpoint, monitor, server_address, with_key, without_key,
};
use crate::rig::{End, SESSION};
use bytes::Bytes;
use outlast_msgr2::connection::State;
use outlast_msgr2::{Authority, ConnectionConfig, Credential, Message, Policy, SessionConfig};

/// Both ends, `a` dials.
pub(crate) struct Pair {
    pub(crate) a: End,
    pub(crate) b: End,
    /// What somebody does to the bytes: whose they are (`true`: a's), how many came before, and they.
    pub(crate) between: Box<dyn FnMut(bool, u64, Vec<u8>) -> Vec<u8>>,
    pub(crate) passed: [u64; 2],
    /// Bytes that arrive at once.
    pub(crate) piece: usize,
}

impl Pair {
    pub(crate) fn new(
        a: ConnectionConfig,
        b: ConnectionConfig,
        credential: Credential,
        authority: Authority,
    ) -> Self {
        let policy = Policy::LOSSLESS_CLIENT;
        let dialling = endpoint("client.a", client_address(), a, policy);
        let accepting = endpoint("osd.2", server_address(), b, SESSION);
        Self {
            a: End::dialling(dialling, SessionConfig::new(policy), credential),
            b: End::accepting(accepting, authority),
            between: Box::new(|_, _, bytes| bytes),
            passed: [0; 2],
            piece: usize::MAX,
        }
    }

    /// Both ends with the same configuration but for their type, with a key or without.
    pub(crate) fn alike(keyed: bool, change: impl Fn(&mut ConnectionConfig)) -> Self {
        let [mut a, mut b] = [CLIENT, OSD].map(connection);
        change(&mut a);
        change(&mut b);
        if keyed {
            Self::new(a, b, with_key(), monitor())
        } else {
            Self::new(a, b, without_key(), Authority::None)
        }
    }

    /// Carries bytes until neither end has any more.
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            let forth = std::mem::take(&mut self.a.written);
            let back = std::mem::take(&mut self.b.written);
            if forth.is_empty() && back.is_empty() {
                return;
            }
            for (by_a, bytes) in [(true, forth), (false, back)] {
                let count = bytes.len() as u64;
                let passed = &mut self.passed[usize::from(!by_a)];
                let bytes = (self.between)(by_a, *passed, bytes);
                *passed += count;
                let to = if by_a { &mut self.b } else { &mut self.a };
                for piece in bytes.chunks(self.piece) {
                    let taken = to.feed(piece);
                    assert!(taken == piece.len() || to.error.is_some(), "reading stopped");
                }
            }
        }
        panic!("they talk without end");
    }

    pub(crate) fn send(&mut self, message: Message) -> outlast_session::MessageId {
        let now = self.a.now;
        let id = self.a.session().send(message, now).expect("room");
        self.a.drain();
        id
    }

    #[track_caller]
    pub(crate) fn is_ready(&self) {
        assert_eq!((&self.a.error, &self.b.error), (&None, &None));
        assert_eq!((self.a.connection.state(), self.b.connection.state()), (State::Ready, State::Ready));
    }
}

/// Compressible, of several lengths and with all parts.
pub(crate) fn messages() -> Vec<Message> {
    let text = |len: usize| Bytes::from((0..len).map(|i| (i / 100 % 251) as u8).collect::<Vec<_>>());
    vec![
        Message::new(1),
        Message::new(2).front(text(70)),
        Message::new(3).front(text(5)).middle(text(4096)).data(text(100_000)).tid(u64::MAX),
        Message::new(4).data(text(3 << 20)),
        Message::new(5).middle(text(1)),
    ]
}

pub(crate) fn arrives_whole(pair: &mut Pair) {
    pair.run();
    pair.is_ready();
    for message in messages() {
        pair.send(message);
        pair.run();
    }
    let got: Vec<_> = pair.b.got.iter().map(|r| r.message.clone()).collect();
    assert_eq!(got, messages());
    assert_eq!(pair.b.got.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    pair.is_ready();
}
