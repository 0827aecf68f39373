//! The steps of a probe, one after the other; each adds to the report what it learnt.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a frame that a step does not know ends the probe, whichever it is"
)]

use super::report::{
    AllowedReport, BannerReport, CompressionReport, EntityReport, LoginReport, Report, SessionReport,
    StepReport, StoppedReport, TicketReport, feature_names,
};
use super::wire::{Wire, WireError};
use crate::exit::Exit;
use crate::{clock, random};
use outlast_cephx::client::{MonitorLogin, ServiceLogin};
use outlast_cephx::{EntityName, EntityType, Key, ServiceMask, Tickets, none};
use outlast_msgr2::FEATURES_SUPPORTED;
use outlast_msgr2::connection::FEATURE_OUTLAST_CLOSE;
use outlast_msgr2::wire::{
    AddrKind, AddrVec, AuthBadMethod, AuthDone, AuthMethod, AuthRequest, AuthRequestMore, Banner,
    ClientIdent, Close, CompressionMethod, CompressionRequest, ConnectionMode, Control, EntityAddr,
    FEATURE_COMPRESSION, FEATURE_REVISION_1, Hello, IDENT_FLAG_LOSSY, Keepalive2, Stamp,
};
use outlast_net::Address;
use std::time::{Duration, Instant};

/// A method that nobody has: the answer lists those that the peer allows.
const NO_METHOD: AuthMethod = AuthMethod(0);
/// EACCES: wrong key, unknown name, or a ticket that is not taken.
const REFUSED_ERRNO: i32 = -13;
/// Ceph's daemons that take tickets, not keys.
const TAKE_TICKETS: [EntityType; 3] = [EntityType::Osd, EntityType::Mds, EntityType::Mgr];
/// Rounds of a login before it is given up.
const ROUNDS_MAX: u32 = 4;

/// What the probe logs in with.
#[derive(Debug, Clone)]
pub(super) enum Credential {
    /// No key: only what a peer tells strangers, unless it lets everybody in.
    Nothing,
    /// The key of a name, as a monitor (or an Outlast listener) takes it.
    Key(EntityName, Key),
    /// What a monitor gave, for its services.
    Tickets(EntityName, Box<Tickets>),
}

/// What is probed and how.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    /// What the peer calls itself, with its nonce, when the user knows it.
    pub(super) named: Option<EntityAddr>,
    pub(super) modes: Vec<ConnectionMode>,
    pub(super) revision_1: bool,
    pub(super) patience: Duration,
}

/// Where the dialogue ended before its end.
struct Stopped {
    exit: Exit,
    reason: String,
}

impl From<WireError> for Stopped {
    fn from(error: WireError) -> Self {
        Self { exit: Exit::Failed, reason: error.to_string() }
    }
}

fn refused(reason: impl Into<String>) -> Stopped {
    Stopped { exit: Exit::Refused, reason: reason.into() }
}

/// A login that succeeded.
struct LoggedIn {
    done: AuthDone,
    session_key: Option<Key>,
    secret: Option<outlast_cephx::ConnectionSecret>,
    tickets: Option<Tickets>,
}

/// The dialogue: the report grows, whatever happens.
pub(super) struct Dialogue<'a> {
    target: &'a Target,
    credential: &'a Credential,
    report: Report,
    tickets: Option<Tickets>,
    step: &'static str,
    started: Instant,
}

impl<'a> Dialogue<'a> {
    /// Talks to the peer until everything is known or something stops it. The tickets are those of a login with a key.
    pub(super) async fn run(
        target: &'a Target,
        credential: &'a Credential,
    ) -> (Report, Exit, Option<Tickets>) {
        let report = Report { address: target.address.to_string(), ..Report::default() };
        let mut dialogue =
            Self { target, credential, report, tickets: None, step: "connect", started: Instant::now() };
        let exit = match dialogue.talk().await {
            Ok(()) => Exit::Done,
            Err(Stopped { exit, reason }) => {
                dialogue.report.stopped = Some(StoppedReport { step: dialogue.step.to_owned(), reason });
                exit
            }
        };
        (dialogue.report, exit, dialogue.tickets)
    }

    fn begin(&mut self, step: &'static str) {
        self.step = step;
        self.started = Instant::now();
    }

    fn end(&mut self) {
        let microseconds = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.report.steps.push(StepReport { step: self.step.to_owned(), microseconds });
    }

