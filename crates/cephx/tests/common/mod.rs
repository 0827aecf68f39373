//! A small cluster without a network: one monitor's database, its secrets, and the exchanges with it.

#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use outlast_cephx::client::{Login, LoginError, MonitorLogin, ServiceLogin};
use outlast_cephx::keyring::Entry;
use outlast_cephx::server::{
    Accepted, Authority, MonitorAcceptor, Refusal, ServiceAcceptor, ServiceSecrets, Step, TicketSecrets,
};
use outlast_cephx::{EntityName, EntityType, Key, KeyType, Keyring, ServiceMask, Ticket, Tickets, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub(crate) const NOW: Timestamp = Timestamp::new(1_800_000_000, 5);
/// The number of the first client that gets one.
pub(crate) const FIRST_GLOBAL_ID: u64 = 4100;
/// Type of the client's key, type of the services' secrets.
pub(crate) const COMBINATIONS: [(KeyType, KeyType); 4] = [
    (KeyType::Aes, KeyType::Aes),
    (KeyType::Aes, KeyType::Aes256k),
    (KeyType::Aes256k, KeyType::Aes),
    (KeyType::Aes256k, KeyType::Aes256k),
];

pub(crate) struct Cluster {
    pub(crate) rng: StdRng,
    pub(crate) now: Timestamp,
    pub(crate) keyring: Keyring,
    pub(crate) secrets: TicketSecrets,
    pub(crate) next_global_id: u64,
}

pub(crate) fn copy_name() -> EntityName {
    "client.copy".parse().unwrap()
}

impl Cluster {
    pub(crate) fn new(key_type: KeyType, cipher: KeyType) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let mut keyring = Keyring::new();
        for name in ["client.copy", "client.other"] {
            let entry =
                Entry::new(Key::generate(key_type, NOW, &mut rng)).with_caps("osd", "allow rwx pool=a");
            keyring.insert(name.parse().unwrap(), entry);
        }
        let services = ServiceMask::MON | ServiceMask::OSD | ServiceMask::MGR;
        let secrets = TicketSecrets::generate(cipher, services, NOW, &mut rng);
        Cluster { rng, now: NOW, keyring, secrets, next_global_id: FIRST_GLOBAL_ID }
    }

    pub(crate) fn key(&self, name: &EntityName) -> Key {
        self.keyring.get(name).unwrap().key().unwrap().clone()
    }

    pub(crate) fn login(&self, previous: Option<Tickets>) -> MonitorLogin {
        let want = ServiceMask::OSD | ServiceMask::MON;
        MonitorLogin::new(copy_name(), self.key(&copy_name()), want, previous)
    }

    pub(crate) fn challenge(&mut self, acceptor: &mut MonitorAcceptor, request: &[u8]) -> Bytes {
        more(acceptor.handle_request(request, &mut self.rng))
    }

    pub(crate) fn answer(&mut self, acceptor: &mut MonitorAcceptor, answer: &[u8], secure: bool) -> Step {
        let authority = Authority { keys: &self.keyring, secrets: &self.secrets, now: self.now };
        let next = &mut self.next_global_id;
        let mut allocate = || {
            *next += 1;
            *next - 1
        };
        acceptor.handle_more(answer, secure, &authority, &mut allocate, &mut self.rng)
    }

    /// The whole exchange with a monitor, up to its last message.
    pub(crate) fn accept(
        &mut self,
        login: &mut MonitorLogin,
        secure: bool,
    ) -> Result<Box<Accepted>, Refusal> {
        let mut acceptor = MonitorAcceptor::new();
        let request = login.request();
        let challenge = self.challenge(&mut acceptor, &request);
        let answer = login.handle_more(&challenge, &mut self.rng).unwrap();
        finish(self.answer(&mut acceptor, &answer, secure))
    }

    /// The whole exchange with a monitor.
    pub(crate) fn run(
        &mut self,
        login: &mut MonitorLogin,
        secure: bool,
    ) -> (Box<Accepted>, Result<Login, LoginError>) {
        let accepted = self.accept(login, secure).unwrap();
        let login = login.handle_done(accepted.global_id, secure, &accepted.payload, self.now);
        (accepted, login)
    }

    pub(crate) fn tickets(&mut self) -> Tickets {
        let mut login = self.login(None);
        self.run(&mut login, true).1.unwrap().tickets
    }

    pub(crate) fn osd_secrets(&self) -> &ServiceSecrets {
        self.secrets.get(EntityType::Osd).unwrap()
    }

    /// The exchange with a service, up to the client's second authorizer.
    pub(crate) fn authorizer(
        &mut self,
        ticket: &Ticket,
        global_id: u64,
    ) -> Result<(ServiceLogin, ServiceAcceptor, Bytes), Refusal> {
        let mut login = ServiceLogin::new(ticket, global_id, &mut self.rng);
        let mut acceptor = ServiceAcceptor::new(EntityType::Osd);
        let secrets = self.osd_secrets().clone();
        match acceptor.handle_request(&login.request(), &secrets, self.now, &mut self.rng) {
            Step::More(challenge) => {
                let answer = login.handle_more(&challenge, &mut self.rng).unwrap();
                Ok((login, acceptor, answer))
            }
            step @ (Step::Done(_) | Step::Refused(_)) => finish(step).map(|_| panic!("no challenge")),
        }
    }

    pub(crate) fn authorize(&mut self, acceptor: &mut ServiceAcceptor, answer: &[u8], secure: bool) -> Step {
        let secrets = self.osd_secrets().clone();
        acceptor.handle_more(answer, secure, &secrets, self.now, &mut self.rng)
    }
}

pub(crate) fn more(step: Step) -> Bytes {
    match step {
        Step::More(payload) => payload,
        Step::Done(_) | Step::Refused(_) => panic!("{step:?}"),
    }
}

pub(crate) fn finish(step: Step) -> Result<Box<Accepted>, Refusal> {
    match step {
        Step::More(_) => panic!("{step:?}"),
        Step::Done(accepted) => Ok(accepted),
        Step::Refused(refusal) => Err(refusal),
    }
}