    async fn talk(&mut self) -> Result<(), Stopped> {
        let connected = outlast_net::connect(&self.target.address, self.target.patience).await;
        let (socket, answered) =
            connected.map_err(|e| Stopped { exit: Exit::Unreachable, reason: e.to_string() })?;
        self.end();
        self.report.answered = Some(answered.to_string());
        let mut wire = Wire::new(socket, self.target.patience);

        let theirs = self.banner(&mut wire).await?;
        let peer = answered.ip().map_or(EntityAddr::BLANK, |ip| EntityAddr::msgr2(ip, 0));
        let hello = self.hello(&mut wire, peer).await?;
        let bad = self.ask_methods(&mut wire).await?;
        let Some(logged_in) = self.login(&mut wire, hello.entity_type, &bad).await? else { return Ok(()) };
        let global_id = logged_in.done.global_id;
        self.tickets = logged_in.tickets;

        self.begin("signature");
        let secret = logged_in.secret.as_ref().map(outlast_cephx::ConnectionSecret::as_bytes);
        wire.sign(&logged_in.done, logged_in.session_key.as_ref(), secret).await?;
        self.end();

        if theirs.supported & FEATURE_COMPRESSION != 0 {
            self.compression(&mut wire).await?;
        }
        self.ident(&mut wire, &hello, peer, global_id).await?;
        self.keepalive(&mut wire).await?;
        if theirs.supported & FEATURE_OUTLAST_CLOSE != 0 {
            // Nothing is to be kept for a probe.
            let _ = wire.send(Close).await;
        }
        Ok(())
    }

    async fn banner(&mut self, wire: &mut Wire) -> Result<Banner, Stopped> {
        self.begin("banner");
        let revision = if self.target.revision_1 { FEATURE_REVISION_1 } else { 0 };
        let ours = Banner { supported: revision | FEATURE_COMPRESSION | FEATURE_OUTLAST_CLOSE, required: 0 };
        let theirs = wire.banner(ours).await?;
        self.end();
        let spoken =
            if ours.supported & theirs.supported & FEATURE_REVISION_1 != 0 { "msgr2.1" } else { "msgr2.0" };
        self.report.banner = Some(BannerReport {
            protocol: spoken.to_owned(),
            supported: format!("{:#x}", theirs.supported),
            required: format!("{:#x}", theirs.required),
            features: feature_names(theirs.supported),
            requires: feature_names(theirs.required),
        });
        Ok(theirs)
    }

    async fn hello(&mut self, wire: &mut Wire, peer: EntityAddr) -> Result<Hello, Stopped> {
        self.begin("hello");
        wire.send(Hello { entity_type: EntityType::Client.number(), peer_address: peer }).await?;
        let hello = match wire.receive().await? {
            Control::Hello(hello) => hello,
            other => return Err(WireError::Unexpected(other.tag()).into()),
        };
        self.end();
        self.report.entity = Some(EntityReport {
            entity_type: type_name(hello.entity_type),
            number: None,
            addresses: Vec::new(),
        });
        self.report.our_address = Some(hello.peer_address.to_string());
        Ok(hello)
    }

    /// Offers what nobody can take; the answer lists what the peer allows.
    async fn ask_methods(&mut self, wire: &mut Wire) -> Result<AuthBadMethod, Stopped> {
        self.begin("methods");
        let modes = vec![ConnectionMode::SECURE, ConnectionMode::CRC];
        wire.send(AuthRequest { method: NO_METHOD, preferred_modes: modes, payload: bytes::Bytes::new() })
            .await?;
        let bad = match wire.receive().await? {
            Control::AuthBadMethod(bad) => bad,
            other => return Err(WireError::Unexpected(other.tag()).into()),
        };
        self.end();
        self.report.allowed = Some(AllowedReport {
            methods: bad.allowed_methods.iter().map(ToString::to_string).collect(),
            modes: bad.allowed_modes.iter().map(ToString::to_string).collect(),
        });
        Ok(bad)
    }

    /// Logs in as far as the credential goes. None: there is nothing to log in with.
    async fn login(
        &mut self,
        wire: &mut Wire,
        entity_type: u8,
        bad: &AuthBadMethod,
    ) -> Result<Option<LoggedIn>, Stopped> {
        self.begin("login");
        let credential = self.credential;
        let modes = self.target.modes.clone();
        let (name, logged_in) = match credential {
            Credential::Nothing if bad.allowed_methods.contains(&AuthMethod::NONE) => {
                let name = EntityName::new(EntityType::Client, "admin");
                let payload = if entity_type == EntityType::Mon.number() {
                    none::monitor_request(&name, 0)
                } else {
                    none::service_request(&name, 0)
                };
                let modes = vec![ConnectionMode::CRC];
                let first = AuthRequest { method: AuthMethod::NONE, preferred_modes: modes, payload };
                let answer = |_: &[u8]| Err(refused("a challenge where there is no secret"));
                let done = exchange(wire, first, answer).await?;
                (name, LoggedIn { done, session_key: None, secret: None, tickets: None })
            }
            Credential::Nothing => return Ok(None),
            Credential::Key(name, key) => {
                let want = ServiceMask::MON | ServiceMask::MDS | ServiceMask::OSD | ServiceMask::MGR;
                let mut login = MonitorLogin::new(name.clone(), key.clone(), want, None);
                let payload = login.request();
                let first = AuthRequest { method: AuthMethod::CEPHX, preferred_modes: modes, payload };
                let answer = |payload: &[u8]| {
                    login.handle_more(payload, &mut random::system()).map_err(|e| refused(e.to_string()))
                };
                let done =
                    exchange(wire, first, answer).await.map_err(|e| Self::ticket_hint(entity_type, e))?;
                let secure = done.mode == ConnectionMode::SECURE;
                let login = login
                    .handle_done(done.global_id, secure, &done.payload, clock::timestamp())
                    .map_err(|e| refused(format!("the peer could not prove that it knows our key: {e}")))?;
                let logged_in = LoggedIn {
                    done,
                    session_key: Some(login.session_key),
                    secret: login.connection_secret,
                    tickets: Some(login.tickets),
                };
                (name.clone(), logged_in)
            }
            Credential::Tickets(name, tickets) => {
                let service = EntityType::from_number(u32::from(entity_type));
                let ticket = service.and_then(|service| tickets.get(service));
                let ticket = ticket.ok_or_else(|| {
                    refused(format!("the monitor gave no ticket for {}", type_name(entity_type)))
                })?;
                let mut login = ServiceLogin::new(ticket, tickets.global_id(), &mut random::system());
                let payload = login.request();
                let first = AuthRequest { method: AuthMethod::CEPHX, preferred_modes: modes, payload };
                let answer = |payload: &[u8]| {
                    login.handle_more(payload, &mut random::system()).map_err(|e| refused(e.to_string()))
                };
                let done = exchange(wire, first, answer).await?;
                let secure = done.mode == ConnectionMode::SECURE;
                let authorized = login.handle_done(secure, &done.payload).map_err(|e| {
                    refused(format!("the peer could not prove that it can read our ticket: {e}"))
                })?;
                let logged_in = LoggedIn {
                    done,
                    session_key: Some(authorized.session_key),
                    secret: authorized.connection_secret,
                    tickets: None,
                };
                (name.clone(), logged_in)
            }
        };
        self.end();
        self.report.login = Some(login_report(&name, credential, &logged_in));
        Ok(Some(logged_in))
    }

    /// A daemon that takes tickets refuses a key.
    fn ticket_hint(entity_type: u8, stopped: Stopped) -> Stopped {
        if !TAKE_TICKETS.iter().any(|daemon| daemon.number() == entity_type) {
            return stopped;
        }
        let reason =
            format!("{}; in a Ceph cluster it takes tickets: name a monitor with --mon", stopped.reason);
        Stopped { reason, ..stopped }
    }

    async fn compression(&mut self, wire: &mut Wire) -> Result<(), Stopped> {
        self.begin("compression");
        let preferred_methods = vec![
            CompressionMethod::ZSTD,
            CompressionMethod::LZ4,
            CompressionMethod::SNAPPY,
            CompressionMethod::ZLIB,
        ];
        wire.send(CompressionRequest { wanted: true, preferred_methods }).await?;
        let done = match wire.receive().await? {
            Control::CompressionDone(done) => done,
            other => return Err(WireError::Unexpected(other.tag()).into()),
        };
        self.end();
        let method = done.granted.then(|| done.method.to_string());
        self.report.compression = Some(CompressionReport { granted: done.granted, method });
        if done.granted {
            wire.compress(done.method)?;
        }
        Ok(())
    }

    /// Introduces itself for a lossy session, of which nothing stays behind.
    async fn ident(
        &mut self,
        wire: &mut Wire,
        hello: &Hello,
        peer: EntityAddr,
        global_id: u64,
    ) -> Result<(), Stopped> {
        self.begin("ident");
        #[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
        let nonce = random::number() as u32;
        let mut sockaddr = hello.peer_address.sockaddr;
        sockaddr.set_port(0);
        let mut ours = ClientIdent {
            addresses: AddrVec(vec![EntityAddr { kind: AddrKind::ANY, nonce, sockaddr }]),
            target: self.target.named.unwrap_or(peer),
            global_id: i64::try_from(global_id).unwrap_or(-1),
            global_seq: 1,
            features_supported: FEATURES_SUPPORTED,
            features_required: 0,
            flags: IDENT_FLAG_LOSSY,
            cookie: 0,
        };
        wire.send(ours.clone()).await?;
        let daemon = TAKE_TICKETS.iter().any(|daemon| daemon.number() == hello.entity_type);
        let lost = |error: WireError| match error {
            WireError::Lost(_) if daemon && self.target.named.is_none() => Stopped {
                exit: Exit::Failed,
                reason: format!(
                    "{error}; a daemon of Ceph does so when its nonce is not named: write the address as `ceph osd dump` \
                     does, v2:{}/NONCE",
                    self.target.address
                ),
            },
            other @ (WireError::Lost(_)
            | WireError::Silent(_)
            | WireError::Broken(_)
            | WireError::Unexpected(_)) => other.into(),
        };
        let mut answer = wire.receive().await.map_err(lost)?;
        if let Control::IdentMissingFeatures(missing) = &answer {
            // They are about messages, and a probe sends none: what the peer wants to hear costs nothing.
            ours.features_supported |= missing.features;
            wire.send(ours).await?;
            answer = wire.receive().await.map_err(lost)?;
        }
        let ident = match answer {
            Control::ServerIdent(ident) => ident,
            Control::IdentMissingFeatures(missing) => {
                return Err(refused(format!(
                    "it requires features {:#x}, and was told they are here",
                    missing.features
                )));
            }
            other => return Err(WireError::Unexpected(other.tag()).into()),
        };
        self.end();
        if let Some(entity) = &mut self.report.entity {
            entity.number = Some(ident.global_id);
            entity.addresses = ident.addresses.0.iter().map(ToString::to_string).collect();
        }
        self.report.session = Some(SessionReport {
            lossy: ident.flags & IDENT_FLAG_LOSSY != 0,
            features_supported: format!("{:#x}", ident.features_supported),
            features_required: format!("{:#x}", ident.features_required),
        });
        Ok(())
    }

    async fn keepalive(&mut self, wire: &mut Wire) -> Result<(), Stopped> {
        self.begin("keepalive");
        let now = clock::since_1970();
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let stamp = Stamp { seconds, nanoseconds: now.subsec_nanos() };
        wire.send(Keepalive2 { stamp }).await?;
        loop {
            if let Control::Keepalive2Ack(ack) = wire.receive().await?
                && ack.stamp == stamp
            {
                self.end();
                return Ok(());
            }
        }
    }
}

/// AUTH_REQUEST and what follows it, up to AUTH_DONE.
async fn exchange(
    wire: &mut Wire,
    first: AuthRequest,
    mut answer: impl FnMut(&[u8]) -> Result<bytes::Bytes, Stopped>,
) -> Result<AuthDone, Stopped> {
    let (method, modes) = (first.method, first.preferred_modes.clone());
    wire.send(first).await?;
    for _ in 0..ROUNDS_MAX {
        match wire.receive().await? {
            Control::AuthReplyMore(more) => {
                let payload = answer(&more.payload)?;
                wire.send(AuthRequestMore { payload }).await?;
            }
            Control::AuthDone(done) if modes.contains(&done.mode) => return Ok(done),
            Control::AuthDone(done) => {
                return Err(refused(format!("the peer chose {} mode, which was not offered", done.mode)));
            }
            Control::AuthBadMethod(bad) if bad.result == REFUSED_ERRNO => {
                return Err(refused("the peer refuses the key or the name (EACCES)"));
            }
            Control::AuthBadMethod(bad) => {
                let allowed: Vec<_> = bad.allowed_methods.iter().map(ToString::to_string).collect();
                let modes: Vec<_> = bad.allowed_modes.iter().map(ToString::to_string).collect();
                return Err(refused(format!(
                    "the peer does not allow {method} in the modes offered (error {}): it allows {} in {}",
                    bad.result,
                    allowed.join(", "),
                    modes.join(", ")
                )));
            }
            other => return Err(WireError::Unexpected(other.tag()).into()),
        }
    }
    Err(refused("the login has no end"))
}

fn login_report(name: &EntityName, credential: &Credential, logged_in: &LoggedIn) -> LoginReport {
    let (method, key_type) = match credential {
        Credential::Nothing => (AuthMethod::NONE, None),
        Credential::Key(_, key) => (AuthMethod::CEPHX, Some(key.key_type().to_string())),
        Credential::Tickets(..) => (AuthMethod::CEPHX, None),
    };
    let tickets = logged_in.tickets.iter().flat_map(Tickets::iter).map(|ticket| TicketReport {
        service: ticket.service().to_string(),
        key_type: ticket.session_key().key_type().to_string(),
        valid_seconds: ticket.validity().as_secs(),
    });
    LoginReport {
        name: name.to_string(),
        method: method.to_string(),
        mode: logged_in.done.mode.to_string(),
        global_id: logged_in.done.global_id,
        key_type,
        session_key_type: logged_in.session_key.as_ref().map(|key| key.key_type().to_string()),
        tickets: tickets.collect(),
    }
}

fn type_name(number: u8) -> String {
    EntityType::from_number(u32::from(number))
        .map_or_else(|| format!("type {number:#x}"), |known| known.to_string())
}
